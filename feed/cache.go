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

// Cache keeps the table in force in a file, so that a gateway that starts while
// no endpoint answers goes on with the last good one. cachefile.go has what is in
// the file.
//
// Feeds with the same file share one Cache. Only one of them writes, the one that
// started last.
type Cache struct {
	path string
	// create is os.CreateTemp, which tests replace.
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
	// writing is what is being written.
	writing *keepsake

	// What follows belongs to the write under way.

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

// NewCache returns a cache in the file of a path, which need not exist. Its
// folder must.
func NewCache(path string) *Cache {
	return &Cache{path: path, create: os.CreateTemp}
}

// restore makes f the feed that writes the file, and returns the snapshot that it
// begins with: last, which may be nil, or a newer one from the file. It reports
// what is wrong with the file.
func (c *Cache) restore(f *Feed, last *Snapshot) *Snapshot {
	c.mu.Lock()
	c.ownLocked(f)
	c.pending = nil
	busy := c.busy
	c.mu.Unlock()
	if busy {
		return last // What is being written is another feed's.
	}
	newerThan := int64(0)
	if last != nil {
		newerThan = last.Table.Revision
	}
	now := f.timing.now()
	s, line, err := readCache(c.path, f.cfg, newerThan, now)
	if err != nil {
		f.tell("cache file "+c.path+": "+f.readable(err)+"; it is ignored", true)
	}
	if s == nil {
		return last
	}
	c.mu.Lock()
	c.line = line
	c.kept = map[string]bool{}
	for _, sum := range s.Table.Parts {
		c.kept[sum] = true
	}
	c.have = s.sum
	c.signatures = s.proof.signatures
	c.confirmed = s.Confirmed
	c.mu.Unlock()
	f.tell(fmt.Sprintf("cache file %s: the table of revision %d is in force, which %s confirmed %s ago",
		c.path, s.Table.Revision, withoutUser(s.From), now.Sub(s.Confirmed).Round(time.Second)), false)
	return s
}

// ownLocked makes f the feed that writes the file. If f would not trust that after
// a restart, it is to be written anew.
func (c *Cache) ownLocked(f *Feed) {
	c.owner = f
	if c.busy || c.have == "" {
		return
	}
	var line cacheLine
	if json.Unmarshal(c.line, &line) != nil || foreign(line, f.cfg) != nil {
		c.have = ""
	}
}

// release makes f write the file no more.
func (c *Cache) release(f *Feed) {
	c.mu.Lock()
	defer c.mu.Unlock()
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
	if c.owner != f {
		c.mu.Unlock()
		return
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
	c.busy = c.busy || begin
	c.mu.Unlock()
	if begin {
		f.timing.background(c.work)
	}
}

// work writes what is pending, until nothing is. It runs on a goroutine of its
// own, one at a time.
func (c *Cache) work() {
	defer func() {
		// What panics is Report, so there is nobody to tell.
		if recover() != nil {
			c.mu.Lock()
			c.busy = false
			c.writing = nil
			c.mu.Unlock()
		}
	}()
	for again := true; again; {
		again = c.step()
	}
}

// step writes what is pending, and says whether to go on.
func (c *Cache) step() bool {
	c.mu.Lock()
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
	c.report(f, next, err)
	if err == nil {
		return true
	}
	c.mu.Lock()
	c.busy = false
	c.mu.Unlock()
	return false
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
