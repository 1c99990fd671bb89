package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	// sweepEvery is how often a Memory looks for values whose time has passed,
	// apart from those that are asked for; more often while it is full.
	sweepEvery     = time.Minute
	sweepFullEvery = time.Second
	// maxEntries and maxBytes bound what a Memory holds, keys included.
	maxEntries = 1 << 20
	maxBytes   = 1 << 30
)

// ErrFull says that a Memory has no room for a change.
var ErrFull = errors.New("the store is full")

// Memory is a store in the memory of one control plane. A Memory that
// OpenMemory makes is kept in a file.
type Memory struct {
	now func() time.Time
	// room is how many entries and bytes there may be.
	room size

	mu      sync.Mutex
	entries map[string]entry
	used    size
	version int64     // the last that was given
	read    time.Time // what now told last
	latest  time.Time // the store's time as last told
	swept   time.Time
	changed bool // since it was last kept
	closed  bool

	keeper *keeper // nil if it is kept nowhere
}

type entry struct {
	Value
	until time.Time // zero is for ever
}

type size struct{ entries, bytes int }

// NewMemory returns an empty store that takes the time from now; nil means
// time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, room: size{maxEntries, maxBytes}, entries: map[string]entry{}}
}

// Get returns the values of keys, and the store's time.
func (m *Memory) Get(ctx context.Context, keys ...string) ([]Value, time.Time, error) {
	if err := checkKeys(keys); err != nil {
		return nil, time.Time{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return nil, time.Time{}, err
	}
	now := m.timeLocked()
	values := make([]Value, len(keys))
	for i, key := range keys {
		values[i] = m.findLocked(key, now)
	}
	return values, now, nil
}

// Swap makes each change whose key still has the version that it names. It does
// not wait for the file.
func (m *Memory) Swap(ctx context.Context, changes ...Change) ([]bool, error) {
	if err := checkChanges(changes); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return nil, err
	}
	now := m.timeLocked()
	if now.Sub(m.swept) >= sweepEvery {
		m.sweepLocked(now)
	}
	made := make([]bool, len(changes))
	for i, c := range changes {
		if m.findLocked(c.Key, now).Version != c.Version {
			continue
		}
		if err := m.changeLocked(c, now); err != nil {
			return nil, err
		}
		made[i] = true
	}
	return made, nil
}

// changeLocked makes a change.
func (m *Memory) changeLocked(c Change, now time.Time) error {
	if !m.fitsLocked(c) {
		if now.Sub(m.swept) >= sweepFullEvery {
			m.sweepLocked(now)
		}
		if !m.fitsLocked(c) {
			return fmt.Errorf("%w: it holds %d entries of %d bytes, and may hold %d of %d", ErrFull, m.used.entries, m.used.bytes, m.room.entries, m.room.bytes)
		}
	}
	m.dropLocked(c.Key)
	m.markLocked()
	if c.Data == nil {
		return nil
	}
	m.version++
	e := entry{Value: Value{Data: c.Data, Version: m.version}}
	if c.TTL > 0 {
		e.until = now.Add(c.TTL)
	}
	m.putLocked(c.Key, e)
	return nil
}

// fitsLocked says whether there is room for a change. What makes room always
// fits.
func (m *Memory) fitsLocked(c Change) bool {
	old, had := m.entries[c.Key]
	if c.Data == nil || had && len(c.Data) <= len(old.Data) {
		return true
	}
	after := m.used
	if had {
		after.bytes += len(c.Data) - len(old.Data)
	} else {
		after.entries++
		after.bytes += len(c.Key) + len(c.Data)
	}
	return after.entries <= m.room.entries && after.bytes <= m.room.bytes
}

func (m *Memory) putLocked(key string, e entry) {
	m.entries[key] = e
	m.used.entries++
	m.used.bytes += len(key) + len(e.Data)
}

func (m *Memory) dropLocked(key string) {
	if e, had := m.entries[key]; had {
		delete(m.entries, key)
		m.used.entries--
		m.used.bytes -= len(key) + len(e.Data)
	}
}

// Close forgets everything, once it is in the file. Closing twice does nothing.
func (m *Memory) Close() error {
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	m.mu.Unlock()
	if closed {
		return nil
	}
	var err error
	if m.keeper != nil {
		err = m.keeper.end()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.entries, m.used = nil, size{}
	return err
}

func (m *Memory) usableLocked(ctx context.Context) error {
	if m.closed {
		return ErrClosed
	}
	return ctx.Err()
}

// timeLocked returns the time. It goes on as the clock does, also after the clock
// was set back; a clock that is set forward takes it along.
func (m *Memory) timeLocked() time.Time {
	read := m.now()
	if passed := read.Sub(m.read); passed > 0 && !m.read.IsZero() {
		m.latest = m.latest.Add(passed)
	}
	m.read = read
	if wall := read.Round(0).UTC(); wall.After(m.latest) {
		m.latest = wall
	}
	return m.latest
}

// findLocked returns the value of a key, unless its time has passed.
func (m *Memory) findLocked(key string, now time.Time) Value {
	e := m.entries[key]
	if e.expired(now) {
		return Value{}
	}
	return e.Value
}

func (e entry) expired(now time.Time) bool { return !e.until.IsZero() && !now.Before(e.until) }

// sweepLocked lets go of values whose time has passed.
func (m *Memory) sweepLocked(now time.Time) {
	m.swept = now
	for key, e := range m.entries {
		if e.expired(now) {
			m.dropLocked(key)
		}
	}
}

// markLocked has the file written.
func (m *Memory) markLocked() {
	if m.keeper != nil && !m.changed {
		m.changed = true
		m.keeper.wake()
	}
}
