package e2e

import (
	"encoding/json"
	"errors"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

var explainSeed = flag.Uint64("explain.seed", 20261121, "seed of the requests that are explained")

// explanation is what is compared of an explanation.
type explanation struct {
	Answer struct {
		Admitted     bool   `json:"admitted"`
		Status       int    `json:"status"`
		Reason       string `json:"reason"`
		Subscription string `json:"subscription"`
	} `json:"answer"`
}

// explained runs "tollgate explain" for a request with a key.
func explained(t *testing.T, key, method, target string, args ...string) explanation {
	t.Helper()
	args = append([]string{"explain", "--api", "explained/api", "--format", "json", "--key-stdin"}, args...)
	cmd := exec.CommandContext(t.Context(), tollgateBinary, append(args, method, target)...)
	cmd.Stdin = strings.NewReader(key)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		t.Fatalf("explaining %s %s: %v", method, target, err)
	}
	var e explanation
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatal(err)
	}
	if admitted := err == nil; e.Answer.Admitted != admitted {
		t.Errorf("%s %s: ended with %v, but says admitted: %t", method, target, err, e.Answer.Admitted)
	}
	return e
}

// explainManifests has keys for each way to be refused, and filters of each kind.
func explainManifests(ns namespace) []string {
	sub := func(app, plan, filter string) string {
		return ns.sub(app, plan, list(app), list("api"), "operationFilter: {include: ["+filter+"]}")
	}
	return []string{
		ns.object("API", "api", `{openApiSpec: {operationSets: [
  {name: prefix, matchers: [{pathPrefix: /weather}]},
  {name: exact, matchers: [{path: /weather}, {path: /a/b, methods: [GET]}]},
  {name: regex, matchers: [{pathRegex: "^/weather/[^/]+$"}]},
  {name: writes, matchers: [{methods: [PUT, POST]}]}]}}`),
		ns.unlimited("plan"), ns.plan("blocked", "quota: {limit: 0, period: 1h}"),
		ns.app("all", "explained-all", "explained-shared", "explained-shared-with-stranger"),
		ns.app("prefix", "explained-prefix", "explained-shared"),
		ns.app("exact", "explained-exact"), ns.app("several", "explained-several"), ns.app("none", "explained-none"),
		ns.app("blocked", "explained-blocked"), ns.app("stranger", "explained-stranger", "explained-shared-with-stranger"),
		ns.app("dangling", "explained-dangling"),
		ns.object("ManagedApplication", "asleep", `{appId: asleep, owner: o, apiKeys: [{value: "{{digest "explained-asleep"}}", suspended: true}]}`),
		ns.sub("all", "plan", list("all"), list("api")),
		ns.sub("beaten", "blocked", list("all"), list("api"), "weight: 0", "operationFilter: {include: []}"),
		sub("prefix", "plan", "prefix"), sub("exact", "plan", "exact, gone"), sub("several", "plan", "regex, writes"), sub("none", "plan", ""),
		ns.sub("blocked", "blocked", list("blocked"), list("api")),
		ns.sub("dangling", "no-such-plan", list("dangling"), list("api")),
	}
}

// TestExplain asks a real gateway and "tollgate explain" the same: the entry point
// leaves paths alone, so that both see the same one.
func TestExplain(t *testing.T) {
	const ns = namespace("explained")
	const enough = 200
	shared.apply(t, "explained", explainManifests(ns)...)
	shared.protect(t, "explained.test", byHeader(shared.config("explained/api")))
	manifests := filepath.Join(shared.plane.Manifests, "explained.yaml")
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(shared.plane.Token), 0o600); err != nil {
		t.Fatal(err)
	}

	r := rand.New(rand.NewPCG(*explainSeed, 0))
	pick := func(from ...string) string { return from[r.IntN(len(from))] }
	keys := list("all", "all", "prefix", "prefix", "exact", "several", "several", "none", "blocked", "stranger", "dangling", "asleep", "shared", "shared-with-stranger", "of-nobody")
	segments := list("weather", "weather", "weather", "a", "b", "x", "weatherman", "", "..", ".", "..;", "x;v=1", "%2e%2e", "%2F", "a%2Fb", "%5c", "caf%C3%A9", "a%20b", "%252e", "%3F")
	compared := map[string]int{}
	total := 0
	for i := 0; total < enough; i++ {
		if i > 20*enough {
			t.Fatalf("seed %d: only %d requests came through", *explainSeed, total)
		}
		key, header := "explained-"+pick(keys...), []string(nil)
		if i%25 == 0 {
			key = ""
		} else {
			header = list(apiKeyHeader + key)
		}
		method, target := pick("GET", "GET", "GET", "PUT", "POST", "DELETE", "get"), ""
		for range 1 + r.IntN(3) {
			target += "/" + pick(segments...)
		}
		a := shared.sendRaw(t, "explained.test", method+" "+target, header...)
		if a.status == http.StatusBadRequest || a.status == http.StatusNotFound {
			continue // Traefik itself refuses it.
		}
		total++
		args := list("--manifests", manifests)
		if total%5 == 0 {
			args = list("--endpoint", shared.plane.URL, "--token-file", token)
		}
		e := explained(t, key, method, target, args...)
		compared[e.Answer.Reason]++
		if e.Answer.Admitted {
			if a.status != http.StatusOK || a.echo == nil || a.echo.Header.Get("X-Subscription") != e.Answer.Subscription {
				t.Errorf("seed %d: %s %s with %q is explained as admitted by %s, but got %d:\n%s",
					*explainSeed, method, target, key, e.Answer.Subscription, a.status, a.body)
			}
			continue
		}
		var p problem
		if err := json.Unmarshal(a.body, &p); err != nil || a.status != e.Answer.Status || p.Reason != e.Answer.Reason {
			t.Errorf("seed %d: %s %s with %q is explained as %d %s, but got %d:\n%s",
				*explainSeed, method, target, key, e.Answer.Status, e.Answer.Reason, a.status, a.body)
		}
	}
	t.Logf("compared: %v", compared)
	for _, reason := range list("", "key_missing", "key_invalid", "subscription_missing", "operation_forbidden", "quota_exceeded") {
		if compared[reason] < 5 {
			t.Errorf("%q came up %d times only", reason, compared[reason])
		}
	}
}
