package ledger

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

const (
	// recordTTL is how long the store remembers a gateway that reports nothing
	// any more. One that comes back later than that begins anew.
	recordTTL = 24 * time.Hour
	// remembered is of how many reports of a gateway the store tells who took them.
	// Doubts about earlier ones stay.
	remembered = 30
	// askEvery is how often the store is asked how it is if nobody else asks.
	askEvery = 5 * time.Second
	// wellAfter is for how long nothing must have failed for the store to be well
	// again: one that is full can still be read.
	wellAfter = askEvery
	// maxForeign is of how many keys with something foreign under them the log tells
	// at a time.
	maxForeign = 1_000
)

// record is what the store holds of one gateway.
type record struct {
	// Taken are the last reports that were taken, the newest first.
	Taken []taken `json:"taken"`
}

// taken says which attempt has taken a report.
type taken struct {
	Sequence int64  `json:"sequence"`
	Attempt  string `json:"attempt"`
}

// last returns the sequence number of the newest report; 0 before the first.
func (r record) last() int64 {
	if len(r.Taken) == 0 {
		return 0
	}
	return r.Taken[0].Sequence
}

// reaches reports whether the record would tell who has taken the report of a
// sequence number that is not higher than the last.
func (r record) reaches(sequence int64) bool {
	return len(r.Taken) < remembered || r.Taken[len(r.Taken)-1].Sequence <= sequence
}

// has reports whether one of the attempts has taken the report.
func (r record) has(sequence int64, attempts ...string) bool {
	for _, t := range r.Taken {
		for _, attempt := range attempts {
			if t.Sequence == sequence && t.Attempt == attempt {
				return true
			}
		}
	}
	return false
}

// with returns the record after one more report.
func (r record) with(sequence int64, attempt string) record {
	next := append(make([]taken, 0, remembered), taken{Sequence: sequence, Attempt: attempt})
	return record{Taken: append(next, r.Taken[:min(len(r.Taken), remembered-1)]...)}
}

// newProcess returns a name that no other control plane has.
func newProcess() string { return rand.Text()[:13] }

func recordKey(instance string) string { return "report:" + instance }

// read returns the record of a gateway and its version.
func (l *Ledger) read(ctx context.Context, instance string) (record, int64, error) {
	values, _, err := l.store.Get(ctx, recordKey(instance))
	if err := l.noteStore(err); err != nil {
		return record{}, 0, err
	}
	if err := l.noteForeign(instance, values[0].Err); err != nil {
		return record{}, 0, err
	}
	return l.decode(instance, values[0]), values[0].Version, nil
}

// readAll returns the records of gateways, by instance: of all but those that have
// something foreign in their place. Without any it only asks the store how it is.
func (l *Ledger) readAll(ctx context.Context, instances []string) (map[string]record, error) {
	keys := make([]string, len(instances))
	for i, instance := range instances {
		keys[i] = recordKey(instance)
	}
	values, _, err := l.store.Get(ctx, keys...)
	if err := l.noteStore(err); err != nil {
		return nil, err
	}
	records := make(map[string]record, len(values))
	for i, v := range values {
		if l.noteForeign(instances[i], v.Err) == nil {
			records[instances[i]] = l.decode(instances[i], v)
		}
	}
	return records, nil
}

// noteForeign tells that the store has something in the place of a gateway's record
// that no control plane has written, once, and that it is gone. It returns the error
// as one of ours: it is for this gateway alone.
func (l *Ledger) noteForeign(instance string, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch known := l.foreign[instance]; {
	case err == nil && known:
		delete(l.foreign, instance)
		l.log.Info("the reports of the gateway can be taken again", "key", recordKey(instance))
	case err != nil && !known && len(l.foreign) < maxForeign:
		l.foreign[instance] = true
		l.log.Error("no report of the gateway is taken until what something else has written is taken out of the store", "key", recordKey(instance), "error", err)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	return nil
}

// decode returns the record that a value holds. One that cannot be read is as
// good as none: somebody else has written it.
func (l *Ledger) decode(instance string, v store.Value) record {
	var rec record
	if v.Version == 0 {
		return rec
	}
	if err := json.Unmarshal(v.Data, &rec); err != nil {
		l.log.Error("the store holds a record that is none: the gateway begins anew", "key", recordKey(instance), "error", err)
		return record{}
	}
	return rec
}

// write puts the record of a gateway in the place of the one with that version,
// and reports whether that was still there.
func (l *Ledger) write(ctx context.Context, instance string, version int64, rec record) (bool, error) {
	data, err := json.Marshal(rec)
	if err != nil {
		return false, fmt.Errorf("encoding record: %w", err)
	}
	made, err := l.store.Swap(ctx, store.Change{Key: recordKey(instance), Version: version, Data: data, TTL: recordTTL})
	if err := l.noteStore(err); err != nil {
		return false, err
	}
	return made[0] != 0, nil
}

// noteStore notes whether the store has answered, tells when that changes for longer
// than a moment, and returns the error as one of ours.
func (l *Ledger) noteStore(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	h, now := &l.health, l.now()
	first := h.asked.IsZero()
	h.asked = now
	if err == nil {
		if h.Failure != "" && now.Sub(h.failed) < wellAfter {
			return nil
		}
		if h.Failure != "" {
			l.log.Info("the store answers again", "after", now.Sub(h.Since).Round(time.Second).String())
		}
		if h.Failure != "" || first {
			h.Failure, h.Since = "", now
		}
		return nil
	}
	h.failed = now
	if h.Failure == "" {
		h.Since = now
		l.log.Error("the store does not answer: no report is taken until it does", "error", err)
	}
	h.Failure = err.Error()
	return fmt.Errorf("%w: %w", ErrStore, err)
}
