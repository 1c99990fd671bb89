package store

import (
	"fmt"
	"time"
)

// sweepMost is how many entries, at most, one batch takes away because their time has
// passed.
const sweepMost = 10_000

// batch is what several Swaps change in a Memory: all at a stroke, or not at all.
// Until it is applied, nobody sees it.
type batch struct {
	memory  *Memory
	now     time.Time
	entries map[string]entry // by key, as they will be; of version 0 if away
	used    size             // of the Memory, afterwards
	version int64            // the last that was given
}

// beginLocked returns a batch that takes away some of what has expired, now and then.
func (m *Memory) beginLocked() *batch {
	b := &batch{memory: m, now: m.timeLocked(), entries: map[string]entry{}, used: m.used, version: m.version}
	if b.now.Sub(m.swept) >= sweepEvery {
		b.sweep()
	}
	return b
}

// applyLocked makes the changes of a batch. None may have been applied since it began.
func (m *Memory) applyLocked(b *batch) {
	for key, e := range b.entries {
		if e.Version == 0 {
			delete(m.entries, key)
		} else {
			m.entries[key] = e
		}
	}
	m.used, m.version = b.used, b.version
}

// swap makes each change whose key still has the version that it names. After an
// error, those before it are part of the batch.
func (b *batch) swap(changes []Change) ([]int64, error) {
	made := make([]int64, len(changes))
	for i, c := range changes {
		old := b.at(c.Key)
		if old.expired(b.now) {
			old = entry{}
		}
		if old.Version != c.Version {
			continue
		}
		if err := b.change(c); err != nil {
			return nil, err
		}
		if made[i] = Gone; c.Data != nil {
			made[i] = b.version
		}
	}
	return made, nil
}

// change makes a change.
func (b *batch) change(c Change) error {
	if c.Data == nil {
		b.put(c.Key, entry{})
		return nil
	}
	if !b.fits(c) {
		if b.now.Sub(b.memory.swept) >= sweepFullEvery {
			b.sweep()
		}
		if !b.fits(c) {
			room := b.memory.room
			return fmt.Errorf("%w: it holds %d entries of %d bytes, and may hold %d of %d", ErrFull, b.used.entries, b.used.bytes, room.entries, room.bytes)
		}
	}
	b.version++
	e := entry{Value: Value{Data: c.Data, Version: b.version}}
	if c.TTL > 0 {
		e.until = b.now.Add(c.TTL)
	}
	b.put(c.Key, e)
	return nil
}

// at returns the entry of a key, also if its time has passed.
func (b *batch) at(key string) entry {
	if e, changed := b.entries[key]; changed {
		return e
	}
	return b.memory.entries[key]
}

// fits says whether there is room for a change. What makes room always fits.
func (b *batch) fits(c Change) bool {
	old := b.at(c.Key)
	if old.Version != 0 && len(c.Data) <= len(old.Data) {
		return true
	}
	after := b.used.without(c.Key, old)
	after.entries++
	after.bytes += len(c.Key) + len(c.Data)
	room := b.memory.room
	return after.entries <= room.entries && after.bytes <= room.bytes
}

// put puts an entry in the place of another, or takes that away.
func (b *batch) put(key string, e entry) {
	old := b.at(key)
	if old.Version == 0 && e.Version == 0 {
		return
	}
	b.used = b.used.without(key, old)
	if e.Version != 0 {
		b.used = b.used.with(key, e)
	}
	b.entries[key] = e
}

func (s size) with(key string, e entry) size {
	return size{s.entries + 1, s.bytes + len(key) + len(e.Data)}
}

func (s size) without(key string, e entry) size {
	if e.Version == 0 {
		return s
	}
	return size{s.entries - 1, s.bytes - len(key) - len(e.Data)}
}

// sweep takes away what has expired. If that is much, the next batch goes on.
func (b *batch) sweep() {
	swept := 0
	for key := range b.memory.entries {
		if !b.at(key).expired(b.now) {
			continue
		}
		if swept++; swept > sweepMost {
			return
		}
		b.put(key, entry{})
	}
	b.memory.swept = b.now
}
