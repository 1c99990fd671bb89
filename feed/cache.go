package feed

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// keepEvery is how often, at most, a file is told that its table was confirmed,
// and how long after a failure it is written again.
const keepEvery = time.Minute

// patience is how long a feed waits for its file when it starts. Traefik makes
// nothing else meanwhile. A million keys take 10 to 22 seconds of one core.
const patience = 30 * time.Second

// Cache keeps the table in force in a file, so that a gateway that starts while
// no endpoint answers goes on with the last good one. cachefile.go has what is in
// the file.
//
// Feeds with the same file share one Cache. Only one of them writes, the one that
// started last. A goroutine that lasts for as long as there is something to do reads
// and writes, so a disk that does not answer stops nobody else.
type Cache struct {
	path     string
	patience time.Duration
	// read is readCache and create os.CreateTemp, which tests replace.
	read   func(path string, cfg Config, newerThan int64, now time.Time) (*Snapshot, []byte, error)
	create func(dir, pattern string) (*os.File, error)

	mu    sync.Mutex
	owner *Feed
	// have is the sum of the body in the file, signed by signatures; empty if
	// that is not known. The file was told of a confirmation at confirmed.
	have, signatures string
	confirmed        time.Time
	// pending is what is to be written next, and may not be before after.
	pending *keepsake
	after   time.Time
	busy    bool
	// unread is the feed that the file is to be read for next, and reading says
	// that it is being read. writing is what is being written.
	unread  *reader
	reading bool
	writing *keepsake
	// since is when that has begun, and stuck says that it was reported to take
	// long.
	since time.Time
	stuck bool

	// What follows belongs to the goroutine.

	line  []byte          // the file's first line
	kept  map[string]bool // sums of the parts on the disk
	swept bool
	told  string // the failure that was last reported
}

// keepsake is a snapshot to be kept. Without a body it only tells the file of a
// confirmation.
type keepsake struct {
	snapshot *Snapshot
	body     []byte
}

// has says whether k, which may be nil, has the body of a sum.
func (k *keepsake) has(sum string) bool {
	return k != nil && k.body != nil && k.snapshot.sum == sum
}

// reader is a feed that has the file read.
type reader struct {
	feed *Feed
	// done is told when that is over, or has taken too long.
	done chan bool
}

// NewCache returns a cache in the file of a path, which need not exist. Its
// folder must.
func NewCache(path string) *Cache {
	return &Cache{path: path, patience: patience, read: readCache, create: os.CreateTemp}
}

// newAlarm returns a timer that tells done. It is one of init's because timers last
// for a while after they were stopped: see launch.
var newAlarm func(d time.Duration, done chan bool) *time.Timer

func init() {
	newAlarm = func(d time.Duration, done chan bool) *time.Timer {
		return time.AfterFunc(d, func() {
			defer func() { _ = recover() }()
			done <- false
		})
	}
}

// restore makes f the feed that writes the file, and has the table in it come into
// force at f if that is newer than what is. It waits for that, but not for longer
// than it has patience, and not at all if the disk is busy with another feed's. It
// reports what is wrong with the file.
func (c *Cache) restore(f *Feed) {
	c.mu.Lock()
	c.ownLocked(f)
	c.pending = nil
	if c.busy && !c.reading {
		c.mu.Unlock()
		return // What is being written is another feed's.
	}
	r := &reader{feed: f, done: make(chan bool, 2)} // Nobody who tells it waits.
	c.unread = r
	wait := !c.busy
	c.busy = true
	c.mu.Unlock()
	if !wait {
		return
	}
	alarm := newAlarm(c.patience, r.done)
	f.timing.background(c.work)
	inTime := <-r.done
	alarm.Stop()
	if !inTime {
		f.tell(fmt.Sprintf("cache file %s: could not be read within %s; what is in it comes in force later, if it is still newer then", c.path, c.patience), true)
	}
}

// load reads the file for a feed.
func (c *Cache) load(r *reader) {
	defer func() { r.done <- true }()
	f := r.feed
	newerThan := int64(0)
	if held := Current(f); held != nil {
		newerThan = held.Table.Revision
	}
	now := f.timing.now()
	s, line, err := c.read(c.path, f.cfg, newerThan, now)
	if err != nil {
		f.tell("cache file "+c.path+": "+f.readable(err)+"; it is ignored", true)
	}
	if s == nil {
		return
	}
	kept := map[string]bool{}
	for _, sum := range s.Table.Parts {
		kept[sum] = true
	}
	c.line = line
	c.kept = kept
	c.mu.Lock()
	c.have = s.sum
	c.signatures = s.proof.signatures
	c.confirmed = s.Confirmed
	if c.owner != f {
		c.have = "" // The other one may not trust it.
	}
	c.mu.Unlock()
	if !f.adopt(s) {
		return // An endpoint was faster.
	}
	c.mu.Lock()
	if c.pending != nil && c.owner == f {
		c.pending = nil // It is older.
	}
	c.mu.Unlock()
	if s.Confirmed.IsZero() {
		f.tell(fmt.Sprintf("cache file %s: the table of revision %d is in force; the file says that %s confirmed it at a time that is still to come, so its age is not known",
			c.path, s.Table.Revision, withoutUser(s.From)), true)
		return
	}
	f.tell(fmt.Sprintf("cache file %s: the table of revision %d is in force, which %s confirmed %s ago",
		c.path, s.Table.Revision, withoutUser(s.From), now.Sub(s.Confirmed).Round(time.Second)), false)
}

// ownLocked makes f the feed that writes the file. If f would not trust that after
// a restart, it is to be written anew.
func (c *Cache) ownLocked(f *Feed) {
	c.owner = f
	if c.have == "" {
		return
	}
	var line cacheLine
	if c.busy || json.Unmarshal(c.line, &line) != nil || foreign(line, f.cfg) != nil {
		c.have = ""
	}
}

