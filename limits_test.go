package tollgate

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/table"
)

// A store without room for another counter refuses what needs one, and nothing
// else.
func TestCountersFull(t *testing.T) {
	plan := table.Plan{Quota: &table.Quota{Limit: 5, Period: "64h", Bucket: table.BucketApplication}}
	rows := testTable(plan)
	rows.Plans["apps/unlimited"] = table.Plan{}
	rows.Subscriptions["apps/filtered-sub"] = table.Subscription{Plan: "apps/unlimited"}
	withSources(t, holding(rows, 0))
	sources.accounts[nobody] = accountWith(quota.NewStore(1))
	r := newRig(t, testConfig(weatherAPI))
	if got := r.call("ann"); got != "ok 4" {
		t.Fatalf("the first counter: got %q, want ok 4", got)
	}
	for i := 0; i < 2; i++ {
		w := r.do("GET", "/weather", "Authorization: Bearer bob")
		if r.upstream != nil || w.Code != http.StatusServiceUnavailable || reason(w) != "counters_full" ||
			w.Header().Get("Retry-After") != "10" || w.Header().Get("RateLimit") != "" {
			t.Errorf("the second counter: got %d %v %s", w.Code, w.Header(), w.Body)
		}
	}
	if got := r.call("ann"); got != "ok 3" {
		t.Errorf("a counter that is there: got %q, want ok 3", got)
	}
	if got := r.call("filtered"); got != "ok" {
		t.Errorf("a plan without limits: got %q, want ok", got)
	}
}

// A counter that the store dropped as unused is fetched again.
func TestDroppedCountersAreFetchedAgain(t *testing.T) {
	rows := testTable(table.Plan{RateLimit: &table.RateLimit{Limit: 10, Period: "1h", Bucket: table.BucketApplication}})
	withSources(t, holding(rows, 0))
	store := quota.NewStore(100)
	sources.accounts[nobody] = accountWith(store)
	r := newRig(t, testConfig(weatherAPI))
	for _, want := range []string{"ok 9", "ok 8"} {
		if got := r.call("ann"); got != want {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	// Centuries later, looking for room drops what is full again.
	for i := 0; i < 100 && store.Len() != 0; i++ {
		const later = 1 << 60
		store.Get("another", later)
		store.Get("yet another", 2*later)
		if strings.HasPrefix(r.call("ann"), "ok 9") {
			return
		}
	}
	t.Error("the counter was never dropped, so this test shows nothing")
}

func TestSeconds(t *testing.T) {
	for ns, want := range map[time.Duration]string{
		0: "0", 1: "1", time.Second - 1: "1", time.Second: "1", time.Second + 1: "2", time.Hour: "3600",
	} {
		if got := seconds(int64(ns)); got != want {
			t.Errorf("%s: got %s s, want %s", ns, got, want)
		}
	}
}

// What is written beforehand and what is not is told in the same way.
func TestTokensLeft(t *testing.T) {
	withSources(t, holding(testTable(table.Plan{RateLimit: &table.RateLimit{
		Limit: written + 2, Period: "1s", Bucket: table.BucketApplication,
	}}), 0))
	r := newRig(t, testConfig(weatherAPI))
	begin := time.Now()
	var seen []string
	for i := 0; i < 4; i++ {
		h := r.do("GET", "/weather", "Authorization: Bearer ann").Header()
		left := h.Get("X-Ratelimit-Remaining")
		seen = append(seen, left)
		if got, want := h.Get("RateLimit"), `"rate";r=`+left+";t=1"; got != want {
			t.Errorf("got RateLimit %s, want %s", got, want)
		}
		if got, want := h.Get("RateLimit-Policy"), `"rate";q=1002;w=1`; got != want {
			t.Errorf("got RateLimit-Policy %s, want %s", got, want)
		}
	}
	// Where the machine was slow tokens came back meanwhile.
	if time.Since(begin) < time.Millisecond && strings.Join(seen, " ") != "1001 1000 999 998" {
		t.Errorf("got %s left, want 1001 1000 999 998", seen)
	}
	for tokens, want := range map[int]string{0: "0", 7: "7", written - 1: "999"} {
		if got := writtenTokens[tokens][0]; got != want {
			t.Errorf("%d tokens are written as %s", tokens, got)
		}
	}
}
