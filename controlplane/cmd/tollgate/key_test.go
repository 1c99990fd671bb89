package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/key"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// TestKeyNew checks that the manifests printed make the key printed known.
func TestKeyNew(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		app  string
		want table.Application
		held table.Holder
	}{
		{
			"defaults", nil, "default/my-application",
			table.Application{AppID: "my-application", Owner: "nobody"},
			table.Holder{Application: "default/my-application", Title: "my-application-key"},
		},
		{
			"everything", []string{"--name", "mobile", "--namespace", "apps", "--title", `Say "hi" # é \ 😀`, "--app-id", "123", "--owner", "yes: no"}, "apps/mobile",
			table.Application{AppID: "123", Owner: "yes: no"},
			table.Holder{Application: "apps/mobile", Title: `Say "hi" # é \ 😀`},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			out := runCommand(t, "", append([]string{"key", "new"}, test.args...)...)
			loaded := manifest.Parse("f.yaml", []byte(out))
			result := compile.Compile(loaded.Objects)
			// The key itself does not belong among manifests; the rest is fine.
			if found := append(loaded.Findings, result.Findings...); len(found) != 1 || found[0].Rule != finding.PlaintextKey || found[0].Line != 2 {
				t.Fatalf("got %v, want one finding about the key on line 2", found)
			}
			_, fresh, _ := strings.Cut(out, "\nkey: ")
			fresh, _, _ = strings.Cut(fresh, "\n")
			if !strings.HasPrefix(fresh, key.Prefix) || key.Mistyped(fresh) || strings.Count(out, fresh) != 1 {
				t.Fatalf("prints no key, or a bad one, or several times")
			}
			digest := strings.TrimSpace(runCommand(t, fresh+"\n", "key", "hash"))
			if !strings.Contains(out, "\ndigest: "+digest+"\n") {
				t.Errorf("does not print the digest")
			}
			if diff := cmp.Diff(map[string]table.Application{test.app: test.want}, result.Table.Applications); diff != "" {
				t.Errorf("applications (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(map[string][]table.Holder{digest: {test.held}}, result.Table.Keys); diff != "" {
				t.Errorf("keys (-want +got):\n%s", diff)
			}
		})
	}
}

func runCommand(t *testing.T, stdin string, args ...string) string {
	t.Helper()
	var out bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	if err := cmd.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestReadKey(t *testing.T) {
	long := strings.Repeat("k", 512)
	for _, test := range []struct {
		name, in, want string
		ok             bool
	}{
		{"without a line break", "secret", "secret", true},
		{"one line break", "secret\n", "secret", true},
		{"of Windows", "secret\r\n", "secret", true},
		{"two line breaks", "secret\n\n", "secret\n", true},
		{"spaces are part of it", " secret ", " secret ", true},
		{"the longest", long + "\r\n", long, true},
		{"too long", long + "k", "", false},
		{"far too long", strings.Repeat(long, 100), "", false},
		{"empty", "", "", false},
		{"only a line break", "\n", "", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := readKey(strings.NewReader(test.in))
			if got != test.want || (err == nil) != test.ok {
				t.Errorf("got %q, %v, want %q, ok %v", got, err, test.want, test.ok)
			}
		})
	}
}
