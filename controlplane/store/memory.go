package store

import (
	"context"
	"sync"
	"time"
)

// sweepEvery is how often a Memory looks for values whose time has passed, apart
// from those that are asked for.
const sweepEvery = time.Minute

// Memory is a store in the memory of one control plane.
type Memory struct {
	now func() time.Time

	mu      sync.Mutex
	entries map[string]entry
	version int64     // the last that was given
	latest  time.Time // the store's time as last told
	swept   time.Time
	closed  bool
}

type entry struct {
	Value
	until time.Time // zero is for ever
}

// NewMemory returns an empty store that takes the time from now; nil means
// time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, entries: map[string]entry{}}
}

// Get returns the values of keys, and the store's time.
func (m *Memory) Get(ctx context.Context, keys ...string) ([]Value, time.Time, error) {
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

// Swap makes each change whose key still has the version that it names.
func (m *Memory) Swap(ctx context.Context, changes ...Change) ([]bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.usableLocked(ctx); err != nil {
		return nil, err
	}
	now := m.timeLocked()
	m.sweepLocked(now)
	made := make([]bool, len(changes))
	for i, c := range changes {
		if m.findLocked(c.Key, now).Version != c.Version {
			continue
		}
		made[i] = true
		if c.Data == nil {
			delete(m.entries, c.Key)
			continue
		}
		m.version++
		e := entry{Value: Value{Data: c.Data, Version: m.version}}
		if c.TTL > 0 {
			e.until = now.Add(c.TTL)
		}
		m.entries[c.Key] = e
	}
	return made, nil
}

// Close forgets everything.
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed, m.entries = true, nil
	return nil
}

func (m *Memory) usableLocked(ctx context.Context) error {
	if m.closed {
		return ErrClosed
	}
	return ctx.Err()
}

// timeLocked returns the time, which stands still where the clock goes back.
func (m *Memory) timeLocked() time.Time {
	if now := m.now(); now.After(m.latest) {
		m.latest = now
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

// sweepLocked lets go of values whose time has passed, if it is due.
func (m *Memory) sweepLocked(now time.Time) {
	if now.Sub(m.swept) < sweepEvery {
		return
	}
	m.swept = now
	for key, e := range m.entries {
		if e.expired(now) {
			delete(m.entries, key)
		}
	}
}
