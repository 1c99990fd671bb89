package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// limited calls an API of the shared gateway with a key.
func limited(t *testing.T, host, key string) answer {
	t.Helper()
	return shared.send(t, host, "GET /", apiKeyHeader+key)
}

// field finds a parameter of an item of a RateLimit header, such as "r" of
// "rate", and returns -1 where there is none.
func field(t *testing.T, a answer, header, item, parameter string) int {
	t.Helper()
	values := strings.Join(a.header[http.CanonicalHeaderKey(header)], ", ")
	found := regexp.MustCompile(`"` + item + `"((?:;[a-z]+=[0-9]+)+)`).FindStringSubmatch(values)
	if found == nil {
		t.Errorf("%s is %q, which has no %q", header, values, item)
		return -1
	}
	for _, p := range strings.Split(found[1], ";") {
		if name, value, _ := strings.Cut(p, "="); name == parameter {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Errorf("%s is %q, which has no %s of %q", header, values, parameter, item)
	return -1
}

// TestLimitHeaders follows both limits, and all that is told about them, until
// nothing is left.
func TestLimitHeaders(t *testing.T) {
	const ns = namespace("headers")
	shared.apply(t, "headers",
		ns.api("api"), ns.plan("plan", "rateLimit: {limit: 3, period: 1h}, quota: {limit: 5, period: 24h}"),
		ns.plan("rate", "rateLimit: {limit: 3, period: 1h}"), ns.plan("quota", "quota: {limit: 3, period: 24h}"),
		ns.app("both", "headers-both"), ns.app("rate", "headers-rate"), ns.app("quota", "headers-quota"),
		ns.sub("both", "plan", list("both"), list("api")),
		ns.sub("rate", "rate", list("rate"), list("api")),
		ns.sub("quota", "quota", list("quota"), list("api")),
	)
	shared.protect(t, "headers.test", byHeader(shared.config("headers/api")))

	t.Run("both", func(t *testing.T) {
		for i := range 5 {
			a := limited(t, "headers.test", "headers-both")
			// The fourth is refused by the rate limit, and so consumes no quota.
			rate, quota := max(0, 2-i), max(2, 4-i)
			if i < 3 {
				admitted(t, a)
			} else {
				refused(t, a, 429, "rate_limited")
			}
			for _, check := range []struct {
				what      string
				got, want int
			}{
				{"X-Ratelimit-Remaining", a.remaining("X-Ratelimit-Remaining"), rate},
				{"X-Quota-Remaining", a.remaining("X-Quota-Remaining"), quota},
				{"RateLimit rate r", field(t, a, "RateLimit", "rate", "r"), rate},
				{"RateLimit quota r", field(t, a, "RateLimit", "quota", "r"), quota},
				{"RateLimit-Policy rate q", field(t, a, "RateLimit-Policy", "rate", "q"), 3},
				{"RateLimit-Policy rate w", field(t, a, "RateLimit-Policy", "rate", "w"), 3600},
				{"RateLimit-Policy quota q", field(t, a, "RateLimit-Policy", "quota", "q"), 5},
				{"RateLimit-Policy quota w", field(t, a, "RateLimit-Policy", "quota", "w"), 86400},
			} {
				if check.got != check.want {
					t.Errorf("request %d: %s is %d, want %d", i+1, check.what, check.got, check.want)
				}
			}
			if i >= 3 {
				retry, reset := a.remaining("Retry-After"), field(t, a, "RateLimit", "rate", "t")
				if retry < reset || retry > 1200 || retry < 1100 {
					t.Errorf("Retry-After is %d and t is %d, want a third of an hour, and no earlier than t", retry, reset)
				}
			}
		}
	})
	t.Run("only a rate limit", func(t *testing.T) {
		a := limited(t, "headers.test", "headers-rate")
		admitted(t, a)
		if a.remaining("X-Ratelimit-Remaining") != 2 || a.header.Get("X-Quota-Remaining") != "" || strings.Contains(a.header.Get("RateLimit"), "quota") {
			t.Errorf("got %v", a.header)
		}
	})
	t.Run("only a quota", func(t *testing.T) {
		for want := 2; want >= 0; want-- {
			a := limited(t, "headers.test", "headers-quota")
			admitted(t, a)
			if a.remaining("X-Quota-Remaining") != want || a.header.Get("X-Ratelimit-Remaining") != "" {
				t.Errorf("got %v, want %d left", a.header, want)
			}
		}
		a := limited(t, "headers.test", "headers-quota")
		refused(t, a, 429, "quota_exceeded")
		retry, reset := a.remaining("Retry-After"), field(t, a, "RateLimit", "quota", "t")
		if retry < reset || retry < 86000 || retry > 86400*102/100+1 {
			t.Errorf("Retry-After is %d and t is %d, want a day or 2 %% more", retry, reset)
		}
	})
}

// TestBuckets calls two APIs with two applications of one subscription and looks
// at which calls share a counter.
func TestBuckets(t *testing.T) {
	const ns = namespace("buckets")
	manifests := list(ns.api("x"), ns.api("y"))
	for _, bucket := range []string{"", "subscription", "application", "application-api"} {
		name, spec := bucket, ", bucket: "+bucket
		if bucket == "" {
			name, spec = "default", ""
		}
		manifests = append(manifests,
			ns.plan(name, "rateLimit: {limit: 10, period: 1h"+spec+"}, quota: {limit: 20, period: 24h"+spec+"}"),
			ns.app(name+"-a", "buckets-"+name+"-a"), ns.app(name+"-b", "buckets-"+name+"-b"),
			ns.sub(name, name, list(name+"-a", name+"-b"), list("x", "y")),
		)
	}
	manifests = append(manifests,
		ns.plan("mixed", "rateLimit: {limit: 10, period: 1h, bucket: application}, quota: {limit: 20, period: 24h, bucket: subscription}"),
		ns.app("mixed-a", "buckets-mixed-a"), ns.app("mixed-b", "buckets-mixed-b"),
		ns.sub("mixed", "mixed", list("mixed-a", "mixed-b"), list("x", "y")),
	)
	shared.apply(t, "buckets", manifests...)
	for _, api := range []string{"x", "y"} {
		shared.protect(t, api+".buckets.test", byHeader(shared.config("buckets/"+api)))
	}

	calls := []struct{ app, api string }{{"a", "x"}, {"a", "y"}, {"b", "x"}, {"b", "y"}, {"a", "x"}}
	for bucket, used := range map[string]struct{ rate, quota [5]int }{
		"default":         {[5]int{1, 2, 3, 4, 5}, [5]int{1, 2, 3, 4, 5}},
		"subscription":    {[5]int{1, 2, 3, 4, 5}, [5]int{1, 2, 3, 4, 5}},
		"application":     {[5]int{1, 2, 1, 2, 3}, [5]int{1, 2, 1, 2, 3}},
		"application-api": {[5]int{1, 1, 1, 1, 2}, [5]int{1, 1, 1, 1, 2}},
		"mixed":           {[5]int{1, 2, 1, 2, 3}, [5]int{1, 2, 3, 4, 5}},
	} {
		t.Run(bucket, func(t *testing.T) {
			for i, call := range calls {
				a := limited(t, call.api+".buckets.test", "buckets-"+bucket+"-"+call.app)
				admitted(t, a)
				if got, want := a.remaining("X-Ratelimit-Remaining"), 10-used.rate[i]; got != want {
					t.Errorf("call %d, %s of %s: X-Ratelimit-Remaining is %d, want %d", i+1, call.api, call.app, got, want)
				}
				if got, want := a.remaining("X-Quota-Remaining"), 20-used.quota[i]; got != want {
					t.Errorf("call %d, %s of %s: X-Quota-Remaining is %d, want %d", i+1, call.api, call.app, got, want)
				}
			}
		})
	}
}

// TestRateLimitRefills waits for a token, no longer than Retry-After says.
func TestRateLimitRefills(t *testing.T) {
	const ns = namespace("refill")
	shared.apply(t, "refill",
		ns.api("api"), ns.plan("plan", "rateLimit: {limit: 1}"), // a second is the default
		ns.app("app", "refill-key"), ns.sub("sub", "plan", list("app"), list("api")),
	)
	shared.protect(t, "refill.test", byHeader(shared.config("refill/api")))

	admitted(t, limited(t, "refill.test", "refill-key"))
	begin := time.Now()
	a := limited(t, "refill.test", "refill-key")
	refused(t, a, 429, "rate_limited")
	if got := a.header.Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q, want 1", got)
	}
	shared.await(t, "a token", func() error { return wantStatus(limited(t, "refill.test", "refill-key"), 200) })
	if waited := time.Since(begin); waited < 800*time.Millisecond || waited > 6*time.Second {
		t.Errorf("the next token came after %s, want a second", waited)
	}
}

// TestQuotaSlides checks that a quota gives back what was used one period ago,
// late by 2 % at most and never early.
func TestQuotaSlides(t *testing.T) {
	const ns = namespace("slide")
	const period = 3 * time.Second
	shared.apply(t, "slide",
		ns.api("api"), ns.plan("plan", "quota: {limit: 2, period: "+period.String()+"}"),
		ns.app("app", "slide-key"), ns.sub("sub", "plan", list("app"), list("api")),
	)
	shared.protect(t, "slide.test", byHeader(shared.config("slide/api")))

	admitted(t, limited(t, "slide.test", "slide-key"))
	begin := time.Now() // after the first was counted
	admitted(t, limited(t, "slide.test", "slide-key"))
	refused(t, limited(t, "slide.test", "slide-key"), 429, "quota_exceeded")
	shared.await(t, "room", func() error { return wantStatus(limited(t, "slide.test", "slide-key"), 200) })
	if waited := time.Since(begin); waited < period-300*time.Millisecond || waited > period+3*time.Second {
		t.Errorf("there was room after %s, want %s", waited, period)
	}
}

// TestLimitEdits edits plans: what was consumed stays consumed.
func TestLimitEdits(t *testing.T) {
	const ns = namespace("edits")
	manifests := func(limits, second string) []string {
		return []string{
			ns.api("api"), ns.plan("plan", limits), ns.plan("second", second),
			ns.app("app", "edits-key"), ns.app("other", "edits-other"),
			ns.sub("sub", "plan", list("app"), list("api")),
			ns.sub("other", "second", list("other"), list("api")),
		}
	}
	const second = "quota: {limit: 5, period: 24h}"
	shared.apply(t, "edits", manifests("quota: {limit: 6, period: 24h}", second)...)
	shared.protect(t, "edits.test", byHeader(shared.config("edits/api")))
	for range 6 {
		admitted(t, limited(t, "edits.test", "edits-key"))
	}
	refused(t, limited(t, "edits.test", "edits-key"), 429, "quota_exceeded")

	left := func(want int) {
		t.Helper()
		a := limited(t, "edits.test", "edits-key")
		admitted(t, a)
		if got := a.remaining("X-Quota-Remaining"); got != want {
			t.Errorf("X-Quota-Remaining is %d, want %d", got, want)
		}
	}
	shared.apply(t, "edits", manifests("quota: {limit: 500, period: 24h}", second)...)
	left(493)
	shared.apply(t, "edits", manifests("quota: {limit: 500, period: 48h}", second)...)
	left(492)
	shared.apply(t, "edits", manifests("quota: {limit: 3, period: 48h}", second)...)
	refused(t, limited(t, "edits.test", "edits-key"), 429, "quota_exceeded")

	// A quota of 0 denies all, a rate limit of 0 is none.
	shared.apply(t, "edits", manifests("rateLimit: {limit: 0, period: 1s}", "quota: {limit: 0, period: 24h}")...)
	for i := range 3 {
		a := limited(t, "edits.test", "edits-key")
		if err := wantStatus(a, 200); err != nil || a.header.Get("X-Ratelimit-Remaining") != "" {
			t.Errorf("request %d with a rate limit of 0: %v, %v", i+1, err, a.header)
		}
	}
	refused(t, limited(t, "edits.test", "edits-other"), 429, "quota_exceeded")
}

// TestConfigurationEdits edits the middleware, down to how it syncs, while the
// endpoint is down: the table and the counters go on, because they belong to the
// endpoint.
func TestConfigurationEdits(t *testing.T) {
	const ns = namespace("reconfigured")
	shared.apply(t, "reconfigured",
		ns.api("api"), ns.plan("plan", "quota: {limit: 100, period: 24h}"),
		ns.app("app", "reconfigured-key"), ns.sub("sub", "plan", list("app"), list("api")),
	)
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	used := 0
	for _, change := range []func(*stack.Config){
		func(*stack.Config) {},
		func(c *stack.Config) { c.ErrorBody = "empty" },
		func(c *stack.Config) { c.Sync.Interval = "300ms" },
		func(c *stack.Config) { c.Sync.Timeout = "4s" },
		func(c *stack.Config) { c.Sync.MaxStaleness = "1m" },
	} {
		config := byHeader(shared.config("reconfigured/api"))
		config.Sync.Endpoint = proxy.URL
		change(&config)
		// The header that it tells the App ID by shows which is in force.
		used++
		header := fmt.Sprintf("X-App-%d", used)
		config.IdentityHeaders = map[string]string{"appId": header}
		shared.protect(t, "reconfigured.test", config)
		shared.await(t, "the edit", func() error {
			a := limited(t, "reconfigured.test", "reconfigured-key")
			admitted(t, a) // Whichever is in force: no edit leaves a gap.
			if got, want := a.remaining("X-Quota-Remaining"), 100-used; got != want {
				t.Fatalf("X-Quota-Remaining is %d, want %d", got, want)
			}
			if a.echo.Header.Get(header) == "" {
				used++
				return fmt.Errorf("there is no %s yet", header)
			}
			return nil
		})
		proxy.Down()
	}
}

// TestBurst lets an annotation say how many tokens there may be.
func TestBurst(t *testing.T) {
	const ns = namespace("burst")
	plan := fmt.Sprintf("apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: plan, namespace: %s, annotations: {tollgate.dev/burst: \"4\"}}\nspec: {title: Bursty, rateLimit: {limit: 1, period: 1h}}\n", ns)
	shared.apply(t, "burst", ns.api("api"), plan, ns.app("app", "burst-key"), ns.sub("sub", "plan", list("app"), list("api")))
	shared.protect(t, "burst.test", byHeader(shared.config("burst/api")))
	for range 4 {
		admitted(t, limited(t, "burst.test", "burst-key"))
	}
	refused(t, limited(t, "burst.test", "burst-key"), 429, "rate_limited")
}
