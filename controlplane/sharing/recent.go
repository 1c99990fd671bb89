package sharing

import (
	"cmp"
	"container/list"
	"slices"
	"sync"
	"time"
)

const (
	// maxBuckets is how many buckets are known at most, of those settled last.
	maxBuckets = 1_000
	// forgetAfter is how long a bucket is known that nobody tells of any more.
	forgetAfter = 10 * time.Minute
)

// Bucket is how a bucket was when a gateway's entry of it was last settled here.
type Bucket struct {
	// Kind is usage.KindRate or usage.KindQuota.
	Kind string
	// Name is what gateways call the bucket, and Plan the namespace/name of the plan
	// that limits it.
	Name, Plan string
	Limit      int64
	Period     time.Duration
	// Used is what part of the limit gateways have, from 0 to 1: of a quota what was
	// used in the window or is held, of a rate limit what of the rate is given away.
	// After an edit of the plan it may be more than 1.
	Used float64
	// Remaining is what of a quota is neither used nor held.
	Remaining int64
	// SettledAt is when that was.
	SettledAt time.Time
}

// Entries counts entries of reports, by what became of them.
type Entries struct {
	// Settled were answered with a share.
	Settled int64
	// Unknown are of plans that are not in the table in force, or have no such limit,
	// and of buckets that this table has not.
	Unknown int64
	// Full are of buckets that too many gateways use, or of tenures and accounts that
	// are over.
	Full int64
	// Raced were changed by other control planes all the time.
	Raced int64
	// Failed could not be settled, because the store could not be asked.
	Failed int64
	// Unreadable are of buckets of which the store has a record that cannot be
	// decoded.
	Unreadable int64
}

// recent are the buckets that were settled last. Any number of goroutines may use it.
type recent struct {
	mu      sync.Mutex
	by      map[[2]string]*list.Element // of kind and name; the values are *Bucket
	order   *list.List                  // the one settled last is first
	entries Entries
}

func newRecent() recent { return recent{by: map[[2]string]*list.Element{}, order: list.New()} }

// count counts entries.
func (r *recent) count(add func(*Entries)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.entries)
}

// settled notes how a bucket is, and counts the entries.
func (r *recent) settled(b Bucket, add func(*Entries)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	add(&r.entries)
	key := [2]string{b.Kind, b.Name}
	element := r.by[key]
	if element == nil {
		if len(r.by) == maxBuckets {
			r.forgetLocked(r.order.Back())
		}
		element = r.order.PushFront(&Bucket{})
		r.by[key] = element
	}
	r.order.MoveToFront(element)
	*bucketOf(element) = b
}

func bucketOf(element *list.Element) *Bucket {
	b, ok := element.Value.(*Bucket)
	if !ok {
		panic("a bucket is none")
	}
	return b
}

func (r *recent) forgetLocked(element *list.Element) {
	b := bucketOf(element)
	delete(r.by, [2]string{b.Kind, b.Name})
	r.order.Remove(element)
}

// list returns what is known, those settled last first.
func (r *recent) list(now time.Time) []Bucket {
	r.mu.Lock()
	defer r.mu.Unlock()
	for e := r.order.Back(); e != nil && now.Sub(bucketOf(e).SettledAt) >= forgetAfter; e = r.order.Back() {
		r.forgetLocked(e)
	}
	buckets := make([]Bucket, 0, len(r.by))
	for e := r.order.Front(); e != nil; e = e.Next() {
		buckets = append(buckets, *bucketOf(e))
	}
	return buckets
}

// Buckets returns the buckets that were settled last, at most 1,000, the last first.
func (s *Sharing) Buckets() []Bucket { return s.recent.list(s.now()) }

// Busiest returns those buckets of which the largest part is used, at most so many.
func (s *Sharing) Busiest(most int) []Bucket {
	buckets := s.Buckets()
	slices.SortStableFunc(buckets, func(a, b Bucket) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return buckets[:min(most, len(buckets))]
}

// Entries returns how many entries have come in reports.
func (s *Sharing) Entries() Entries {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	return s.recent.entries
}
