package quota

import "sync"

// Counter is what one bucket has consumed. Its state is reached through Take.
type Counter struct {
	// number orders counters, so that two are always locked in one order.
	number int64

	mu     sync.Mutex
	tokens Tokens
	window Window
	// idleAt is when the counter becomes equal to a new one.
	idleAt int64
	// dropped says that the store no longer knows this counter.
	dropped bool
}

// touch notes that c is not idle before the time at.
func touch(c *Counter, at int64) {
	if at > c.idleAt {
		c.idleAt = at
	}
}

// lock locks the counters of a, which may be one or none.
func lock(a *Allowance) {
	first, second := inOrder(a)
	if first != nil {
		first.mu.Lock()
	}
	if second != nil {
		second.mu.Lock()
	}
}

func unlock(a *Allowance) {
	first, second := inOrder(a)
	if second != nil {
		second.mu.Unlock()
	}
	if first != nil {
		first.mu.Unlock()
	}
}

// inOrder returns the counters that a uses, each once, by number.
func inOrder(a *Allowance) (first, second *Counter) {
	if a.RateLimit != nil {
		first = a.RateCounter
	}
	if a.Quota == nil || a.QuotaCounter == first {
		return first, nil
	}
	second = a.QuotaCounter
	if first == nil || first.number > second.number {
		first, second = second, first
	}
	return first, second
}

// Store holds the counters of all buckets, at most max of them. Any number of
// goroutines may use it.
//
// It never forgets consumption: a counter is dropped only once it is idle, that
// is equal to a new one. Dropping is a little work with each new counter, so
// there is neither a timer nor a long pause.
type Store struct {
	max int

	mu       sync.Mutex
	counters map[string]*Counter
	made     int64
}

// NewStore returns an empty store for at most max counters.
func NewStore(max int) *Store {
	return &Store{max: max, counters: map[string]*Counter{}}
}

// How many counters are looked at, for idle ones, with each new counter: enough
// that the idle ones stay few, and more when room is needed.
const (
	looksUsual = 4
	looksFull  = 256
)

// keepUnused is how long a new counter waits for its first use, in microseconds.
const keepUnused = 1_000_000

// Get returns the counter of bucket, a new one if there is none yet. It returns
// nil if the store is full of counters that are not idle: then nothing can be
// counted, and the request has to be refused.
func (s *Store) Get(bucket string, now int64) *Counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.counters[bucket]; c != nil {
		return c
	}
	looks := looksUsual
	if len(s.counters) >= s.max {
		looks = looksFull
	}
	s.dropIdleLocked(looks, now)
	if len(s.counters) >= s.max {
		return nil
	}
	s.made++
	c := &Counter{number: s.made, idleAt: now + keepUnused}
	s.counters[bucket] = c
	return c
}

// dropIdleLocked looks at some counters, which Go's map picks, and drops the
// idle ones.
func (s *Store) dropIdleLocked(looks int, now int64) {
	for bucket, c := range s.counters {
		if looks == 0 {
			return
		}
		looks--
		c.mu.Lock()
		if c.idleAt <= now {
			c.dropped = true
			delete(s.counters, bucket)
		}
		c.mu.Unlock()
	}
}

// Len returns how many counters there are.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.counters)
}
