package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
	"github.com/tollgate-apim/tollgate/controlplane/store/storetest"
)

// patience is how long a test waits for what must come; it is no delay.
const patience = 30 * time.Second

// quick is for stores that are to give up soon.
const quick = "timeout=1.2s"

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write is for the log.
func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) options() store.Options {
	return store.Options{Log: slog.New(slog.NewTextHandler(j, nil))}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// get returns what is under a key.
func get(t *testing.T, s store.Store, key string) store.Value {
	t.Helper()
	values, _, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return values[0]
}

// set changes an entry, whatever its version, and returns the new one.
func set(t *testing.T, s store.Store, key, data string) store.Value {
	t.Helper()
	made, err := s.Swap(t.Context(), store.Change{Key: key, Version: get(t, s, key).Version, Data: []byte(data)})
	if err != nil || made[0] == 0 {
		t.Fatalf("setting %s: %v, %v", key, made, err)
	}
	return get(t, s, key)
}

// recovers waits until a store answers again.
func recovers(t *testing.T, s store.Store, keys ...string) {
	t.Helper()
	var err error
	for begin := time.Now(); time.Since(begin) < patience; time.Sleep(10 * time.Millisecond) {
		if _, _, err = s.Get(t.Context(), keys...); err == nil {
			return
		}
	}
	t.Fatalf("it does not recover: %v", err)
}

// gaveUp checks that an error tells that there was no answer in time.
func gaveUp(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "no good answer within 1.2s") {
		t.Fatalf("%s: got %v, want that there was no answer", what, err)
	}
}

func TestLostAnswers(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Address)
	s := open(t, "redis://"+p.address, store.Options{})
	direct := open(t, "redis://"+server.Address, store.Options{})
	swap := func(key string, version int64, data []byte) (bool, error) {
		made, err := s.Swap(t.Context(), store.Change{Key: key, Version: version, Data: data})
		return err == nil && made[0] != 0, err
	}
	nothing := func() {}

	// What was made is known to be made.
	first := set(t, s, "key", "one")
	p.loseNext(nothing)
	if made, err := swap("key", first.Version, []byte("two")); !made {
		t.Errorf("changing: got %v, want that it was made", err)
	}
	p.loseNext(nothing)
	if made, err := swap("new", 0, []byte("one")); !made {
		t.Errorf("creating: got %v, want that it was made", err)
	}
	if got := string(get(t, direct, "key").Data) + string(get(t, direct, "new").Data); got != "twoone" {
		t.Errorf("there is %q", got)
	}
	// What was not made is known, unless it could have been.
	p.onAnswer(nil)
	if made, err := swap("key", first.Version, []byte("three")); made || err != nil {
		t.Errorf("another version: got %v, %v", made, err)
	}
	current := get(t, s, "key").Version
	p.loseNext(func() { set(t, direct, "key", "other") })
	if made, err := swap("key", current, []byte("three")); err == nil || !strings.Contains(err.Error(), "an answer was lost, and the entry is another one now") {
		t.Errorf("changed by another in between: got %v, %v", made, err)
	}
	p.loseNext(nothing)
	if made, err := swap("key", get(t, direct, "key").Version, nil); err == nil {
		t.Errorf("taken away: got %v, want an error: it may have been another's", made)
	}
	if v := get(t, direct, "key"); v.Version != 0 {
		t.Errorf("it is still there: %+v", v)
	}
	// Reading does not mind.
	p.loseNext(nothing)
	if got := string(get(t, s, "new").Data); got != "one" {
		t.Errorf("read %q", got)
	}
}

// tally counts up from several goroutines, until stop.
type tally struct {
	sure, unsure atomic.Int64
	end          context.CancelFunc
	counting     sync.WaitGroup
}

func startTally(t *testing.T, stores ...store.Store) *tally {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &tally{end: cancel}
	for _, s := range stores {
		for range 2 {
			c.counting.Go(func() {
				for ctx.Err() == nil {
					if err := storetest.CountUp(context.WithoutCancel(ctx), s, "counter"); err == nil {
						c.sure.Add(1)
					} else {
						c.unsure.Add(1)
					}
				}
			})
		}
	}
	t.Cleanup(c.stop)
	return c
}

func (c *tally) stop() {
	c.end()
	c.counting.Wait()
}

