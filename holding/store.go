package holding

import (
	"sync"

	"github.com/tollgate-apim/tollgate/usage"
)

// Store has the holdings of all buckets, at most max of them, and what the control
// plane has told of the gateway. Any number of goroutines may use it.
type Store struct {
	max   int
	hurry func()

	mu       sync.Mutex
	holdings map[string]*Holding // by kind and bucket
	made     int64
	told     map[string]*Holding // those that the last report told of

	lists   sync.Mutex // guards what follows; held for moments only
	active  []*Holding // those that reports have to tell of
	tenure  tenure
	account int64 // the last that was opened
	hurried bool  // a holding has asked for a report since the last one
	// changed is when the tenure last became another one, and until restless it does
	// so all the time.
	changed, restless int64
}

// tenure is what the control plane knows the gateway as. The zero value is none.
type tenure struct {
	number   int64
	ranks    []int64
	until    int64 // when its standing credits end
	gateways int64
}

// NewStore returns a store of nothing. Hurry is called when a report should be sent
// soon, from any goroutine; it must not wait.
func NewStore(max int, hurry func()) *Store {
	return &Store{max: max, hurry: hurry, holdings: map[string]*Holding{}, changed: -quiet}
}

// quiet is for how long a tenure lasts at least where all is well: who knows a gateway
// extends its tenure.
const quiet = 10 * second

// Plan is what limits a bucket.
type Plan struct {
	Name string // namespace/name
	// Reserve and Horizon are what QuotaReserve or RateReserve returns for it.
	Reserve int64
	Horizon int
}

// How many holdings are looked at, for idle ones, with each new one; see quota.Store.
const (
	looksUsual = 4
	looksFull  = 256
)

// keepIdle is how long a holding of nothing is kept while there is room.
const keepIdle = 600 * second

// Get returns the holding of a bucket, which a plan limits, a new one if there is none
// yet. It returns nil if there is no room for it.
func (s *Store) Get(kind, bucket string, plan Plan, now int64) *Holding {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.holdings[kind+" "+bucket]
	if h == nil {
		s.dropIdleLocked(looksUsual, now-keepIdle, now)
		if len(s.holdings) >= s.max {
			s.dropIdleLocked(looksFull, now-second, now)
		}
		if len(s.holdings) >= s.max {
			return nil
		}
		s.made++
		h = NewHolding(open(s), now)
		h.number, h.kind, h.bucket = s.made, kind, bucket
		s.holdings[kind+" "+bucket] = h
	}
	h.Lock()
	h.plan, h.reserve, h.horizon = plan.Name, plan.Reserve, plan.Horizon
	h.shut = 0
	h.Unlock()
	return h
}

// dropIdleLocked looks at some holdings, which Go's map picks, and drops those of which
// no report had to tell since the time idleSince.
func (s *Store) dropIdleLocked(looks int, idleSince, now int64) {
	for name, h := range s.holdings {
		if looks == 0 {
			return
		}
		looks--
		h.Lock()
		if !h.listed && h.since <= idleSince && Closed(h, 1, now) {
			h.dropped = true
			h.shut = 0
			delete(s.holdings, name)
		}
		h.Unlock()
	}
}

// Trim drops all holdings of nothing.
func (s *Store) Trim(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropIdleLocked(len(s.holdings), now, now)
}

// Len returns how many holdings there are.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.holdings)
}

// Active reports whether there is something to tell in a report.
func (s *Store) Active() bool {
	s.lists.Lock()
	defer s.lists.Unlock()
	return len(s.active) > 0 && s.tenure.number != 0
}

// Gateways returns how many gateways share limits, at least 1, as far as is known.
func (s *Store) Gateways() int64 {
	s.lists.Lock()
	defer s.lists.Unlock()
	if s.tenure.gateways < 1 {
		return 1
	}
	return s.tenure.gateways
}

// Restless reports whether the tenure has lately become another one more than once in a
// short time. Then reports help no sooner than they come by themselves.
func (s *Store) Restless(now int64) bool {
	s.lists.Lock()
	defer s.lists.Unlock()
	return now < s.restless
}

// Leave gives up the tenure. What is held of it is good until it ends, which the control
// plane reckons with, and no longer than until there is another tenure.
func (s *Store) Leave() {
	s.lists.Lock()
	defer s.lists.Unlock()
	s.tenure = tenure{gateways: s.tenure.gateways}
}

// mostBytes bounds the JSON of the entries of a report, and of their answer, roughly:
// each entry is reckoned with entryBytes and twice its names.
const (
	mostBytes  = 640 << 10
	entryBytes = 320
)

// Report returns what a report that is made now tells: the tenure, and the entries of
// that. What does not fit comes first in the next one. Each report has to be settled by
// Answer before the next one is made.
func (s *Store) Report(now int64) (number int64, entries []usage.Entry) {
	number, entries, _ = s.ReportUpTo(mostBytes, now)
	return number, entries
}

