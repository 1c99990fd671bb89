package feed

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// maxTries is how often one poll asks for an index whose parts are gone.
const maxTries = 3

// AtOnce is how many parts a feed fetches at a time.
const AtOnce = 6

// perStep is for how many missing parts an index has the time of one exchange,
// beside that of another for all of them.
const perStep = 16

// errPartGone says that an endpoint has no part that its index lists. It has
// another index by then.
var errPartGone = errors.New("a part that the index lists is not there")

// complete makes next, whose table is an index of indexBytes, a table with all
// its parts. Those that held has are taken from there, and the others fetched. If
// that fails half way, what was fetched is kept for the next poll.
func (f *Feed) complete(next, held *Snapshot, endpoint string, indexBytes int) error {
	index := next.Table
	parts := make([]*table.Part, len(index.Parts))
	var known []string
	if held != nil && len(held.Table.Parts) == len(parts) {
		known = held.Table.Parts
		copy(parts, table.LoadedParts(held.Table))
		next.partBytes = held.partBytes
	}
	// Part by part, so the loops look only at what is new.
	var changed []int
	fetched := map[string]*table.Part{}
	for i, sum := range index.Parts {
		if known != nil && known[i] == sum {
			continue
		}
		changed = append(changed, i)
		if known != nil {
			next.partBytes -= int64(len(parts[i].Text()))
		}
		if part := f.fetched[sum]; part != nil {
			fetched[sum] = part
		}
	}
	f.fetched = fetched
	if err := f.fetchMissing(endpoint, index, changed, f.cfg.MaxBytes-int64(indexBytes)-next.partBytes); err != nil {
		return err
	}
	for _, i := range changed {
		parts[i] = fetched[index.Parts[i]]
		next.partBytes += int64(len(parts[i].Text()))
	}
	if int64(indexBytes)+next.partBytes > f.cfg.MaxBytes {
		return f.tooLarge()
	}
	whole, err := table.Assemble(index, parts)
	if err != nil {
		return err
	}
	next.Table = whole
	f.fetched = nil
	return nil
}

// fetchMissing adds to f.fetched what is not there yet of the parts at some places
// of an index. All of these may have left bytes together.
func (f *Feed) fetchMissing(endpoint string, index *table.Table, places []int, left int64) error {
	c := &crew{feed: f, endpoint: endpoint, index: index, fetched: f.fetched, times: map[string]int64{}}
	for _, i := range places {
		sum := index.Parts[i]
		if part := f.fetched[sum]; part != nil {
			left -= int64(len(part.Text()))
			continue
		}
		if c.times[sum] == 0 {
			c.places = append(c.places, i)
		}
		c.times[sum]++
	}
	missing := len(c.places)
	if missing == 0 {
		return nil
	}
	c.left = left
	allowed := partsTimeout(f.cfg.Timeout, missing)
	c.deadline = newDeadline(f.ctx, allowed, 0)
	for i := 1; i < AtOnce && i < missing; i++ {
		c.helpers.Add(1)
		f.timing.background(c.help)
	}
	c.work()
	c.helpers.Wait()
	c.deadline.stop()
	if c.err == nil {
		return nil
	}
	f.late = c.late
	if c.deadline.late.Load() {
		f.late = true
		return fmt.Errorf("%d of %d parts of revision %d did not come within %s", len(c.times)-c.came, len(index.Parts), index.Revision, allowed)
	}
	return c.err
}

// partsTimeout returns for how long an index that lacks so many parts may be
// fetched, if an exchange may take step.
func partsTimeout(step time.Duration, missing int) time.Duration {
	rounds := time.Duration(1 + (missing-1)/perStep)
	if step > math.MaxInt64/(rounds+1) {
		return step
	}
	return step * (rounds + 1)
}

