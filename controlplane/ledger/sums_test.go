package ledger

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/usage"
)

func row(api, application string, code int, count int64) usage.Row {
	r := usage.Row{API: api, Application: application, Code: code, Count: count}
	if application != "" {
		r.KeyTitle, r.Subscription, r.Plan = "title", "apps/s", "apps/p"
	}
	if code != 0 {
		r.Reason = "a_reason"
	}
	return r
}

func TestSumsAreBounded(t *testing.T) {
	s := newSums(2)
	for range 2 {
		s.add([]usage.Row{
			row("apps/x", "apps/a", 0, 1), row("apps/x", "apps/b", 0, 2),
			row("apps/x", "apps/c", 0, 4), row("apps/y", "apps/d", 0, 8), row("apps/x", "apps/d", 403, 16), row("apps/x", "apps/e", 403, 32),
			row("apps/z", "", 401, 64), // is no caller's
		})
	}
	got := map[Labels]int64{}
	for _, r := range s.list() {
		got[r.Labels] = r.Count
	}
	caller := func(api, application string) Labels {
		return Labels{API: api, Application: application, KeyTitle: "title", Subscription: "apps/s", Plan: "apps/p"}
	}
	others := func(api string, code int, reason string) Labels {
		return Labels{API: api, Application: Other, KeyTitle: Other, Subscription: Other, Plan: Other, Code: code, Reason: reason}
	}
	want := map[Labels]int64{
		caller("apps/x", "apps/a"):                     2,
		caller("apps/x", "apps/b"):                     4,
		others("apps/x", 0, ""):                        8,
		others("apps/y", 0, ""):                        16,
		others("apps/x", 403, "a_reason"):              96,
		{API: "apps/z", Code: 401, Reason: "a_reason"}: 128,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}

	var sent int64
	for i := range 3 * maxOther {
		s.add([]usage.Row{row(fmt.Sprint("apps/", i), "", 400+i%2, 1), row("apps/x", fmt.Sprint("apps/", i), 0, 1)})
		sent += 2
	}
	var counted int64
	for _, r := range s.list() {
		counted += r.Count - got[r.Labels]
	}
	if counted != sent {
		t.Errorf("counted %d of %d", counted, sent)
	}
	if len(s.counts) != 2 || len(s.others) != maxOther+2 {
		t.Errorf("there are %d and %d sets of labels", len(s.counts), len(s.others))
	}
	if n := s.others[others(Other, 401, Other)]; n == 0 {
		t.Error("nothing is counted as other")
	}
}

func TestPlus(t *testing.T) {
	for _, test := range [][3]int64{{1, 2, 3}, {math.MaxInt64 - 1, 1, math.MaxInt64}, {math.MaxInt64, 1, math.MaxInt64}, {1, math.MaxInt64, math.MaxInt64}} {
		if got := plus(test[0], test[1]); got != test[2] {
			t.Errorf("%d + %d: got %d", test[0], test[1], got)
		}
	}
}

func TestBusiest(t *testing.T) {
	r := newRecent(3, start)
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	r.add([]usage.Row{row("apps/x", "apps/a", 0, 100), row("apps/x", "", 401, 7)}, at(-5))
	r.add([]usage.Row{row("apps/x", "apps/a", 429, 10)}, at(4))
	r.add([]usage.Row{row("apps/y", "apps/b", 0, 50), row("apps/y", "apps/c", 0, 50)}, at(20))
	got := r.busiest(2, at(59))
	want := Busiest{
		All:          Busy{"", 217, 17},
		Applications: []Busy{{"apps/a", 110, 10}, {"apps/b", 50, 0}},
		APIs:         []Busy{{"apps/x", 117, 17}, {"apps/y", 100, 0}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("busiest (-want +got):\n%s", diff)
	}
	want = Busiest{All: Busy{"", 100, 0}, Applications: []Busy{{"apps/b", 50, 0}, {"apps/c", 50, 0}}, APIs: []Busy{{"apps/y", 100, 0}}}
	if diff := cmp.Diff(want, r.busiest(9, at(60))); diff != "" {
		t.Errorf("a minute later (-want +got):\n%s", diff)
	}
	for i := range 5 {
		r.add([]usage.Row{row("apps/x", fmt.Sprint("apps/", i), 0, 1)}, at(120))
	}
	want = Busiest{
		All:          Busy{"", 5, 0},
		Applications: []Busy{{Other, 2, 0}, {"apps/0", 1, 0}, {"apps/1", 1, 0}, {"apps/2", 1, 0}},
		APIs:         []Busy{{"apps/x", 5, 0}},
	}
	if diff := cmp.Diff(want, r.busiest(9, at(120))); diff != "" {
		t.Errorf("more than there is room for (-want +got):\n%s", diff)
	}
	if got := r.busiest(9, at(180)); len(got.Applications) != 0 || got.All != (Busy{}) {
		t.Errorf("after the last minute: got %+v", got)
	}
}
