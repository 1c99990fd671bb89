//go:build !yaegi
// +build !yaegi

// Yaegi reads only the second form of the constraint.

package feed

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

var (
	seed      = flag.Uint64("seed", 20261121, "seed of the first of the generated schedules")
	schedules = flag.Uint64("schedules", 15, "number of generated schedules")
)

// steps is how many a schedule has.
const steps = 40

// world is two endpoints of one control plane, a gateway with a cache file, and
// what may go wrong between them.
type world struct {
	t      *testing.T
	random *rand.Rand
	rig    *rig
	cache  *Cache
	path   string

	sites [2]*site
	// mu guards what the endpoints answer by. A handler whose connection was cut
	// may still be at it.
	mu     sync.Mutex
	faults [2]string // by their name; empty for none
	// now is what is published, and before what was last time.
	now, before *shelf
	revision    int64
	// keys has how many keys the table of each revision has.
	keys map[int64]int
	// seen is the highest revision that was in force, and kept the one that the
	// file must have.
	seen, kept int64
	diskFull   bool
	log        []string
}

// TestSchedules: whatever goes wrong in whatever order, no table comes in force
// but one that was published, none goes back, and the newest one is in force soon
// after all is well.
func TestSchedules(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	for i := uint64(0); i < *schedules; i++ {
		seed := *seed + i
		ok := t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := newWorld(t, seed)
			for step := 0; step < steps && !t.Failed(); step++ {
				w.step()
			}
			w.mend()
			if t.Failed() {
				t.Logf("-seed %d\n%s", seed, strings.Join(w.log, "\n"))
			}
			w.rig.feed.Stop()
			for _, s := range w.sites {
				s.server.Close()
			}
		})
		if !ok {
			return
		}
	}
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{
		t: t, random: rand.New(rand.NewSource(int64(seed))), path: filepath.Join(t.TempDir(), "table.cache"),
		keys: map[int64]int{}, now: &shelf{}, before: &shelf{},
	}
	for i := range w.sites {
		w.sites[i] = newSite(t, nil)
		w.sites[i].answer(w.answer(i))
	}
	w.publish()
	w.start(nil, nil)
	return w
}

func (w *world) note(format string, args ...interface{}) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// start starts the gateway with the table of an older one and its clock, or with
// neither.
func (w *world) start(last *Snapshot, clock *fakeTime) {
	w.cache = NewCache(w.path)
	w.spoilDisk(w.diskFull)
	w.rig = newRig(w.t, nil, last, func(c *Config) {
		c.Endpoints = []string{w.sites[0].server.URL, w.sites[1].server.URL}
		c.PublicKeys = publicKeys(1)
		c.Wait = 30 * time.Second
		c.Cache = w.cache
		c.Client = client(&http.Transport{DisableKeepAlives: true})
	})
	if clock != nil {
		w.rig.time.clock = clock.clock
	}
	w.rig.time.luck = w.random.Float64()
}

func (w *world) spoilDisk(full bool) {
	w.diskFull = full
	w.cache.create = os.CreateTemp
	if full {
		w.cache.create = noRoom
	}
}

// noRoom is a disk on which nothing can be written.
func noRoom(dir, pattern string) (*os.File, error) {
	file, err := full(dir, pattern)
	if os.IsExist(err) {
		_ = os.Remove(filepath.Join(dir, ".new-full"))
		return full(dir, pattern)
	}
	return file, err
}

// publish puts a newer table on the shelf, whole or in parts.
func (w *world) publish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.revision += 1 + w.random.Int63n(3)
	keys := 1 + w.random.Intn(30)
	w.keys[w.revision] = keys
	rows := rowsOf(w.revision, keys)
	w.before = w.now
	w.now = &shelf{sign: []byte{2, 1}}
	parts := []int{0, 1, 8}[w.random.Intn(3)]
	w.note("publish revision %d with %d keys in %d parts", w.revision, keys, parts)
	if parts > 0 {
		w.now.publish(w.t, rows, parts)
		return
	}
	body, err := json.Marshal(rows)
	if err != nil {
		w.t.Fatal(err)
	}
	w.now.index = body
	w.now.tag = hashTag(string(body))
}

// faultNames are what an endpoint may do instead of answering.
var faultNames = []string{
	"500", "502", "503", "401", "404", "304", "302", "hang up", "cut", "nonsense", "older", "unsigned", "wrongly signed",
	"same revision", "bad parts", "no parts", "no waiting", "lies", "cuts what is held",
}

