// Package storetest tests what every store must do.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

// patience is how long a test waits for what must come; it is no delay.
const patience = 20 * time.Second

// Clients returns so many clients of one empty store, which are closed when the
// test ends. They may be the same.
type Clients func(t *testing.T, number int) []store.Store

// Run runs all tests. within runs one of them, t being its own; it may run it in
// a bubble of synctest.
func Run(t *testing.T, within func(t *testing.T, test func(t *testing.T, clients Clients))) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, clients Clients)
	}{
		{"versions", testVersions},
		{"deletion", testDeletion},
		{"absent", testAbsent},
		{"several", testSeveral},
		{"many", testMany},
		{"changed", testChanged},
		{"binary", testBinary},
		{"large", testLarge},
		{"keys", testKeys},
		{"misuse", testMisuse},
		{"counter", testCounter},
		{"first", testFirst},
		{"expiry", testExpiry},
		{"expiry renewed", testRenewed},
		{"time", testTime},
		{"contexts", testContexts},
		{"closing", testClosing},
	} {
		t.Run(test.name, func(t *testing.T) { within(t, test.run) })
	}
}

// one is a client whose errors end the test.
type one struct {
	t *testing.T
	store.Store
}

func newOne(t *testing.T, clients Clients) one {
	t.Helper()
	return one{t, clients(t, 1)[0]}
}

func (o one) get(keys ...string) []store.Value {
	o.t.Helper()
	values, _, err := o.Get(o.t.Context(), keys...)
	if err != nil {
		o.t.Fatal(err)
	}
	if len(values) != len(keys) {
		o.t.Fatalf("got %d values of %d keys", len(values), len(keys))
	}
	return values
}

func (o one) now() time.Time {
	o.t.Helper()
	_, now, err := o.Get(o.t.Context())
	if err != nil {
		o.t.Fatal(err)
	}
	return now
}

// swap makes changes, and returns which of them were made.
func (o one) swap(changes ...store.Change) []bool {
	o.t.Helper()
	versions, err := o.Swap(o.t.Context(), changes...)
	if err != nil {
		o.t.Fatal(err)
	}
	if len(versions) != len(changes) {
		o.t.Fatalf("got %d answers to %d changes", len(versions), len(changes))
	}
	made := make([]bool, len(changes))
	for i, version := range versions {
		made[i] = version != 0
		if gone := changes[i].Data == nil; made[i] && gone != (version == store.Gone) {
			o.t.Fatalf("%s: got version %d of a change with %q", changes[i].Key, version, changes[i].Data)
		}
	}
	return made
}

// changed returns the values of what is known.
func (o one) changed(known ...store.Known) []store.Value {
	o.t.Helper()
	values, now, err := o.GetChanged(o.t.Context(), known...)
	if err != nil {
		o.t.Fatal(err)
	}
	if len(values) != len(known) || now.IsZero() {
		o.t.Fatalf("got %d values of %d keys at %s", len(values), len(known), now)
	}
	return values
}

// set makes a change that must be made, and returns the version that came of it.
func (o one) set(key string, version int64, data string) int64 {
	o.t.Helper()
	made, err := o.Swap(o.t.Context(), store.Change{Key: key, Version: version, Data: []byte(data)})
	if err != nil || len(made) != 1 || made[0] == 0 {
		o.t.Fatalf("%s does not have the version %d: got %d, %v", key, version, made, err)
	}
	if next := o.want(key, data); next != made[0] {
		o.t.Fatalf("%s has the version %d, and its change was told to have %d", key, next, made[0])
	}
	return made[0]
}

// want checks what is there, and returns its version.
func (o one) want(key, data string) int64 {
	o.t.Helper()
	v := o.get(key)[0]
	if v.Version < 1 || v.Data == nil || string(v.Data) != data {
		o.t.Fatalf("%s: got version %d with %.60q, want %.60q", key, v.Version, v.Data, data)
	}
	return v.Version
}