// more waits until it counts on.
func (c *tally) more(t *testing.T, number int64) {
	t.Helper()
	wanted := c.sure.Load() + number
	for begin := time.Now(); c.sure.Load() < wanted; time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > patience {
			t.Fatalf("counting does not go on, at %d sure and %d unsure", c.sure.Load(), c.unsure.Load())
		}
	}
}

// check compares the counter with what was counted.
func (c *tally) check(t *testing.T, s store.Store) {
	t.Helper()
	c.stop()
	number := int64(0)
	if _, err := fmt.Sscan(string(get(t, s, "counter").Data), &number); err != nil {
		t.Fatal(err)
	}
	sure, unsure := c.sure.Load(), c.unsure.Load()
	if number < sure || number > sure+unsure {
		t.Errorf("counted to %d, after %d that were made and %d that may have been", number, sure, unsure)
	}
	t.Logf("counted to %d, %d sure and %d unsure", number, sure, unsure)
}

// TestManyLostAnswers counts exactly while answers get lost.
func TestManyLostAnswers(t *testing.T) {
	server := redistest.Start(t)
	stores := make([]store.Store, 3)
	for i := range stores {
		p := newProxy(t, server.Address)
		stores[i] = open(t, "redis://"+p.address, store.Options{})
		recovers(t, stores[i])
		p.onAnswer(func() bool { return rand.IntN(10) > 0 })
	}
	c := startTally(t, stores...)
	c.more(t, 300)
	c.check(t, open(t, "redis://"+server.Address, store.Options{}))
}

func TestKilled(t *testing.T) {
	server := redistest.Start(t)
	var j journal
	s := open(t, "redis://"+server.Address+"?"+quick, j.options())
	before := set(t, s, "key", "one")
	_, then, err := s.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	_, _, err = s.Get(t.Context(), "key")
	gaveUp(t, "reading", err)
	if !strings.Contains(err.Error(), "connection refused") || !strings.Contains(err.Error(), server.Address) {
		t.Errorf("got %v, want what was wrong, and where", err)
	}
	_, err = s.Swap(t.Context(), store.Change{Key: "key", Version: before.Version, Data: []byte("two")})
	gaveUp(t, "changing", err)

	server.Restart()
	recovers(t, s)
	if v := get(t, s, "key"); v.Version != 0 {
		t.Errorf("it remembers %+v", v)
	}
	if got := j.String(); strings.Count(got, "the store has lost everything") != 1 {
		t.Errorf("logged %s, want once that everything is lost", got)
	}
	// Who remembers a version from before cannot take the new entry for that.
	set(t, s, "key", "new")
	if made, err := s.Swap(t.Context(), store.Change{Key: "key", Version: before.Version, Data: []byte("old")}); err != nil || made[0] != 0 {
		t.Errorf("an old version: got %v, %v", made, err)
	}
	if _, now, err := s.Get(t.Context()); err != nil || now.Before(then) {
		t.Errorf("the time went from %s to %s, %v", then, now, err)
	}
}

// TestKilledWithFile restarts a server that writes each change to its disk: there
// nothing is lost.
func TestKilledWithFile(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	var j journal
	stores := make([]store.Store, 3)
	for i := range stores {
		stores[i] = open(t, "redis://"+server.Address+"?"+quick, j.options())
	}
	c := startTally(t, stores...)
	for range 3 {
		c.more(t, 20)
		server.Kill()
		server.Restart()
	}
	c.more(t, 20)
	c.check(t, stores[0])
	if got := j.String(); got != "" {
		t.Errorf("logged %s", got)
	}
}