// crew fetches the parts of an index, several at once. The poll's goroutine and its
// helpers do the same work, and the poll waits for all of them.
type crew struct {
	feed     *Feed
	endpoint string
	index    *table.Table
	// places are where in the index the parts stand that are to be fetched, each
	// sum once, and times is how often it is listed.
	places []int
	times  map[string]int64
	// deadline is for all of them.
	deadline *deadline
	helpers  sync.WaitGroup

	// parsing is held while a part is looked at, so that no more than one core
	// is taken from the requests that Traefik serves meanwhile.
	parsing sync.Mutex

	mu      sync.Mutex
	fetched map[string]*table.Part // the feed's
	at      int                    // of places: the next one to be fetched
	came    int                    // how many have come
	busy    int                    // how many are being fetched
	// left is how many bytes may still come, without those that are set aside
	// for what is being fetched.
	left int64
	// err is what went wrong first, and late says that it was a deadline of one
	// exchange.
	err  error
	late bool
}

// task is one part to be fetched.
type task struct {
	place int
	sum   string
	// atMost is how many bytes are set aside for it. They are all that are left
	// if last is set.
	atMost int64
	last   bool
}

// help is work on a goroutine of its own.
func (c *crew) help() {
	defer func() { _ = recover() }() // A panic of fetch was told.
	defer c.helpers.Done()
	c.work()
}

// work fetches one part after another until nothing is left to do.
func (c *crew) work() {
	for {
		todo, ok := c.next()
		if !ok {
			return
		}
		c.done(todo, c.fetch(todo))
	}
}

// next returns what to fetch next, if anything.
func (c *crew) next() (task, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.at == len(c.places) {
		return task{}, false
	}
	set := int64(table.MaxPartBytes)
	last := c.left <= set
	if last && c.busy > 0 {
		return task{}, false // Those who are at it go on, at last one after another.
	}
	if last {
		set = c.left
	}
	if set < 0 {
		c.failLocked(c.feed.tooLarge())
		return task{}, false
	}
	place := c.places[c.at]
	c.at++
	c.busy++
	c.left -= set
	return task{place: place, sum: c.index.Parts[place], atMost: set, last: last}, true
}

// done takes note of what came of a task.
func (c *crew) done(of task, got catch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	c.left += of.atMost
	if got.err != nil {
		c.late = c.late || got.late && c.err == nil
		c.failLocked(fmt.Errorf("part %d of %d of revision %d: %w", of.place+1, len(c.index.Parts), c.index.Revision, got.err))
		return
	}
	c.left -= int64(len(got.part.Text())) * c.times[of.sum]
	c.fetched[of.sum] = got.part
	c.came++
}

// failLocked ends all that is under way, unless something else has.
func (c *crew) failLocked(err error) {
	if c.err == nil {
		c.err = err
		c.deadline.cancel()
	}
}

// catch is what comes of a task: a part, or what went wrong. Late says that the
// answer was not complete in time.
type catch struct {
	part *table.Part
	late bool
	err  error
}

// fetch asks for a part. A panic becomes an error like any other.
func (c *crew) fetch(what task) (got catch) {
	got = catch{}
	defer func() {
		if p := recover(); p != nil {
			got = catch{err: fmt.Errorf("fetching panicked: %v", p)}
		}
	}()
	q := question{endpoint: c.endpoint, path: table.PartPath(what.sum), what: "a part", accept: acceptPart, atMost: what.atMost}
	a, err := c.feed.askWithin(c.deadline.ctx, q)
	if what.last && errors.Is(err, table.ErrTooLarge) {
		return catch{err: c.feed.tooLarge()}
	}
	if a.missing {
		return catch{err: fmt.Errorf("%w: %w", errPartGone, err)}
	}
	if err != nil {
		return catch{late: a.late, err: err}
	}
	if a.notModified {
		return catch{err: errNotModified}
	}
	return c.parse(what.sum, a.body)
}

// parse looks at a part that has come.
func (c *crew) parse(sum string, body []byte) catch {
	c.parsing.Lock()
	defer c.parsing.Unlock()
	part, err := table.ParsePart(sum, body)
	return catch{part: part, err: err}
}

func (f *Feed) tooLarge() error {
	return fmt.Errorf("%w: over %d bytes with its parts", table.ErrTooLarge, f.cfg.MaxBytes)
}