func (o one) wantNone(key string) {
	o.t.Helper()
	if v := o.get(key)[0]; v.Version != 0 || v.Data != nil {
		o.t.Fatalf("%s: got version %d with %q, want nothing", key, v.Version, v.Data)
	}
}

// refuse checks that a change is not made.
func (o one) refuse(c store.Change) {
	o.t.Helper()
	if o.swap(c)[0] {
		o.t.Fatalf("%s was changed from version %d, which it did not have", c.Key, c.Version)
	}
}

func testVersions(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	seen := map[int64]bool{0: true}
	version := int64(0)
	for i := range 5 {
		next := o.set("key", version, fmt.Sprint(i))
		if seen[next] {
			t.Fatalf("version %d came twice", next)
		}
		seen[next] = true
		if again := o.want("key", fmt.Sprint(i)); again != next {
			t.Errorf("the version went from %d to %d without a change", next, again)
		}
		for other := range seen {
			if other != next {
				o.refuse(store.Change{Key: "key", Version: other, Data: []byte("wrong")})
				o.refuse(store.Change{Key: "key", Version: other})
			}
		}
		o.refuse(store.Change{Key: "key", Version: next + 1, Data: []byte("wrong")})
		o.want("key", fmt.Sprint(i))
		version = next
	}
}

func testDeletion(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	seen := map[int64]bool{}
	for range 3 {
		version := o.set("key", 0, "data")
		if seen[version] {
			t.Fatalf("version %d came again after it was away", version)
		}
		seen[version] = true
		if !o.swap(store.Change{Key: "key", Version: version})[0] {
			t.Fatal("was not taken away")
		}
		o.wantNone("key")
		o.refuse(store.Change{Key: "key", Version: version})
		o.refuse(store.Change{Key: "key", Version: version, Data: []byte("wrong")})
	}
	// What is not there may be taken away, as long as it is not there.
	if !o.swap(store.Change{Key: "key"})[0] {
		t.Error("nothing could not be taken away")
	}
	o.set("key", 0, "data")
	o.refuse(store.Change{Key: "key"})
	// An empty value is one.
	version := o.set("empty", 0, "")
	o.refuse(store.Change{Key: "empty", Data: []byte("wrong")})
	o.set("empty", version, "data")
}

func testAbsent(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	o.set("there", 0, "data")
	values := o.get("none", "there", "neither", "there")
	if values[0].Version != 0 || values[2].Version != 0 || values[0].Data != nil {
		t.Errorf("got %+v", values)
	}
	if string(values[1].Data) != "data" || values[1].Version != values[3].Version || string(values[3].Data) != "data" {
		t.Errorf("a key twice: got %+v", values)
	}
	if got := o.get(); len(got) != 0 {
		t.Errorf("no keys: got %+v", got)
	}
	if got := o.swap(); len(got) != 0 {
		t.Errorf("no changes: got %+v", got)
	}
	o.refuse(store.Change{Key: "none", Version: 7, Data: []byte("wrong")})
	o.wantNone("none")
}

// testSeveral makes some of several changes.
func testSeveral(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	a := o.set("a", 0, "a")
	o.set("b", 0, "b")
	made := o.swap(
		store.Change{Key: "a", Version: a, Data: []byte("A")},
		store.Change{Key: "b", Version: a, Data: []byte("wrong")},
		store.Change{Key: "c", Version: 0, Data: []byte("C")},
		store.Change{Key: "d", Version: a, Data: []byte("wrong")},
	)
	if fmt.Sprint(made) != "[true false true false]" {
		t.Errorf("got %v", made)
	}
	o.want("a", "A")
	o.want("b", "b")
	o.want("c", "C")
	o.wantNone("d")
}

