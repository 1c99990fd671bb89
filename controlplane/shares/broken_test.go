package shares

import (
	"fmt"
	"slices"
	"testing"
)

// mutations are ways to break the engine, a gateway or the store. Each must be found.
// The number is that of a schedule that was found to do so; the search begins there.
var mutations = []struct {
	name  string
	begin uint64
}{
	{"a share ends here before it ends at its gateway", 2},
	{"what is held when a share ends is forgotten", 58},
	{"a part grows before another has shrunk", 220},
	{"what others hold is not counted", 0},
	{"a grant that was not seen is taken back", 245},
	{"nothing is set aside for standing credits", 0},
	{"edits make tokens", 136},
	{"ranks are free at once", 199},
	{"a share lasts from its answer", 1089},
	{"a gateway takes more than it was granted", 0},
	{"a token is used before it is there", 0},
	{"blind writes", 84},
}

// spoilLife breaks what Settle has said about how long shares last.
func (w *world) spoilLife(as accounts, now int64) {
	if w.breaks("a share ends here before it ends at its gateway") {
		for i := range as {
			as[i].until = min(as[i].until, now+int64(Life)/2)
		}
	}
}

// spoilAccounts breaks accounts before an entry is settled.
func (w *world) spoilAccounts(as accounts, tenure int64, e *Entry) {
	for i := range as {
		a := &as[i]
		switch {
		case a.tenure == tenure && w.breaks("a grant that was not seen is taken back"):
			if a.number == e.Account {
				a.granted = min(a.granted, e.Granted)
			}
		case a.tenure != tenure && w.breaks("what others hold is not counted"):
			a.used = max(a.used, a.granted)
		case a.tenure != tenure && w.breaks("a part grows before another has shrunk"):
			a.part.heldRate, a.part.heldCapacity = 0, 0
		}
	}
}

// spoilQuota breaks the record of a quota before an entry is settled.
func (w *world) spoilQuota(r *QuotaRecord, q *Quota, now int64) {
	switch w.broken {
	case "what is held when a share ends is forgotten":
		r.accounts = slices.DeleteFunc(r.accounts, func(a account) bool { return a.until <= now })
	case "nothing is set aside for standing credits":
		q.Limit += q.Limit / 31
	}
}

// spoilRate breaks the record of a rate limit before an entry is settled.
func (w *world) spoilRate(r *RateRecord, p *Rate) {
	switch w.broken {
	case "edits make tokens":
		if _, capacity := p.pool(); capacity != r.capacity {
			r.tokens = maxRate / 2
		}
	case "nothing is set aside for standing credits":
		p.Burst += p.Burst / 2
	}
}

func TestBrokenIsFound(t *testing.T) {
	const tries = 2000
	for _, mutation := range mutations {
		found := ""
		for i := range uint64(tries) {
			number := (mutation.begin + i) % tries
			if w := newSchedule(*seed + number).run(mutation.name); w.failure != "" {
				found = fmt.Sprintf("schedule %d: %s", number, w.failure)
				break
			}
		}
		t.Logf("%s: %s", mutation.name, found)
		if found == "" {
			t.Errorf("%s: not found", mutation.name)
		}
	}
}
