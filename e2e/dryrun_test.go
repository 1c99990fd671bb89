package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestDryRun sends everything that a dry run would refuse, without a table too.
func TestDryRun(t *testing.T) {
	const ns = namespace("dry")
	shared.apply(t, "dry", ns.api("api"), ns.plan("plan", "rateLimit: {limit: 1, period: 1h}"),
		ns.app("app", "dry-key"), ns.app("stranger", "dry-stranger"), ns.sub("sub", "plan", list("app"), list("api")))
	proxy := ownSync(t, shared.plane.URL)
	config := byHeader(shared.config("dry/api"))
	config.Sync.Endpoint = proxy.URL
	config.DryRun = true
	shared.serve(t, "dry.test", config, http.StatusOK)

	// reasonOf sends a request and returns why it would have been refused.
	reasonOf := func(header ...string) string {
		a := shared.send(t, "dry.test", "GET /", header...)
		admitted(t, a)
		for _, name := range list("RateLimit", "X-Ratelimit-Remaining", "Retry-After", "WWW-Authenticate") {
			if a.header.Get(name) != "" {
				t.Errorf("the client is told %s: %s", name, a.header.Get(name))
			}
		}
		if len(header) > 0 && !strings.HasSuffix(header[0], a.echo.Header.Get("X-Api-Key")) {
			t.Errorf("the upstream did not get the key")
		}
		return a.echo.Header.Get("X-App-Id") + " " + a.echo.Header.Get("X-Tollgate-Dry-Run")
	}
	if got := reasonOf(apiKeyHeader + "dry-key"); got != " table_unavailable" {
		t.Errorf("without a table the upstream is told %q", got)
	}
	up(t, proxy)
	shared.await(t, "the table", func() error {
		if got := reasonOf(); got != " key_missing" {
			return fmt.Errorf("without a key the upstream is told %q", got)
		}
		return nil
	})
	lines := shared.traefik.Log.Len()
	for _, test := range []struct{ header, want string }{
		{"dry-key", "app "},
		{"dry-key", "app rate_limited"},
		{"dry-key", "app rate_limited"},
		{"dry-stranger", " subscription_missing"},
		{"nobody", " key_invalid"},
	} {
		if got := reasonOf(apiKeyHeader + test.header); got != test.want {
			t.Errorf("with %s the upstream is told %q, want %q", test.header, got, test.want)
		}
	}
	shared.awaitLine(t, lines, `"level":"error"`, "dry run: requests to dry/api that would be refused: rate_limited, application", "app")
	shared.awaitLine(t, lines, `"level":"error"`, "dry run: requests to dry/api that would be refused: key_invalid")
	n := 0
	for _, line := range shared.traefik.Log.Since(lines) {
		if strings.Contains(line, "would be refused: rate_limited") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d lines for two requests in a row, want 1", n)
	}
}