// answer returns how the i-th endpoint answers.
func (w *world) answer(i int) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		good := func(s *shelf) {
			s.handler()(rw, r)
		}
		wait := func(d time.Duration) {
			if prefer := r.Header.Get("Prefer"); prefer != "" {
				rw.Header().Set("Preference-Applied", prefer)
				w.rig.time.pass(d)
			}
		}
		isPart := r.URL.Path != table.Path
		switch fault := w.faults[i]; fault {
		case "":
			wait(20 * time.Second)
			good(w.now)
		case "500", "502", "503", "401", "404", "304", "302":
			code := 0
			_, _ = fmt.Sscan(fault, &code)
			rw.Header().Set("Location", "/v1/table?again")
			rw.WriteHeader(code)
		case "hang up":
			hangUp()(rw, r)
		case "cut":
			rw.Header().Set("Content-Length", "100000")
			good(w.now)
		case "nonsense":
			serve("", "<html>")(rw, r)
		case "older":
			good(w.before)
		case "unsigned", "wrongly signed":
			other := &shelf{index: w.now.index, tag: w.now.tag, parts: w.now.parts}
			if fault != "unsigned" {
				other.sign = []byte{3}
			}
			good(other)
		case "same revision":
			body := tableBody(int(w.seen), "other") // no table at all before the first
			serveSigned("", body, signed(body, 1))(rw, r)
		case "bad parts", "no parts":
			if isPart && fault == "bad parts" {
				serve("", "{}")(rw, r)
			} else if isPart {
				rw.WriteHeader(http.StatusNotFound)
			} else {
				good(w.now)
			}
		case "no waiting":
			good(w.now)
		case "lies":
			wait(0)
			good(w.now)
		case "cuts what is held":
			impatient(hangUp(), w.now.handler())(rw, r)
		}
	}
}

// fail gives an endpoint a fault, or none.
func (w *world) fail(i int, fault string) {
	w.note("endpoint %d: %q", i, fault)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[i] = fault
}

// step does something to the world, and lets the gateway poll.
func (w *world) step() {
	switch w.random.Intn(8) {
	case 0, 1:
		w.publish()
	case 2, 3, 4:
		i := w.random.Intn(2)
		w.fail(i, faultNames[w.random.Intn(len(faultNames))])
	case 5:
		w.fail(w.random.Intn(2), "")
	case 6:
		w.restart()
	case 7:
		w.spoilDisk(!w.diskFull)
		w.note("disk full: %t", w.diskFull)
	}
	for polls := w.random.Intn(6); polls > 0; polls-- {
		w.poll()
	}
}

// restart ends the gateway, as a process or as a configuration that was edited.
func (w *world) restart() {
	w.rig.feed.Stop()
	if last := Current(w.rig.feed); w.random.Intn(3) == 0 {
		w.note("edit")
		w.start(last, w.rig.time)
	} else {
		w.note("restart")
		w.mu.Lock()
		w.seen = w.kept
		w.mu.Unlock()
		w.start(nil, w.rig.time)
	}
	w.check()
}

func (w *world) poll() time.Duration {
	delay := w.rig.time.poll(w.t)
	w.check()
	if held := Current(w.rig.feed); held != nil && !w.diskFull {
		if _, _, err := readCache(w.path, w.rig.feed.cfg, 0, w.rig.time.clock); err != nil {
			w.t.Errorf("the file cannot be used: %v", err)
		}
	}
	return delay
}

// check compares what is in force with what was published.
func (w *world) check() {
	held := Current(w.rig.feed)
	revision := int64(0)
	if held != nil {
		revision = held.Table.Revision
	}
	w.note("revision %d in force; %s", revision, strings.Join(w.rig.said(), "\n\t"))
	if strings.Contains(w.log[len(w.log)-1], testToken) {
		w.t.Error("the token is told")
	}
	if revision < w.seen {
		w.t.Errorf("revision %d is in force after revision %d", revision, w.seen)
	}
	w.mu.Lock()
	w.seen = revision
	w.mu.Unlock()
	if held == nil {
		return
	}
	keys, published := w.keys[revision]
	if !published {
		w.t.Fatalf("revision %d was never published", revision)
	}
	for i := 0; i < 31; i++ {
		if got := len(table.Holders(held.Table, digest(i))) == 1; got != (i < keys) {
			w.t.Errorf("key %d of revision %d is known: %t, of %d keys", i, revision, got, keys)
		}
	}
	if held.Confirmed.After(w.rig.time.clock) {
		w.t.Errorf("revision %d was confirmed in the future", revision)
	}
	w.cache.mu.Lock()
	if w.cache.have == held.sum {
		w.kept = revision
	}
	w.cache.mu.Unlock()
}

// mend ends all faults: within the longest delay the newest table is in force.
func (w *world) mend() {
	w.note("all is well")
	w.fail(0, "")
	w.fail(1, "")
	w.spoilDisk(false)
	passed := time.Duration(0)
	for polls := 0; polls < 3 && w.seen < w.revision; polls++ {
		passed += w.poll()
	}
	if w.seen != w.revision {
		w.t.Errorf("revision %d is in force at last, want %d", w.seen, w.revision)
	}
	if longest := maxRetry + maxRetry/10; passed > longest {
		w.t.Errorf("it took %s, want %s at most", passed, longest)
	}
}