// release makes f write the file no more.
func (c *Cache) release(f *Feed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unread != nil && c.unread.feed == f {
		c.unread = nil
	}
	if c.owner == f {
		c.owner = nil
		c.pending = nil // This cache may be there for as long as the process.
	}
}

// lacks says whether f should write the table of a sum to the file, and cannot
// because it does not have what that came in.
func (c *Cache) lacks(f *Feed, sum string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.owner != f && c.owner != nil || c.have == sum {
		return false
	}
	return !c.pending.has(sum) && !c.writing.has(sum)
}

// keep has the file keep what is in force at f from now on: a snapshot, and the
// body that it came in, or nil for one that was confirmed. It does not wait for
// the disk.
func (c *Cache) keep(f *Feed, s *Snapshot, body []byte) {
	now := f.timing.now()
	c.mu.Lock()
	if c.owner == nil {
		c.ownLocked(f)
	}
	if held := Current(f); c.owner != f || held != nil && held.Table.Revision > s.Table.Revision {
		c.mu.Unlock()
		return // It is another one's to keep, or a newer one has come from the file.
	}
	switch {
	case c.pending == nil && c.writing.has(s.sum) && c.writing.snapshot.proof.signatures == s.proof.signatures:
		// It will be there soon.
	case body != nil && (s.sum != c.have || s.proof.signatures != c.signatures):
		c.pending = &keepsake{s, body}
	case c.pending != nil && c.pending.snapshot.sum == s.sum:
		c.pending = &keepsake{s, c.pending.body}
	case c.have == s.sum && s.Confirmed.Sub(c.confirmed) >= keepEvery:
		c.pending = &keepsake{s, nil}
	}
	begin := c.pending != nil && !c.busy && !now.Before(c.after)
	stuck := c.busy && !c.stuck && (c.reading || c.writing != nil) && now.Sub(c.since) >= keepEvery
	c.stuck = c.stuck || stuck
	c.busy = c.busy || begin
	c.mu.Unlock()
	if stuck {
		f.tell(fmt.Sprintf("cache file %s: reading or writing takes longer than %s; nothing is kept until the disk answers", c.path, keepEvery), true)
	}
	if begin {
		f.timing.background(c.work)
	}
}

// work reads and writes what is to be, until nothing is. It runs on a goroutine of
// its own, one at a time.
func (c *Cache) work() {
	defer func() {
		// What panics is Report or Activated, so there is nobody to tell.
		if recover() != nil {
			c.mu.Lock()
			c.busy = false
			c.reading = false
			c.writing = nil
			c.mu.Unlock()
		}
	}()
	for again := true; again; {
		again = c.step()
	}
}

// step reads the file, if that is to be done, or writes what is pending, and says
// whether to go on.
func (c *Cache) step() bool {
	c.mu.Lock()
	r, worker := c.unread, c.owner
	if r != nil {
		worker = r.feed
	}
	if worker != nil {
		c.since = worker.timing.now()
	}
	c.unread = nil
	c.reading = r != nil
	if c.reading {
		c.mu.Unlock()
		c.load(r)
		c.mu.Lock()
		c.reading = false
		c.mu.Unlock()
		c.answered(r.feed)
		return true
	}
	f, next := c.owner, c.pending
	c.pending = nil
	if f == nil || next == nil {
		c.busy = false
		c.mu.Unlock()
		return false
	}
	c.writing = next
	have := c.have
	c.mu.Unlock()

	var err error
	line, kept := c.line, c.kept
	if next.body == nil {
		if have == next.snapshot.sum {
			line, err = c.confirm(line, next.snapshot.Confirmed)
		}
	} else {
		line, kept, err = c.writeCache(next.snapshot, next.body, f.cfg.Unchecked, kept)
	}

	c.mu.Lock()
	c.writing = nil
	if err == nil {
		c.line = line
		c.kept = kept
		c.have = next.snapshot.sum
		c.signatures = next.snapshot.proof.signatures
		c.confirmed = next.snapshot.Confirmed
		if c.owner != f {
			c.have = "" // The other one may not trust it.
		}
	} else {
		if !errors.Is(err, errReplaced) {
			c.after = f.timing.now().Add(keepEvery)
		}
		if next.body == nil {
			c.have = "" // to be written anew
		} else if c.pending == nil && c.owner == f {
			c.pending = next
		}
	}
	c.mu.Unlock()
	c.answered(f)
	c.report(f, next, err)
	if err == nil {
		return true
	}
	c.mu.Lock()
	c.busy = false
	c.mu.Unlock()
	return false
}

// answered tells that the disk did, if it was told that it took long.
func (c *Cache) answered(f *Feed) {
	c.mu.Lock()
	stuck := c.stuck
	c.stuck = false
	c.mu.Unlock()
	if stuck {
		f.tell("cache file "+c.path+": the disk answers again", false)
	}
}

// report tells of a failure when it begins, when it changes and when it ends.
func (c *Cache) report(f *Feed, next *keepsake, err error) {
	reason := ""
	if err != nil {
		reason = f.readable(err)
	}
	told := c.told
	c.told = reason
	if reason == told {
		return
	}
	if errors.Is(err, errReplaced) {
		f.tell("cache file "+c.path+": "+reason+"; it is written again", true)
	} else if err != nil {
		f.tell(fmt.Sprintf("cache file %s: the table of revision %d could not be kept: %s", c.path, next.snapshot.Table.Revision, reason), true)
	} else {
		f.tell(fmt.Sprintf("cache file %s: the table of revision %d is kept again", c.path, next.snapshot.Table.Revision), false)
	}
}