func TestPaused(t *testing.T) {
	server := redistest.Start(t)
	stores := make([]store.Store, 3)
	for i := range stores {
		stores[i] = open(t, "redis://"+server.Address+"?"+quick, store.Options{})
	}
	set(t, stores[0], "key", "one")
	c := startTally(t, stores[1:]...)
	c.more(t, 20)
	server.Pause()
	_, _, err := stores[0].Get(t.Context(), "key")
	gaveUp(t, "reading", err)
	_, err = stores[0].Swap(t.Context(), store.Change{Key: "other", Data: []byte("x")})
	gaveUp(t, "changing", err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := stores[0].Get(ctx, "key"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("reading with a deadline: got %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, _, err := stores[0].Get(ctx, "key"); !errors.Is(err, context.Canceled) {
		t.Errorf("reading while cancelled: got %v", err)
	}
	server.Resume()
	recovers(t, stores[0])
	if got := string(get(t, stores[0], "key").Data); got != "one" {
		t.Errorf("read %q", got)
	}
	c.more(t, 20)
	c.check(t, stores[0])
}

// TestPausedShortly pauses the server for less than a call may take.
func TestPausedShortly(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, "redis://"+server.Address, store.Options{})
	set(t, s, "key", "one")
	server.Pause()
	time.AfterFunc(100*time.Millisecond, server.Resume)
	if got := string(set(t, s, "key", "two").Data); got != "two" {
		t.Errorf("read %q", got)
	}
}

func TestSlow(t *testing.T) {
	server := redistest.Start(t)
	p := newProxy(t, server.Address)
	s := open(t, "redis://"+p.address+"?"+quick, store.Options{})
	p.slow(20 * time.Millisecond)
	if got := string(set(t, s, "key", "one").Data); got != "one" {
		t.Errorf("read %q", got)
	}
	p.slow(2 * time.Second)
	_, _, err := s.Get(t.Context(), "key")
	gaveUp(t, "reading", err)
	version := get(t, open(t, "redis://"+server.Address, store.Options{}), "key").Version
	_, err = s.Swap(t.Context(), store.Change{Key: "key", Version: version, Data: []byte("two")})
	gaveUp(t, "changing", err)
	p.slow(0)
	recovers(t, s)
	if got := string(get(t, s, "key").Data); got != "one" && got != "two" {
		t.Errorf("read %q", got)
	}
}

func TestScriptsForgotten(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, "redis://"+server.Address, store.Options{})
	for i := range 3 {
		set(t, s, "key", fmt.Sprint(i))
		if err := server.Client().ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	changes := make([]store.Change, 3000)
	for i := range changes {
		changes[i] = store.Change{Key: fmt.Sprint("key", i), Data: []byte("data")}
	}
	made, err := s.Swap(t.Context(), changes...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range made {
		if made[i] == 0 {
			t.Fatalf("change %d was not made", i)
		}
	}
}

// TestReadOnly makes the server a replica for a while, as in a failover.
func TestReadOnly(t *testing.T) {
	server, other := redistest.Start(t), redistest.Start(t)
	s := open(t, "redis://"+server.Address+"?"+quick, store.Options{})
	set(t, s, "key", "one")
	server.ReplicaOf(other)
	_, err := s.Swap(t.Context(), store.Change{Key: "key", Data: []byte("two")})
	gaveUp(t, "changing a replica", err)
	if !strings.Contains(err.Error(), "READONLY") {
		t.Errorf("got %v, want that it can only be read", err)
	}
	if err := server.Client().ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	recovers(t, s)
	set(t, s, "key", "three")
}

func TestNoMemory(t *testing.T) {
	server := redistest.Start(t, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction")
	s := open(t, "redis://"+server.Address, store.Options{})
	set(t, s, "key", "one")
	large := bytes.Repeat([]byte("x"), 1<<20)
	for i := range 10 {
		_, err := s.Swap(t.Context(), store.Change{Key: fmt.Sprint(i), Data: large})
		if err == nil {
			continue
		}
		if !strings.Contains(err.Error(), "OOM") {
			t.Errorf("got %v, want that there is no memory", err)
		}
		return
	}
	t.Error("all of it had room")
}

// TestForeignEntries has something else write under some of our keys: they alone
// cannot be read.
func TestForeignEntries(t *testing.T) {
	server := redistest.Start(t)
	s := open(t, "redis://"+server.Address, store.Options{})
	client := server.Client()
	for _, make := range []func() error{
		func() error { return client.LPush(t.Context(), "tollgate:{list}", "x").Err() },
		func() error { return client.Set(t.Context(), "tollgate:{short}", "x", 0).Err() },
		func() error { return client.Set(t.Context(), "tollgate:{text}", "no version of ours", 0).Err() },
	} {
		if err := make(); err != nil {
			t.Fatal(err)
		}
	}
	if made, err := s.Swap(t.Context(), store.Change{Key: "good", Data: []byte("data")}); err != nil || made[0] == 0 {
		t.Fatalf("got %v, %v", made, err)
	}
	keys := []string{"list", "short", "good", "text", "none"}
	values, _, err := s.Get(t.Context(), keys...)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		switch keys[i] {
		case "good":
			if v.Err != nil || v.Version == 0 || string(v.Data) != "data" {
				t.Errorf("good: got %+v", v)
			}
		case "none":
			if v.Err != nil || v.Version != 0 {
				t.Errorf("none: got %+v", v)
			}
		default:
			if v.Err == nil || v.Version != 0 || !strings.Contains(v.Err.Error(), "tollgate:{"+keys[i]+"} holds what tollgate has not written") {
				t.Errorf("%s: got %+v", keys[i], v)
			}
		}
	}
	// Nor by a script, which reads what has changed.
	var known []store.Known
	for _, key := range keys {
		known = append(known, store.Known{Key: key, Version: 7})
	}
	if values, _, err = s.GetChanged(t.Context(), known...); err != nil {
		t.Fatal(err)
	}
	for i, v := range values {
		if good := keys[i] == "good" || keys[i] == "none"; good != (v.Err == nil) || (keys[i] == "good") != (v.Version != 0) {
			t.Errorf("%s, if it has changed: got %+v", keys[i], v)
		}
	}
	// It is not overwritten either.
	made, err := s.Swap(t.Context(), store.Change{Key: "text", Data: []byte("x")})
	if err != nil || made[0] != 0 {
		t.Errorf("changing: got %v, %v", made, err)
	}
}

// TestAdvice warns once of settings that forget.
func TestAdvice(t *testing.T) {
	for name, test := range map[string]struct {
		settings []string
		want     []string
	}{
		"nothing kept": {nil, []string{"set appendonly to yes"}},
		"evicting":     {[]string{"--appendonly", "yes", "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"}, []string{"set maxmemory-policy to noeviction"}},
		"unlimited":    {[]string{"--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"}, nil},
		"good":         {[]string{"--appendonly", "yes", "--maxmemory", "100mb"}, nil},
		"not told":     {[]string{"--rename-command", "INFO", ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			server := redistest.Start(t, test.settings...)
			var j journal
			s := open(t, "redis://"+server.Address, j.options())
			for range 3 {
				recovers(t, s, "key")
			}
			if got := j.String(); strings.Count(got, "\n") != len(test.want) || len(test.want) > 0 && !strings.Contains(got, test.want[0]) {
				t.Errorf("logged %q, want %q", got, test.want)
			}
		})
	}
}

// TestClockBack tells a store a time that is ahead, as a server did whose clock was
// set back since, and takes what the server remembers back, as a failover does.
func TestClockBack(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes")
	var j journal
	s, other := open(t, "redis://"+server.Address, j.options()), open(t, "redis://"+server.Address, store.Options{})
	recovers(t, s)
	client := server.Client()
	kept, err := client.Get(t.Context(), "tollgate:clock").Result()
	if err != nil {
		t.Fatal(err)
	}
	epoch, _, _ := strings.Cut(kept, " ")
	ahead := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	put := func(value string) {
		t.Helper()
		if err := client.Set(t.Context(), "tollgate:clock", value, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	put(fmt.Sprintf("%s %d", epoch, ahead.UnixMicro()))
	for _, s := range []store.Store{s, other, s} {
		if _, now, err := s.Get(t.Context()); err != nil || !now.Equal(ahead) {
			t.Errorf("the time is %s, %v, want %s", now, err, ahead)
		}
	}
	if got := j.String(); got != "" {
		t.Errorf("logged %s", got)
	}
	put(kept)
	for range 3 {
		if _, now, err := s.Get(t.Context()); err != nil || now.Before(ahead) {
			t.Errorf("the time went back to %s, %v", now, err)
		}
	}
	if got := j.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "the store has lost what was written last") {
		t.Errorf("logged %s, want once that something is lost", got)
	}
	put("nonsense")
	recovers(t, s)
	if got := j.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "the store has lost everything") {
		t.Errorf("logged %s, want that everything is lost", got)
	}
}

func TestSentinelFailover(t *testing.T) {
	master, replica := redistest.Start(t), redistest.Start(t)
	replica.ReplicaOf(master)
	sentinel := redistest.StartSentinel(t, "limits", master)
	sentinel.Await("the replica", func(ctx context.Context, client *redis.Client) error {
		told, err := client.Info(ctx, "sentinel").Result()
		if err == nil && !strings.Contains(told, "slaves=1") {
			err = errors.New(told)
		}
		return err
	})
	s := open(t, "redis-sentinel://"+sentinel.Address+"/limits?timeout=1s", store.Options{})
	set(t, s, "key", "one")
	replicated(t, master, 1)
	master.Kill()
	_, err := s.Swap(t.Context(), store.Change{Key: "other", Data: []byte("x")})
	t.Logf("while the master is away: %v", err)
	recovers(t, s, "key")
	if got := string(get(t, s, "key").Data); got != "one" {
		t.Errorf("the replica has %q", got)
	}
	set(t, s, "key", "two")
}

// replicated waits until so many replicas of a server have all that it has.
func replicated(t *testing.T, server *redistest.Server, replicas int) {
	t.Helper()
	if got, err := server.Client().Wait(t.Context(), replicas, patience).Result(); err != nil || got < int64(replicas) {
		t.Fatalf("%d replicas have everything, %v", got, err)
	}
}

func TestClusterFailover(t *testing.T) {
	nodes := redistest.StartCluster(t, 1)
	s := open(t, "redis-cluster://"+addresses(nodes[:1])+"?"+quick, store.Options{})
	keys := make([]string, 30)
	for i := range keys {
		keys[i] = fmt.Sprint("key", i)
		set(t, s, keys[i], keys[i])
	}
	for _, node := range nodes[:3] {
		replicated(t, node, 1)
	}
	nodes[0].Kill()
	if _, _, err := s.Get(t.Context(), keys...); err == nil {
		t.Error("all keys are read while a third has no server")
	}
	recovers(t, s, keys...)
	for _, key := range keys {
		if got := string(get(t, s, key).Data); got != key {
			t.Errorf("%s holds %q", key, got)
		}
		set(t, s, key, "again")
	}
}

// moves moves a key from one node of a cluster to another.
func moves(t *testing.T, nodes []*redistest.Server) {
	t.Helper()
	s := open(t, "redis-cluster://"+addresses(nodes)+"?"+quick, store.Options{})
	// No other test may have left something in its slot, since that could not be moved.
	version := set(t, s, "moving", "one").Version
	slot, err := nodes[0].Client().ClusterKeySlot(t.Context(), "tollgate:{moving}").Result()
	if err != nil {
		t.Fatal(err)
	}
	from := int(slot) * len(nodes) / 16384
	to := (from + 1) % len(nodes)
	clients := []*redis.Client{nodes[from].Client(), nodes[to].Client()}
	ids := make([]string, len(clients))
	for i, client := range clients {
		if ids[i], err = client.ClusterMyID(t.Context()).Result(); err != nil {
			t.Fatal(err)
		}
	}
	do := func(client *redis.Client, args ...any) {
		t.Helper()
		if err := client.Do(t.Context(), args...).Err(); err != nil {
			t.Fatalf("%v: %v", args, err)
		}
	}
	do(clients[1], "cluster", "setslot", slot, "importing", ids[0])
	do(clients[0], "cluster", "setslot", slot, "migrating", ids[1])
	if got := string(get(t, s, "moving").Data); got != "one" {
		t.Errorf("before it is moved: got %q", got)
	}
	host, port, _ := strings.Cut(nodes[to].Address, ":")
	do(clients[0], "migrate", host, port, "tollgate:{moving}", 0, 5000)
	if got := string(get(t, s, "moving").Data); got != "one" {
		t.Errorf("while it is moved: got %q", got)
	}
	made, err := s.Swap(t.Context(), store.Change{Key: "moving", Version: version, Data: []byte("two")})
	if err != nil || made[0] == 0 {
		t.Errorf("changed while it is moved: %v, %v", made, err)
	}
	if _, err := s.Swap(t.Context(), store.Change{Key: "moving", Version: version, Data: []byte("wrong")}); err == nil {
		t.Error("another version while it is moved: got no error")
	}
	for _, client := range []*redis.Client{clients[1], clients[0]} {
		do(client, "cluster", "setslot", slot, "node", ids[1])
	}
	if got := string(get(t, s, "moving").Data); got != "two" {
		t.Errorf("when it has been moved: got %q", got)
	}
	set(t, s, "moving", "three")
}

// TestDeadlineTellsWhy has a caller with less patience than the address allows: the
// error says what stood in the way.
func TestDeadlineTellsWhy(t *testing.T) {
	server := redistest.Start(t, "--min-replicas-to-write", "1")
	s := open(t, "redis://"+server.Address+"?timeout=1m", store.Options{})
	var err error
	for range 20 { // The time may be over while nothing stands in the way yet.
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err = s.Swap(ctx, store.Change{Key: "key", Data: []byte("x")})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if strings.Contains(err.Error(), "NOREPLICAS") {
			return
		}
	}
	t.Errorf("got %v, want that copies are missing", err)
}
