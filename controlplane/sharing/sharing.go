// Package sharing answers what reports tell of limits that gateways share. What each
// gateway may use of a limit is reckoned by package shares, and kept in the store,
// where all control planes look that share it.
//
// A gateway lives on its shares for a while without any answer. So one that cannot be
// given is no failure of the report: the gateway asks again with the next one, and
// what it tells are totals, so nothing is lost or counted twice.
package sharing

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

const (
	// storeTimeout is how long the reports of one round may take in the store, and
	// patience how long a report waits for its round; less if it would not be answered
	// by its deadline otherwise.
	storeTimeout = time.Second
	patience     = 800 * time.Millisecond
	// gap is how long after the beginning of a round the next one begins at least, and
	// longestGap at most; in between it is gapShare times as long as the last one took.
	// A round costs about as much for one report of a bucket as for many, and in the
	// rest of the time other control planes can settle without a race.
	gap        = 20 * time.Millisecond
	longestGap = 100 * time.Millisecond
	gapShare   = 2
	// maxRound is about how many entries a round has at most.
	maxRound = 1 << 13
	// attempts is how often entries are settled that another control plane settles
	// at the same time.
	attempts = 8
	// firstPause and lastPause bound how long is waited in between.
	firstPause = 2 * time.Millisecond
	lastPause  = 100 * time.Millisecond
)

// Next is how long a gateway that shares limits should wait between reports at most:
// shorter than what it wants is believed for.
const Next = 2 * time.Second

// ErrStore says that the store could not be asked, or not in time.
var ErrStore = errors.New("shares cannot be given")

var errNoTime = fmt.Errorf("%w: too many reports wait for the store, or it is too slow", ErrStore)

// Sharing divides limits among gateways. Any number of goroutines may use it, and
// where the store is shared, any number of control planes.
//
// Reports are settled in rounds, one at a time: what arrives during one is settled
// with the next, so those of one control plane do not race each other.
type Sharing struct {
	store store.Store
	log   *slog.Logger
	now   func() time.Time
	pause func(ctx context.Context, d time.Duration)
	plans atomic.Pointer[limits]
	rows  rows
	has   func(bucket, plan, by string) bool // rows.have

	mu      sync.Mutex
	queue   []*job
	leading bool      // somebody settles a round, or is about to
	began   time.Time // the last round
	gap     time.Duration

	// What follows belongs to who leads.
	tenures  tenures
	troubles troubles
	kept     kept

	recent recent
}

// Options say what a Sharing works with.
type Options struct {
	Store store.Store
	Log   *slog.Logger
	// Now tells the time by which waiting is measured, and how long ago a bucket was
	// settled; nil means time.Now. What shares last goes by the store's time.
	Now func() time.Time
}

// New returns a Sharing that knows no table.
func New(o Options) *Sharing {
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Sharing{
		store: o.Store, log: o.Log, now: o.Now, pause: pause,
		tenures: newTenures(), kept: newKept(), recent: newRecent(),
	}
	s.plans.Store(&limits{})
	s.has = s.rows.have
	return s
}

// job is a report that waits for its shares.
type job struct {
	report   *usage.Report
	instance shares.Instance
	// turn tells true to whom is to lead a round, and false to whom is answered.
	turn  chan bool
	leads bool // it was told

	registered bool
	tenure     tenure
	shares     []usage.Share
	told       *usage.Tenure
	err        error
}

// Settle takes in what a report tells of shared limits, and returns the gateway's
// tenure and its shares. Both may be missing: the tenure if the gateway does not share
// limits or has none, or if the store stood in the way of all shares that it should
// have; shares for what no limit is known of here, and for what could not be settled.
// The error says of the latter why; what is returned with it is good all the same. The
// report must be valid.
//
// It does not end when ctx is canceled, because that would be in the way of others, but
// by its deadline, and after some seconds at most.
func (s *Sharing) Settle(ctx context.Context, r *usage.Report) (*usage.Tenure, []usage.Share, error) {
	if !r.Sharing && len(r.Entries) == 0 {
		return nil, nil, nil
	}
	j := &job{report: r, turn: make(chan bool, 1)}
	if err := parseInstance(r.Instance, &j.instance); err != nil {
		return nil, nil, err
	}
	wait := patience
	if deadline, ok := ctx.Deadline(); ok {
		wait = min(wait, time.Until(deadline)-longestGap-storeTimeout)
	}
	if wait < 0 {
		s.hasNoTime(j)
		return nil, nil, j.err
	}
	if s.enter(j, wait) {
		s.lead(context.WithoutCancel(ctx), j)
	}
	if len(j.shares) == 0 && errors.Is(j.err, ErrStore) {
		// A gateway that is told its tenure thinks that its limits are shared, and would
		// refuse requests for as long as nothing can be written.
		return nil, nil, j.err
	}
	return j.told, j.shares, j.err
}

