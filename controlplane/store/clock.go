package store

import (
	"sync"
	"time"
)

// What a store may have lost, as logs tell it.
const (
	lostAll  = "everything that it held, as after a restart without its data: limits begin anew"
	lostLast = "what was written last, as after a failover: some of it counts for nothing"
)

// clock sees to it that the time that a server tells does not go back, and notices
// when the server has forgotten something. Any number of goroutines may use it.
type clock struct {
	mu     sync.Mutex
	latest time.Time // the latest that was told
	memory memory
}

// memory is what is known of what the server remembers.
type memory struct {
	epoch  string // "" if nothing is known
	mark   time.Time
	losses int // so many have been noticed
}

// reading is what the server told.
type reading struct {
	now, mark time.Time
	epoch     string
}

// known returns what take needs to know of the time before the server was asked.
func (c *clock) known() memory {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.memory
}

// take returns the time after a reading, which was asked for when so much was
// known. It tells what the server has lost, once for each time.
func (c *clock) take(known memory, told reading) (now time.Time, lost string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if told.now.After(c.latest) {
		c.latest = told.now
	}
	switch {
	case known.losses != c.memory.losses:
		// Asked before the last loss was noticed: what it tells is no news.
		return c.latest, ""
	case known.epoch != "" && known.epoch != told.epoch:
		lost = lostAll
	case known.mark.After(told.mark):
		lost = lostLast
	case told.mark.After(c.memory.mark):
		c.memory.epoch, c.memory.mark = told.epoch, told.mark
	}
	if lost != "" {
		c.memory = memory{epoch: told.epoch, mark: told.mark, losses: c.memory.losses + 1}
	}
	return c.latest, lost
}