func testMany(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	const many = 2500
	keys := make([]string, many)
	changes := make([]store.Change, many)
	for i := range many {
		keys[i] = fmt.Sprintf("key %d", i)
		changes[i] = store.Change{Key: keys[i], Data: fmt.Appendf(nil, "data %d", i)}
	}
	for i, made := range o.swap(changes...) {
		if !made {
			t.Fatalf("change %d was not made", i)
		}
	}
	versions := map[int64]int{}
	for i, v := range o.get(keys...) {
		if string(v.Data) != fmt.Sprintf("data %d", i) {
			t.Fatalf("key %d holds %q", i, v.Data)
		}
		changes[i] = store.Change{Key: keys[i], Version: v.Version}
		versions[v.Version]++
	}
	// Every third has another version.
	for i := range changes {
		if i%3 == 0 {
			changes[i].Version++
		}
	}
	for i, made := range o.swap(changes...) {
		if made != (i%3 != 0) {
			t.Fatalf("change %d: got %v", i, made)
		}
	}
	for i, v := range o.get(keys...) {
		if (v.Version != 0) != (i%3 == 0) {
			t.Fatalf("key %d: got %+v", i, v)
		}
	}
}

// testChanged reads what is remembered already.
func testChanged(t *testing.T, clients Clients) {
	stores := clients(t, 2)
	o, other := one{t, stores[0]}, one{t, stores[1]}
	a, b := o.set("a", 0, "a"), o.set("b", 0, "")
	known := []store.Known{{Key: "a", Version: a}, {Key: "none"}, {Key: "b", Version: b}, {Key: "a"}, {Key: "b", Version: a}, {Key: "gone", Version: a}}
	check := func(want ...string) {
		t.Helper()
		for i, v := range o.changed(known...) {
			if got := fmt.Sprintf("%q", v.Data); got != want[i] || (v.Version == 0) != (known[i].Key == "none" || known[i].Key == "gone") {
				t.Errorf("%+v: got version %d with %s, want %s", known[i], v.Version, got, want[i])
			}
			if v.Version != 0 && v.Version != map[string]int64{"a": a, "b": b}[known[i].Key] {
				t.Errorf("%+v: got version %d", known[i], v.Version)
			}
			if v.Version != 0 && v.Version != known[i].Version && v.Data == nil {
				t.Errorf("%+v: another version came without data", known[i])
			}
		}
	}
	check(`""`, `""`, `""`, `"a"`, `""`, `""`)
	a = other.set("a", a, "A")
	check(`"A"`, `""`, `""`, `"A"`, `""`, `""`)
	if got := o.changed(); len(got) != 0 {
		t.Errorf("no keys: got %+v", got)
	}
	// More than a script reads at a time, every third of which is another one.
	const many = 130
	var keys []store.Known
	for i := range many {
		key := fmt.Sprint("many", i)
		keys = append(keys, store.Known{Key: key, Version: o.set(key, 0, key)})
		if i%3 == 0 {
			other.set(key, keys[i].Version, "changed "+key)
		}
	}
	for i, v := range o.changed(keys...) {
		if changed := i%3 == 0; changed != (v.Version != keys[i].Version) || changed != (string(v.Data) == "changed "+keys[i].Key) || !changed && v.Data != nil {
			t.Errorf("%s: got version %d with %q", keys[i].Key, v.Version, v.Data)
		}
	}
}

func testBinary(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	for i, data := range []string{string(all), "\x00", "\r\n$-1\r\n", "é\u2028\ufffd", "\xff", `{"json":"<&>"}`, "0123456789abcdef"} {
		o.set(fmt.Sprint("key", i), 0, data)
		o.want(fmt.Sprint("key", i), data)
	}
}

func testLarge(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	large := strings.Repeat("0123456789abcde\n", store.MaxDataBytes/16)
	version := o.set("large", 0, large)
	o.refuse(store.Change{Key: "large", Version: version + 1, Data: []byte("wrong")})
	o.set("large", version, large[1:])
	_, err := o.Swap(t.Context(), store.Change{Key: "larger", Data: []byte(large + "x")})
	if err == nil || !strings.Contains(err.Error(), "must be at most") {
		t.Errorf("larger: got %v", err)
	}
	o.wantNone("larger")
}