func parseInstance(text string, instance *shares.Instance) error {
	data, err := hex.DecodeString(text)
	if err != nil || len(data) != 4*len(instance) {
		return fmt.Errorf("instance: %.40q, must be %d hex digits", text, 8*len(instance))
	}
	for i := range instance {
		instance[i] = uint32(data[4*i])<<24 | uint32(data[4*i+1])<<16 | uint32(data[4*i+2])<<8 | uint32(data[4*i+3])
	}
	return nil
}

// enter waits for a round, and reports whether the caller is to lead it. Otherwise j
// is answered.
func (s *Sharing) enter(j *job, wait time.Duration) (lead bool) {
	s.mu.Lock()
	s.queue = append(s.queue, j)
	lead = !s.leading
	s.leading = true
	s.mu.Unlock()
	if lead {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case lead = <-j.turn:
		return lead
	case <-timer.C:
	}
	if s.leave(j) {
		s.hasNoTime(j)
		return false
	}
	return <-j.turn
}

// hasNoTime notes that a job will not be settled.
func (s *Sharing) hasNoTime(j *job) {
	j.err = errNoTime
	s.recent.count(func(c *Entries) { c.Failed += int64(len(j.report.Entries)) })
}

// leave takes a job back, unless its round has begun or it is to lead one.
func (s *Sharing) leave(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	place := slices.Index(s.queue, j)
	if place < 0 || j.leads {
		return false
	}
	s.queue = slices.Delete(s.queue, place, place+1)
	return true
}

// lead settles a round, in which the caller's own job is.
func (s *Sharing) lead(ctx context.Context, own *job) {
	s.mu.Lock()
	rest := s.gap - s.now().Sub(s.began)
	s.mu.Unlock()
	if rest > 0 && rest <= longestGap {
		s.pause(ctx, rest)
	}
	jobs := s.begin()
	defer func() {
		s.end()
		for _, j := range jobs {
			if j != own {
				j.turn <- false
			}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	s.round(ctx, jobs)
}

// begin takes the jobs of a round, the first of which leads it.
func (s *Sharing) begin() []*job {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = s.now()
	n, entries := 0, 0
	for n < len(s.queue) && (n == 0 || entries+len(s.queue[n].report.Entries) <= maxRound) {
		entries += len(s.queue[n].report.Entries)
		n++
	}
	jobs := slices.Clone(s.queue[:n])
	s.queue = slices.Delete(s.queue, 0, n)
	return jobs
}

// end has the first that waits lead the next round.
func (s *Sharing) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gap = min(max(gap, gapShare*s.now().Sub(s.began)), longestGap)
	if len(s.queue) == 0 {
		s.leading = false
		return
	}
	s.queue[0].leads = true
	s.queue[0].turn <- true
}

// round gives each job its tenure and its shares, as far as the store can be asked.
func (s *Sharing) round(ctx context.Context, jobs []*job) {
	err := s.register(ctx, jobs)
	if err == nil {
		err = s.settle(ctx, jobs)
	}
	s.noteStore(err)
}

// pause waits, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// again waits before what lost a race, or failed, is tried again. It is false if there
// is no more time for that.
func (s *Sharing) again(ctx context.Context, attempt int) bool {
	if attempt+1 >= attempts || ctx.Err() != nil {
		return false
	}
	longest := min(firstPause<<attempt, lastPause)
	s.pause(ctx, longest/2+rand.N(longest/2)) //nolint:gosec // Nobody gains by guessing it.
	return ctx.Err() == nil
}
