package store

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed swap.lua
var swapText string

//go:embed changed.lua
var changedText string

//go:embed clock.lua
var clockText string

var (
	swapScript    = redis.NewScript(swapText)
	changedScript = redis.NewScript(changedText)
	clockScript   = redis.NewScript(clockText)
)

// versionDigits is how many hexadecimal digits of version stand before the data.
const versionDigits = 16

// Redis is a store in a Redis or Valkey server, one that sentinels watch over, or
// a cluster. Several control planes may share it.
//
// Each call takes at most the time that the address allows. Within that, what
// failed is tried again if that can help. A change of which the answer was lost
// is sent again, too: it is made once, and if it cannot be told any more whether
// it was, because the entry has changed since, Swap returns an error.
type Redis struct {
	address Address
	servers servers
	log     *slog.Logger
	clock   clock
	closed  atomic.Bool
	advised atomic.Bool
}

// newRedis returns the store at an address, without asking it.
func newRedis(a Address, o Options) *Redis {
	return &Redis{address: a, servers: newServers(a, o), log: o.Log}
}

// entryKey is what a key is called there. The braces give each key a slot of a
// cluster by itself.
func (r *Redis) entryKey(key string) string { return r.address.prefix + ":{" + key + "}" }

// clockKey is no entryKey of any key.
func (r *Redis) clockKey() string { return r.address.prefix + ":clock" }

// Get returns the values of keys, and the store's time. Of a cluster, that is the
// time of one of its nodes.
func (r *Redis) Get(ctx context.Context, keys ...string) ([]Value, time.Time, error) {
	known := make([]Known, len(keys))
	for i, key := range keys {
		known[i].Key = key
	}
	return r.GetChanged(ctx, known...)
}

// GetChanged is Get without the data of what still has the version that is known: it
// is not sent.
func (r *Redis) GetChanged(ctx context.Context, keys ...Known) ([]Value, time.Time, error) {
	if err := checkKeys(keysOf(keys)); err != nil {
		return nil, time.Time{}, err
	}
	if r.closed.Load() {
		return nil, time.Time{}, ErrClosed
	}
	requests := make([]*request, 0, len(keys)+1)
	for _, k := range keys {
		read := &request{key: r.entryKey(k.Key)}
		if k.Version != 0 {
			read.script, read.arguments = changedScript, []any{versionText(k.Version)}
		}
		requests = append(requests, read)
	}
	// After the values: no value has a later time in it, if it is from one server.
	known := r.clock.known()
	asked := &request{key: r.clockKey(), script: clockScript, arguments: []any{newEpoch()}}
	requests = append(requests, asked)
	if err := r.do(ctx, requests); err != nil {
		return nil, time.Time{}, r.failed("reading", err)
	}
	values := make([]Value, len(keys))
	for i := range keys {
		var err error
		if values[i], err = parseEntry(requests[i], keys[i].Version); err != nil {
			values[i] = Value{Err: r.failed("reading", err)}
		}
	}
	told, err := parseClock(asked.answer)
	if err != nil {
		return nil, time.Time{}, r.failed("reading the clock", err)
	}
	now, lost := r.clock.take(known, told)
	if lost != "" {
		r.log.Error("the store has lost "+lost, "store", r.address.String())
	}
	r.advise(ctx)
	return values, now, nil
}

// Swap makes each change whose key still has the version that it names.
func (r *Redis) Swap(ctx context.Context, changes ...Change) ([]int64, error) {
	if err := checkChanges(changes); err != nil {
		return nil, err
	}
	if r.closed.Load() {
		return nil, ErrClosed
	}
	requests, versions := make([]*request, len(changes)), make([]int64, len(changes))
	for i, c := range changes {
		expected := ""
		if c.Version != 0 {
			expected = versionText(c.Version)
		}
		var entry []byte
		entry, versions[i] = newEntry(c)
		requests[i] = &request{
			key: r.entryKey(c.Key), script: swapScript, size: len(c.Data),
			arguments: []any{expected, entry, milliseconds(c.TTL)},
		}
	}
	if err := r.do(ctx, requests); err != nil {
		return nil, r.failed("changing", err)
	}
	made := make([]int64, len(changes))
	for i, request := range requests {
		switch {
		case request.answer == int64(1):
			made[i] = versions[i]
		case request.answer != int64(0):
			return nil, r.failed("changing", fmt.Errorf("key %q: got the answer %v, want 0 or 1", changes[i].Key, request.answer))
		case request.unanswered:
			return nil, r.failed("changing", fmt.Errorf("key %q: an answer was lost, and the entry is another one now", changes[i].Key))
		}
	}
	return made, nil
}

// Close ends all connections. Closing twice does nothing.
func (r *Redis) Close() error {
	if r.closed.Swap(true) {
		return nil
	}
	return r.servers.Close()
}

// failed says where an error happened.
func (r *Redis) failed(doing string, err error) error {
	return fmt.Errorf("store %s: %s: %w", r.address, doing, err)
}

func versionText(version int64) string { return fmt.Sprintf("%016x", version) }

// newEntry returns what a change stores, and its version. That is drawn: a number that
// is counted up would come again after the entry was away.
func newEntry(c Change) (entry []byte, version int64) {
	if c.Data == nil {
		return nil, Gone
	}
	var random [8]byte
	rand.Read(random[:]) // It never fails.
	version = int64(binary.BigEndian.Uint64(random[:])>>1) | 1
	return append([]byte(versionText(version)), c.Data...), version
}

// milliseconds are at least one, unless there are none at all.
func milliseconds(ttl time.Duration) string {
	whole := int64(ttl / time.Millisecond)
	if ttl%time.Millisecond > 0 {
		whole++
	}
	return strconv.FormatInt(whole, 10)
}

// unchanged is what changed.lua answers for an entry that has the version that is known.
const unchanged = int64(1)

// parseEntry returns the value that a request was answered with. It has no data if it
// still has the version that was known.
func parseEntry(r *request, known int64) (Value, error) {
	switch r.answer {
	case nil:
		return Value{}, nil
	case unchanged:
		return Value{Version: known}, nil
	}
	text, ok := r.answer.(string)
	if !ok || len(text) < versionDigits {
		return Value{}, fmt.Errorf("%s holds what tollgate has not written", r.key)
	}
	version, err := strconv.ParseInt(text[:versionDigits], 16, 64)
	if err != nil || version < 1 {
		return Value{}, fmt.Errorf("%s holds what tollgate has not written", r.key)
	}
	return Value{Data: []byte(text[versionDigits:]), Version: version}, nil
}

// newEpoch returns a name that no store had.
func newEpoch() string {
	var random [8]byte
	rand.Read(random[:]) // It never fails.
	return hex.EncodeToString(random[:])
}

// parseClock reads what clock.lua answers.
func parseClock(answer any) (reading, error) {
	parts, ok := answer.([]any)
	if !ok || len(parts) != 3 {
		return reading{}, errors.New("got an answer that is no time")
	}
	now, isTime := parts[0].(int64)
	mark, isMark := parts[1].(int64)
	epoch, isEpoch := parts[2].(string)
	if !isTime || !isMark || !isEpoch {
		return reading{}, errors.New("got an answer that is no time")
	}
	return reading{now: time.UnixMicro(now), mark: time.UnixMicro(mark), epoch: epoch}, nil
}