func testKeys(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	keys := []string{"a", "A", "a ", "a/b", "a:b", "{a}", "{a}b", "a}", "}{", "clock", "ключ", "\x00", "\r\n", strings.Repeat("k", store.MaxKeyBytes)}
	for i, key := range keys {
		o.set(key, 0, fmt.Sprint(i))
	}
	for i, v := range o.get(keys...) {
		if string(v.Data) != fmt.Sprint(i) {
			t.Errorf("%q holds %q", keys[i], v.Data)
		}
	}
}

func testMisuse(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	for _, test := range []struct {
		name    string
		want    string
		changes []store.Change
	}{
		{"empty key", "a key is empty", []store.Change{{Data: []byte("x")}}},
		{"long key", "must have at most 1024", []store.Change{{Key: strings.Repeat("k", store.MaxKeyBytes+1)}}},
		{"no UTF-8", "is not UTF-8", []store.Change{{Key: "\xff"}}},
		{"twice", `"key" is changed twice`, []store.Change{{Key: "key", Data: []byte("x")}, {Key: "key", Data: []byte("y")}}},
		{"negative version", "version -1", []store.Change{{Key: "key", Version: -1, Data: []byte("x")}}},
		{"negative TTL", "TTL -1s", []store.Change{{Key: "key", TTL: -time.Second, Data: []byte("x")}}},
	} {
		if _, err := o.Swap(t.Context(), test.changes...); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", test.name, err, test.want)
		}
		if len(test.changes) > 1 || !strings.Contains(test.name, "key") {
			continue
		}
		if _, _, err := o.Get(t.Context(), test.changes[0].Key); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("reading, %s: got %v, want %q in it", test.name, err, test.want)
		}
	}
	o.wantNone("key")
}

