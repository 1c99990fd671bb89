package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// withoutHostSHA3 makes the plugin find no SHA-3 in its host, as in a Traefik
// that was built with Go 1.23.
var withoutHostSHA3 = stack.Patch{"hashing/hashing.go": func(source string) (string, error) {
	const asks = "hostAgrees = crypto.SHA3_256.Available()"
	before, after, found := strings.Cut(source, asks)
	if !found {
		return "", errors.New("found nothing that asks for the host's SHA-3")
	}
	return before + "hostAgrees = false" + after, nil
}}

// TestFallback does the main things with keys that are hashed by interpreted
// code.
func TestFallback(t *testing.T) {
	g := newGateway(t, stack.TraefikOptions{Patch: withoutHostSHA3})
	checkAnswers(t, g, "fallback")

	t.Run("a revoked key is refused although its digest is remembered", func(t *testing.T) {
		const ns = namespace("revoked")
		key := apiKeyHeader + "revoked-key"
		g.apply(t, "revoked", syncManifests(ns)...)
		g.protect(t, "revoked.test", byHeader(g.config("revoked/api")))
		admitted(t, g.send(t, "revoked.test", "GET /", key))
		g.apply(t, "revoked", ns.api("api"), ns.unlimited("plan"), ns.app("app", "another-key"))
		refused(t, g.send(t, "revoked.test", "GET /", key), 401, "key_invalid")
	})
	t.Run("keys of all lengths", func(t *testing.T) {
		const ns = namespace("lengths")
		var apps []string
		manifests := list(ns.api("api"), ns.unlimited("plan"))
		lengths := []int{1, 134, 135, 136, 137, 271, 272, 273, 512}
		for _, n := range lengths {
			name := fmt.Sprintf("app-%d", n)
			apps = append(apps, name)
			manifests = append(manifests, ns.app(name, strings.Repeat("k", n)))
		}
		g.apply(t, "lengths", append(manifests, ns.sub("sub", "plan", apps, list("api")))...)
		g.protect(t, "lengths.test", byHeader(g.config("lengths/api")))
		for _, n := range lengths {
			if err := wantStatus(g.send(t, "lengths.test", "GET /", apiKeyHeader+strings.Repeat("k", n)), 200); err != nil {
				t.Errorf("a key of %d bytes: %v", n, err)
			}
		}
	})
	t.Run("cost", func(t *testing.T) {
		shared.protect(t, "cost.test", byHeader(shared.config("cost/api")))
		g.protect(t, "cost.test", byHeader(g.config("cost/api")))
		compiled, interpreted := shared.costOfUnknownKeys(t), g.costOfUnknownKeys(t)
		t.Logf("a request with a key never seen takes %s with the host's SHA-3, %s without", compiled, interpreted)
	})
}

// costOfUnknownKeys returns the time that one refused request takes, each with
// another key.
func (g *gateway) costOfUnknownKeys(t *testing.T) time.Duration {
	t.Helper()
	const requests = 300
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	begin := time.Now()
	for i := range requests {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, g.traefik.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "cost.test"
		req.Header.Set("X-Api-Key", fmt.Sprintf("unknown-%d", i))
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		refused(t, readAnswer(t, resp), 401, "key_invalid")
	}
	return (time.Since(begin) / requests).Round(time.Microsecond)
}
