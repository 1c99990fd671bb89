package finding_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/finding"
)

func TestMasked(t *testing.T) {
	const key = "tg_0123456789abcdefghijABCDEFGHIJ0123456"
	digest := strings.Repeat("0a", 64)
	for _, secret := range []string{key, digest, "x." + key, digest + "-x", "a\n" + key} {
		f := finding.Finding{
			Object: finding.Object{Kind: secret, Namespace: secret, Name: secret},
			Field:  secret, Problem: "names " + secret, Allowed: secret, Fix: secret,
		}
		sorted := finding.Sort([]finding.Finding{f})
		written, err := json.Marshal(sorted)
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{sorted[0].String(), string(written), fmt.Sprint(f.Object)} {
			if strings.Contains(shown, key) || strings.Contains(shown, digest) || strings.Contains(shown, "\n") {
				t.Errorf("shows %s", shown)
			}
		}
		if sorted[0].Object != f.Object {
			t.Errorf("the object became %+v, and cannot be looked up", sorted[0].Object)
		}
	}
	if got := finding.Mask("abcdef-0123456789abcdef tg_short"); got != "abcdef-0123456789abcdef tg_short" {
		t.Errorf("masks a name: %s", got)
	}
}