// testCounter counts up from many goroutines and several clients.
func testCounter(t *testing.T, clients Clients) {
	const goroutines, each = 12, 25
	stores := clients(t, 3)
	var counting sync.WaitGroup
	for i := range goroutines {
		s := stores[i%len(stores)]
		counting.Go(func() {
			for range each {
				if err := CountUp(t.Context(), s, "counter"); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	counting.Wait()
	one{t, stores[0]}.want("counter", fmt.Sprint(goroutines*each))
}

// CountUp adds one to a number. After an error, nobody knows whether it did.
func CountUp(ctx context.Context, s store.Store, key string) error {
	for {
		values, _, err := s.Get(ctx, key)
		if err != nil {
			return fmt.Errorf("counting up: %w", err)
		}
		number := 0
		if values[0].Version != 0 {
			if _, err := fmt.Sscan(string(values[0].Data), &number); err != nil {
				return fmt.Errorf("counting up %q: %w", values[0].Data, err)
			}
		}
		made, err := s.Swap(ctx, store.Change{Key: key, Version: values[0].Version, Data: fmt.Append(nil, number+1)})
		if err != nil {
			return fmt.Errorf("counting up: %w", err)
		}
		if made[0] != 0 {
			return nil
		}
	}
}

// testFirst has many create one entry: one of them does.
func testFirst(t *testing.T, clients Clients) {
	stores := clients(t, 3)
	var first atomic.Int64
	var trying sync.WaitGroup
	for i := range 24 {
		trying.Go(func() {
			made, err := stores[i%len(stores)].Swap(t.Context(), store.Change{Key: "key", Data: fmt.Append(nil, i)})
			if err != nil {
				t.Error(err)
			} else if made[0] != 0 {
				first.Add(1)
			}
		})
	}
	trying.Wait()
	if got := first.Load(); got != 1 {
		t.Errorf("%d were first", got)
	}
}

// gone waits until a key is not there any more, and returns when it was not.
func (o one) gone(key string) time.Time {
	o.t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(5 * time.Millisecond) {
		values, now, err := o.Get(o.t.Context(), key)
		if err != nil {
			o.t.Fatal(err)
		}
		if values[0].Version == 0 {
			return now
		}
	}
	o.t.Fatalf("%s is still there", key)
	return time.Time{}
}

func testExpiry(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	const ttl = 50 * time.Millisecond
	before := o.now()
	made := o.swap(
		store.Change{Key: "short", Data: []byte("1"), TTL: ttl},
		store.Change{Key: "long", Data: []byte("2"), TTL: time.Hour},
		store.Change{Key: "ever", Data: []byte("3")},
		store.Change{Key: "least", Data: []byte("4"), TTL: 1},
	)
	if slices.Contains(made, false) {
		t.Fatalf("got %v", made)
	}
	if passed := o.gone("short").Sub(before); passed < ttl {
		t.Errorf("was gone after %s, want %s", passed, ttl)
	}
	o.gone("least")
	o.want("long", "2")
	o.want("ever", "3")
	o.refuse(store.Change{Key: "short", Version: 1, Data: []byte("wrong")})
	o.set("short", 0, "again")
}

// testRenewed changes entries before their time has passed.
func testRenewed(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	const ttl = 200 * time.Millisecond
	swap := func(key string, version int64, ttl time.Duration) int64 {
		t.Helper()
		if !o.swap(store.Change{Key: key, Version: version, Data: []byte("data"), TTL: ttl})[0] {
			t.Fatalf("%s was not changed", key)
		}
		return o.want(key, "data")
	}
	for _, key := range []string{"longer", "for ever"} {
		version := swap(key, 0, time.Minute)
		swap(key, version, map[string]time.Duration{"longer": time.Hour}[key])
	}
	shorter := swap("shorter", 0, 0)
	if !o.swap(store.Change{Key: "shorter", Version: shorter, Data: []byte("data"), TTL: ttl})[0] {
		t.Fatal("was not changed")
	}
	o.gone("shorter")
	o.want("longer", "data")
	o.want("for ever", "data")
}

// testTime checks that the time goes on and never back, for each client, and that
// it is about the same for all.
func testTime(t *testing.T, clients Clients) {
	stores := clients(t, 2)
	var asking sync.WaitGroup
	for i := range 4 {
		asking.Go(func() {
			var last time.Time
			for range 50 {
				_, now, err := stores[i%len(stores)].Get(t.Context(), "key")
				if err != nil {
					t.Error(err)
					return
				}
				if now.Before(last) {
					t.Errorf("the time went back by %s", last.Sub(now))
				}
				last = now
			}
		})
	}
	asking.Wait()
	o := one{t, stores[0]}
	first := o.now()
	for begin := time.Now(); !o.now().After(first); time.Sleep(time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatal("the time stands still")
		}
	}
	if first.Year() < 2000 {
		t.Errorf("the time is %s", first)
	}
	// One tells the time to another, who must not be far behind.
	told := o.now()
	if other := (one{t, stores[1]}).now(); other.Before(told.Add(-200 * time.Millisecond)) {
		t.Errorf("the times of two differ by %s", told.Sub(other))
	}
}

func testContexts(t *testing.T, clients Clients) {
	o := newOne(t, clients)
	o.set("key", 0, "data")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := o.Get(ended, "key"); !errors.Is(err, context.Canceled) {
		t.Errorf("reading: got %v", err)
	}
	if _, err := o.Swap(ended, store.Change{Key: "other", Data: []byte("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("changing: got %v", err)
	}
	o.wantNone("other")
	o.want("key", "data")
}

func testClosing(t *testing.T, clients Clients) {
	s := clients(t, 1)[0]
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for {
				if _, _, err := s.Get(t.Context(), "key"); err != nil {
					if !errors.Is(err, store.ErrClosed) {
						t.Errorf("while it is closed: got %v", err)
					}
					return
				}
			}
		})
	}
	if _, err := s.Swap(t.Context(), store.Change{Key: "key", Data: bytes.Repeat([]byte("x"), 100)}); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}
	asking.Wait()
	if _, _, err := s.Get(t.Context(), "key"); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
	if _, err := s.Swap(t.Context(), store.Change{Key: "key"}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
}
