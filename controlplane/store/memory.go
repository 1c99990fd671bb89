package store

import (
	"context"
	"errors"
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
	entries map[string]entry // with a keeper, only its goroutine changes them
	used    size
	version int64     // the last that was given
	read    time.Time // what now told last
	latest  time.Time // the store's time as last told
	swept   time.Time
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

// GetChanged is Get without the data of what still has the version that is known.
func (m *Memory) GetChanged(ctx context.Context, known ...Known) ([]Value, time.Time, error) {
	values, now, err := m.Get(ctx, keysOf(known)...)
	for i := range values {
		if known[i].is(values[i].Version) {
			values[i].Data = nil
		}
	}
	return values, now, err
}

// keysOf returns the keys of what is known.
func keysOf(known []Known) []string {
	keys := make([]string, len(known))
	for i := range known {
		keys[i] = known[i].Key
	}
	return keys
}

// is reports whether what is known has a version.
func (k *Known) is(version int64) bool { return version != 0 && k.Version == version }

// Swap makes each change whose key still has the version that it names. In a Memory
// with a file it returns when that is on the disk, and no Get tells of it before.
// While the file cannot be written it fails.
func (m *Memory) Swap(ctx context.Context, changes ...Change) ([]int64, error) {
	if err := checkChanges(changes); err != nil {
		return nil, err
	}
	if m.keeper != nil {
		return m.keeper.swap(ctx, changes)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return nil, err
	}
	b := m.beginLocked()
	made, err := b.swap(changes)
	m.applyLocked(b)
	return made, err
}

// Close ends the use of the store and of its file. What Swap was answered is in the
// file already, so it fails, and lets go of nothing, if the disk does not answer for
// some seconds. Closing twice does nothing.
func (m *Memory) Close() error {
	m.mu.Lock()
	closed := m.closed
	m.closed = true
	m.mu.Unlock()
	if closed {
		return nil
	}
	if m.keeper != nil {
		return m.keeper.end()
	}
	return nil
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
