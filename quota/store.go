package quota

import (
	"math"
	"sync"
	"time"
)

// Counter is what one bucket has consumed. Its state is reached through Take.
type Counter struct {
	// number orders counters, so that two are always locked in one order.
	number int64

	// Embedded, because interpreted the method of a field takes an object more.
	sync.Mutex
	// fullAt is when the token bucket will be full again, and interval the one
	// of the rate limit that this is measured by.
	fullAt, interval int64
	window           window
	// keepUntil protects a new counter that was not used yet.
	keepUntil int64
	// dropped says that the store no longer knows this counter.
	dropped bool
}

// idle reports whether c equals a new counter at the time now.
func idle(c *Counter, now int64) bool {
	if c.fullAt > now {
		return false
	}
	return c.window.total == 0 || c.window.end+c.window.period <= now
}

// drop makes c a counter that refuses everything, so that what looks at it finds
// out that it was dropped.
func drop(c *Counter) {
	c.dropped = true
	c.fullAt, c.interval = math.MaxInt64, 0
	c.window.total, c.window.expiry = math.MaxInt64, math.MaxInt64
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

const (
	// keepUnused is how long a new counter waits for its first use.
	keepUnused = int64(time.Second)
	// keepIdle is how long an idle counter is kept while there is room: most
	// are wanted again soon.
	keepIdle = int64(10 * time.Minute)
)

// Get returns the counter of bucket, a new one if there is none yet. It returns
// nil if the store is full of counters that are not idle: then nothing can be
// counted, and the request has to be refused.
func (s *Store) Get(bucket string, now int64) *Counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.counters[bucket]; c != nil {
		return c
	}
	s.dropIdleLocked(looksUsual, now-keepIdle)
	if len(s.counters) >= s.max {
		s.dropIdleLocked(looksFull, now)
	}
	if len(s.counters) >= s.max {
		return nil
	}
	s.made++
	c := &Counter{number: s.made, keepUntil: now + keepUnused}
	s.counters[bucket] = c
	return c
}

// dropIdleLocked looks at some counters, which Go's map picks, and drops those
// that were idle at the time now.
func (s *Store) dropIdleLocked(looks int, now int64) {
	for bucket, c := range s.counters {
		if looks == 0 {
			return
		}
		looks--
		c.Lock()
		if c.keepUntil <= now && idle(c, now) {
			drop(c)
			delete(s.counters, bucket)
		}
		c.Unlock()
	}
}

// Len returns how many counters there are.
func (s *Store) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.counters)
}
