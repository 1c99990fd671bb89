package server

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

const (
	// keepParts is for how long a part can be fetched after it went out of force:
	// a gateway may have begun to fetch before.
	keepParts = 5 * time.Minute
	// moreKept is how many bytes such parts may have together beyond those of
	// the table in force, so that many changes in a short time cost no memory
	// without end.
	moreKept = 64 << 20
)

// shelf holds the parts that can be fetched: those in force, and for a while
// those that were. Any number of goroutines may use it.
type shelf struct {
	mu     sync.RWMutex
	parts  map[string]*shelved
	timer  *time.Timer // that takes parts away; nil while there are none to take
	closed bool
}

type shelved struct {
	*part
	until time.Time // zero while the part is in force
}

// find returns a part that can be fetched, or nil.
func (s *shelf) find(sum string) *part {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if p := s.parts[sum]; p != nil {
		return p.part
	}
	return nil
}

// put makes parts the ones in force.
func (s *shelf) put(parts []*part) {
	s.mu.Lock()
	defer s.mu.Unlock()
	inForce := make(map[string]bool, len(parts))
	if s.parts == nil {
		s.parts = make(map[string]*shelved, len(parts))
	}
	for _, p := range parts {
		inForce[p.sum] = true
		s.parts[p.sum] = &shelved{part: p}
	}
	until := time.Now().Add(keepParts)
	for sum, p := range s.parts {
		if !inForce[sum] && p.until.IsZero() {
			p.until = until
		}
	}
	s.clearLocked()
}

// clear takes away what need not be kept any longer.
func (s *shelf) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timer = nil
	s.clearLocked()
}

// clearLocked also arms the timer for what is left.
func (s *shelf) clearLocked() {
	now, room := time.Now(), moreKept
	var old []*shelved
	for _, p := range s.parts {
		if p.until.IsZero() {
			room += len(p.zipped)
		} else {
			old = append(old, p)
		}
	}
	slices.SortFunc(old, func(a, b *shelved) int { // the youngest first
		return cmp.Or(b.until.Compare(a.until), cmp.Compare(a.sum, b.sum))
	})
	for i, p := range old {
		if room -= len(p.zipped); room < 0 || !p.until.After(now) {
			for _, p := range old[i:] {
				delete(s.parts, p.sum)
			}
			old = old[:i]
			break
		}
	}
	if len(old) > 0 && s.timer == nil && !s.closed {
		s.timer = time.AfterFunc(old[len(old)-1].until.Sub(now), s.clear)
	}
}

// close ends what the shelf does by itself.
func (s *shelf) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
}