// ReportUpTo is Report for a report that may have fewer bytes than usual. It tells one
// entry at least, and says how many holdings there was no room for.
func (s *Store) ReportUpTo(most int, now int64) (number int64, entries []usage.Entry, left int) {
	if most > mostBytes {
		most = mostBytes
	}
	s.lists.Lock()
	t := s.tenure
	hurried := s.hurried
	s.hurried = false
	var active []*Holding
	if t.number != 0 {
		active = s.active
		s.active = nil
	}
	s.lists.Unlock()

	number = t.number
	entries = nil
	told := map[string]*Holding{}
	var again, rest []*Holding
	bytes := 0
	for i := range active {
		h := active[i]
		if bytes > most || len(entries) == usage.MaxEntries {
			rest = active[i:]
			break
		}
		h.Lock()
		adopt(s, h, &t, now)
		standing := credit(h, &t, now)
		if Closed(h, standing, now) {
			h.listed = false
			h.shut = 0
			h.Unlock()
			continue
		}
		again = append(again, h)
		if hurried && !Due(h, now) {
			h.Unlock()
			continue
		}
		e := Report(h, standing, now)
		h.Unlock()
		entries = append(entries, e)
		told[h.kind+" "+h.bucket] = h
		bytes += entryBytes + 2*(len(e.Bucket)+len(e.Plan))
	}

	s.mu.Lock()
	s.told = told
	s.mu.Unlock()
	s.lists.Lock()
	s.active = append(append(append([]*Holding{}, rest...), s.active...), again...)
	s.lists.Unlock()
	left = len(rest)
	return number, entries, left
}

// Answer takes in the answer to the last report, nil if there will be none, and reports
// whether the endpoint shares limits. SentAt is when the report was sent; if it was sent
// several times, then what was answered.
func (s *Store) Answer(answer *usage.Answer, sentAt, now int64) bool {
	s.mu.Lock()
	told := s.told
	s.told = nil
	s.mu.Unlock()

	sharing := answer != nil && answer.Tenure != nil
	if sharing {
		t := s.renew(answer.Tenure, sentAt, now)
		for i := range answer.Shares {
			share := &answer.Shares[i]
			name := share.Kind + " " + share.Bucket
			if h := told[name]; h != nil {
				delete(told, name)
				h.Lock()
				adopt(s, h, &t, now)
				Apply(h, share, sentAt, now)
				hurry(s, h, now)
				h.Unlock()
			}
		}
	}
	for _, h := range told {
		h.Lock()
		unanswered(h)
		h.Unlock()
	}
	return sharing
}

// renew takes in what an answer tells of the tenure.
func (s *Store) renew(told *usage.Tenure, sentAt, now int64) tenure {
	until := sentAt + told.Lasts
	s.lists.Lock()
	before := s.tenure
	if before.number == told.Number && before.until > until {
		until = before.until
	}
	s.tenure = tenure{number: told.Number, ranks: told.Ranks, until: until, gateways: told.Gateways}
	t := s.tenure
	waiting := before.number != told.Number && len(s.active) > 0
	if before.number != told.Number && before.number != 0 {
		if now < s.changed+quiet {
			s.restless = now + quiet
		}
		s.changed = now
	}
	s.lists.Unlock()
	if waiting {
		s.hurry()
	}
	return t
}

// current returns the tenure.
func current(s *Store) tenure {
	s.lists.Lock()
	t := s.tenure
	s.lists.Unlock()
	return t
}

// hasten asks for a report.
func hasten(s *Store) {
	s.lists.Lock()
	s.hurried = true
	s.lists.Unlock()
	s.hurry()
}

// list has a locked holding told of in reports.
func list(s *Store, h *Holding) {
	s.lists.Lock()
	s.active = append(s.active, h)
	s.lists.Unlock()
}

// open returns the number of another account.
func open(s *Store) int64 {
	s.lists.Lock()
	s.account++
	account := s.account
	s.lists.Unlock()
	return account
}

// adopt gives up what a locked holding has of another tenure.
func adopt(s *Store, h *Holding, t *tenure, now int64) {
	if h.tenure == t.number {
		return
	}
	if h.tenure != 0 {
		// What nobody was told of yet goes on asking.
		wanted := h.wanted
		reopen(h, open(s), now)
		h.wanted = wanted
	}
	h.tenure = t.number
	h.shut = 0
}

// credit returns the standing credit of a locked holding.
func credit(h *Holding, t *tenure, now int64) int64 {
	if now >= t.until || h.horizon >= len(t.ranks) {
		return 0
	}
	return Standing(h.reserve, t.ranks[h.horizon])
}
