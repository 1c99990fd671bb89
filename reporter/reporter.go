// Package reporter tells sync endpoints what a gateway has admitted and refused:
// one report after another, each sent until it is taken, so that every request
// counts once. docs/reports.md tells the endpoints' side of it.
//
// This file has the loop. tally.go holds what waits to be reported.
package reporter

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/usage"
)

// When reports are made, before jitter.
const (
	// first is how long after the start the first one is made.
	first = time.Second
	// usual is the time between two until an answer says otherwise.
	usual = time.Second
	// After a failure one waits firstRetry, doubled by each further one up to
	// maxRetry.
	firstRetry = 500 * time.Millisecond
	maxRetry   = 30 * time.Second
	// soonest is the time to the next one if not all fitted into the last.
	soonest = 100 * time.Millisecond
	// idle says how many times later than wanted a report comes that has
	// nothing to tell.
	idle = 10
	// quietest is the longest time between two reports of a gateway that shares
	// limits: the control plane forgets those that it does not hear of for minutes.
	quietest = 30 * time.Second
	// gap is the time from when a report is sent until one is that hurries.
	gap = 50 * time.Millisecond
	// longestRest bounds the time in which nothing is collected, whatever else
	// there is to wait for.
	longestRest = 10 * time.Second
)

// jitterShare is by how much of itself each delay is drawn shorter or longer.
const jitterShare = 0.1

// How large a report is made. An endpoint has to take far more, but web servers in
// front of it often allow no more than 1 MiB.
const (
	mostRows  = 4096
	mostBytes = 768 << 10
)

// lastReports is how many reports there are at most when the end has come.
const lastReports = 64

// Config says what is reported, and how.
type Config struct {
	// Instance and Host are what reports say of the gateway.
	Instance, Host string
	// Collect gives what was counted since the last call to add, which may be
	// called several times for rows of one kind. If what was counted last is not
	// decided yet, it may come with the next call, unless this is the last one
	// for long. It is never called twice at once.
	Collect func(add func(usage.Row), last bool)
	// State returns the revision of the table in force, or 0, and how long ago
	// it was confirmed.
	State func() (revision int64, age time.Duration)
	// Sharing says whether the gateway shares limits with others. Active says
	// whether it has entries to tell, and Entries returns them with the tenure that
	// they are of. Each report that has them is settled by one call of Answered,
	// with the answer, or nil if there will be none.
	Sharing  func() bool
	Active   func() bool
	Entries  func() (tenure int64, entries []usage.Entry)
	Answered func(answer *usage.Answer)
	// Post sends a report.
	Post func(body []byte) feed.Reply
	// Report takes one line for each change of state; failed says that something
	// got worse. It is never called twice at once.
	Report func(line string, failed bool)
	// Timing is what tests replace.
	Timing Timing
}

// Timing is a clock, a timer and dice. What is nil is the real one.
type Timing struct {
	Now func() time.Time
	// AfterFunc runs f after d, on a goroutine of its own, unless it is stopped or
	// called again before. It is always called with the same f.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// Draw returns a number from 0 to 1.
	Draw func() float64
}

// In Yaegi a func value holds the frame in which it was made, and the frames of
// all callers of that. What makes those that last is a func value that init sets:
// calls of that have no callers. Package feed tells more.
var (
	newTiming func() Timing
	launch    func(*Reporter)
)

func init() {
	newTiming = func() Timing { return realTiming() }
	launch = func(r *Reporter) { r.launch() }
}

func realTiming() Timing {
	var timer *time.Timer
	stop := func() bool { return timer.Stop() }
	return Timing{
		Now: time.Now,
		AfterFunc: func(d time.Duration, f func()) func() bool {
			if timer == nil {
				timer = time.AfterFunc(d, f)
			} else {
				timer.Reset(d)
			}
			return stop
		},
		Draw: rand.Float64,
	}
}

// launch schedules the first turn.
func (r *Reporter) launch() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.awake && !r.running {
		r.armLocked(r.jittered(first))
	}
}

// Reporter makes reports while it is awake, one at a time. Any number of
// goroutines may use it.
type Reporter struct {
	cfg Config

	mu    sync.Mutex
	awake bool
	// ends says that it is to sleep after a last report, and done is called
	// then.
	ends bool
	done func()
	// running says that a turn is under way.
	running bool
	// off says that the endpoint takes no reports.
	off bool
	// renewed says that a table came into force during the turn under way.
	renewed bool
	// news says that it is worth trying again now, whatever was before.
	news bool
	// hurried says that the next report is wanted soon.
	hurried bool

	// What follows belongs to the turn under way.

	last    bool // after it the reporter sleeps
	waiting *tally
	// merged says that callers are no longer told apart, which was told.
	merged bool
	// sequence is that of the report that was made last.
	sequence int64
	pending  *report // has no answer yet
	// sent is when a report was sent last, due when the next one may be, and next
	// the time between two.
	sent     time.Time
	due      time.Time
	next     time.Duration
	failures int // in a row
	// accepted is when the last report was, and revision what it told.
	accepted time.Time
	revision int64
	shared   bool // the last report told that limits are shared
	// told is the failure that was last reported, without what varies.
	told  string
	spoke bool // of the first success
}

// report is one that was made.
type report struct {
	sequence, revision int64
	requests           int64
	sharing            bool // limits
	body               []byte
}

// New returns a reporter that sleeps.
func New(cfg Config) *Reporter {
	actual := newTiming()
	if cfg.Timing.Now == nil {
		cfg.Timing.Now = actual.Now
	}
	if cfg.Timing.AfterFunc == nil {
		cfg.Timing.AfterFunc = actual.AfterFunc
	}
	if cfg.Timing.Draw == nil {
		cfg.Timing.Draw = actual.Draw
	}
	return &Reporter{cfg: cfg, waiting: newTally(usage.MaxRows), next: usual}
}

// Wake has reports made from now on. Calling it again does nothing.
func (r *Reporter) Wake() {
	r.mu.Lock()
	was := r.awake && !r.ends
	r.awake = true
	r.ends = false
	r.done = nil
	running := r.running
	if !was {
		r.off = false
		r.news = true
	}
	r.mu.Unlock()
	if !was && !running {
		launch(r)
	}
}

// Renew tells that there is another table, or another endpoint. One that took no
// reports may take them now.
func (r *Reporter) Renew() {
	r.mu.Lock()
	was := r.off
	running := r.running
	r.off = false
	r.renewed = running
	if was {
		r.news = true
	}
	again := was && r.awake && !running
	r.mu.Unlock()
	if again {
		launch(r)
	}
}

// Hurry has a report sent soon. If the last one failed, that waits until one is
// answered.
func (r *Reporter) Hurry() {
	r.mu.Lock()
	defer r.mu.Unlock()
	again := !r.hurried && r.awake && !r.running && !r.ends && !r.off
	r.hurried = true
	if again {
		r.armLocked(r.restLocked())
	}
}

// Sleep ends the reports with a last one, in the background, and calls done after
// it, unless Wake is called before. What cannot be reported waits until then.
func (r *Reporter) Sleep(done func()) {
	r.mu.Lock()
	awake := r.awake
	r.ends = awake
	r.done = done
	if awake && !r.running {
		r.armLocked(0)
	}
	r.mu.Unlock()
	if !awake {
		done()
	}
}

// armLocked schedules the next turn.
func (r *Reporter) armLocked(delay time.Duration) {
	_ = r.cfg.Timing.AfterFunc(delay, r.turn)
}

// turn runs on a timer's goroutine, where a panic would end the host process.
func (r *Reporter) turn() {
	defer func() { _ = recover() }()
	if r.begin() {
		r.whole()
	}
}

// begin says whether a turn may begin: there is one at a time.
func (r *Reporter) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running || !r.awake {
		return false
	}
	r.running = true
	r.renewed = false
	if r.news {
		r.news = false
		r.due = time.Time{}
	}
	if r.hurried && r.failures == 0 {
		r.hurried = false
		r.due = time.Time{}
	}
	return true
}

// whole is a turn from its beginning to its end.
func (r *Reporter) whole() {
	defer func() {
		// work recovers for itself. What panics beside it is Report, so there is
		// nobody left to tell.
		if recover() != nil {
			r.due = r.cfg.Timing.Now().Add(maxRetry)
		}
		r.end()
	}()
	r.work()
}

// end schedules what follows a turn.
func (r *Reporter) end() {
	r.mu.Lock()
	r.running = false
	ended := r.ends && r.last
	var done func()
	if ended {
		done = r.done
		r.awake = false
		r.ends = false
		r.done = nil
	} else if r.ends {
		r.armLocked(0)
	} else {
		r.armLocked(r.restLocked())
	}
	r.mu.Unlock()
	if done != nil {
		done()
	}
}

// restLocked returns the time until the next turn.
func (r *Reporter) restLocked() time.Duration {
	now := r.cfg.Timing.Now()
	if r.hurried && r.failures == 0 && !r.off {
		rest := r.sent.Add(gap).Sub(now)
		if rest < 0 {
			rest = 0
		}
		return rest
	}
	if r.news {
		return r.jittered(first)
	}
	rest := r.due.Sub(now)
	if r.off || rest > longestRest {
		return longestRest
	}
	if rest < 0 {
		return 0
	}
	return rest
}

// work collects what was counted, and makes a report of it if it is time for one.
func (r *Reporter) work() {
	defer func() {
		if p := recover(); p != nil {
			r.fail(feed.Reply{}, fmt.Errorf("reporting panicked: %v", p))
		}
	}()
	r.mu.Lock()
	off := r.off
	r.last = r.ends
	r.mu.Unlock()
	r.collect()
	if off {
		return
	}
	if r.last {
		for i := 0; i < lastReports && r.wanted(true); i++ {
			if !r.send() {
				return
			}
		}
		return
	}
	now := r.cfg.Timing.Now()
	if now.Before(r.due) {
		return
	}
	if r.wanted(false) {
		r.send()
	} else {
		r.due = now.Add(r.jittered(r.next))
	}
}

// collect adds what was counted to what waits.
func (r *Reporter) collect() {
	merged := false
	r.cfg.Collect(func(row usage.Row) {
		if r.waiting.add(row) {
			merged = true
		}
	}, r.last)
	if merged && !r.merged {
		r.cfg.Report(fmt.Sprintf("reports: more than %d kinds of requests wait to be reported; "+
			"of further ones it is not told who called", usage.MaxRows), true)
	}
	r.merged = merged || r.merged && r.waiting.full()
}

// wanted says whether there is a report to send, and makes it if that was not done
// before. One that tells of no requests is not worth being the last.
func (r *Reporter) wanted(last bool) bool {
	if r.pending != nil {
		return true
	}
	revision, age := r.cfg.State()
	sharing := r.cfg.Sharing()
	// At the end, what is lent is over sooner than a report could give it back.
	active := sharing && !last && r.cfg.Active()
	if !active && !r.waiting.waits() {
		longest := idle * r.next
		if sharing && longest > quietest {
			longest = quietest
		}
		rested := r.cfg.Timing.Now().Sub(r.accepted) >= longest || sharing && !r.shared
		if last || !rested && revision == r.revision {
			return false
		}
	}
	r.pending = r.compose(revision, age, sharing)
	r.shared = sharing
	return true
}

// compose makes a report of what waits, or of part of it if that is much.
func (r *Reporter) compose(revision int64, age time.Duration, sharing bool) *report {
	rows := r.waiting.take(mostRows)
	r.sequence++
	told := usage.Report{
		Instance: r.cfg.Instance,
		Sequence: r.sequence,
		Host:     r.cfg.Host,
		Revision: revision,
		TableAge: math.Round(math.Max(age.Seconds(), 0)*1000) / 1000,
	}
	if sharing {
		told.Sharing = true
		told.Tenure, told.Entries = r.cfg.Entries()
	}
	for {
		told.Usage = rows
		body, err := json.Marshal(told)
		if err == nil && len(body) > mostBytes && len(rows) > 1 {
			half := len(rows) / 2
			for _, row := range rows[half:] {
				r.waiting.add(row)
			}
			rows = rows[:half]
			continue
		}
		requests := int64(0)
		for _, row := range rows {
			requests += row.Count
		}
		return &report{sequence: r.sequence, revision: revision, requests: requests, sharing: sharing, body: body}
	}
}

// send sends the report that is pending, and says whether another one may follow.
func (r *Reporter) send() bool {
	r.sent = r.cfg.Timing.Now()
	reply := r.cfg.Post(r.pending.body)
	if reply.Err == nil {
		answer, err := usage.DecodeAnswer(reply.Body, r.pending.sequence)
		if err != nil {
			r.fail(reply, fmt.Errorf("the answer is not valid: %w", err))
			return false
		}
		r.next = time.Duration(answer.Next * float64(time.Second))
		r.answered(answer)
		r.accept(reply)
		return true
	}
	// Where limits are shared all depends on reports, and what says that there are
	// none may be a proxy that waits for its endpoint.
	if takesNone[reply.Status] && !r.cfg.Sharing() {
		r.rest(reply)
		return false
	}
	if reply.Status == http.StatusBadRequest {
		r.drop(reply)
		return false
	}
	if reply.Status == http.StatusConflict {
		return r.skip(reply)
	}
	r.fail(reply, reply.Err)
	return false
}

// takesNone lists the statuses of an endpoint that takes no reports.
var takesNone = map[int]bool{
	http.StatusNotFound:         true,
	http.StatusMethodNotAllowed: true,
	http.StatusNotImplemented:   true,
}

// answered hands the answer to the report that is pending on, nil for none.
func (r *Reporter) answered(answer *usage.Answer) {
	if r.pending.sharing {
		r.cfg.Answered(answer)
	}
}

// accept takes note that the report that was pending counts.
func (r *Reporter) accept(reply feed.Reply) {
	now := r.cfg.Timing.Now()
	r.accepted = now
	r.revision = r.pending.revision
	r.pending = nil
	r.failures = 0
	rest := r.next
	if rest > soonest && r.waiting.waits() {
		rest = soonest
	}
	r.due = now.Add(r.jittered(rest))
	if r.told != "" {
		r.report(reply, "accepted again", false)
	} else if !r.spoke {
		r.report(reply, "accepted, as those of instance "+r.cfg.Instance, false)
	}
	r.told = ""
	r.spoke = true
}

// rest makes no more reports until the next table.
func (r *Reporter) rest(reply feed.Reply) {
	r.mu.Lock()
	r.off = !r.renewed
	r.news = r.renewed // whatever came into force may change the answer
	r.mu.Unlock()
	r.failures = 0
	const none = "takes none"
	if r.told != none {
		r.told = none
		r.report(reply, fmt.Sprintf("it takes none (status %d %s); they rest until the next table", reply.Status, http.StatusText(reply.Status)), false)
	}
}

// drop gives up the report that was pending, which the endpoint will never take.
func (r *Reporter) drop(reply feed.Reply) {
	requests := r.pending.requests
	r.answered(nil)
	r.pending = nil
	r.retry(reply)
	r.told = reply.Err.Error()
	r.report(reply, fmt.Sprintf("%s; %d requests will never be reported", reply.Err, requests), true)
}

// skip goes on after the report that the endpoint says to have accepted last. It
// says whether that makes sense.
func (r *Reporter) skip(reply feed.Reply) bool {
	var behind struct {
		Sequence int64 `json:"sequence"`
	}
	err := json.Unmarshal(reply.Body, &behind)
	if err == nil && (behind.Sequence < r.pending.sequence || behind.Sequence >= usage.MaxCount) {
		err = fmt.Errorf("sequence: %d, must be %d or more", behind.Sequence, r.pending.sequence)
	}
	if err != nil {
		r.fail(reply, fmt.Errorf("%w; the answer is not valid: %w", reply.Err, err))
		return false
	}
	r.answered(nil)
	r.sequence = behind.Sequence
	r.report(reply, fmt.Sprintf("report %d was accepted before, and the last one was %d", r.pending.sequence, behind.Sequence), false)
	r.accept(reply)
	return true
}

// fail takes note that the report that is pending got no answer that settles it.
func (r *Reporter) fail(reply feed.Reply, err error) {
	r.retry(reply)
	reason := err.Error()
	told := varying.ReplaceAllString(reason, "")
	if told == r.told {
		return
	}
	r.told = told
	requests := r.waiting.total
	if r.pending != nil {
		requests += r.pending.requests
	}
	r.report(reply, fmt.Sprintf("%s; %d requests wait to be reported", reason, requests), true)
}

// retry puts off what comes next, after one more failure.
func (r *Reporter) retry(reply feed.Reply) {
	delay := firstRetry
	for i := 0; i < r.failures && delay < maxRetry; i++ {
		delay *= 2
	}
	if delay > maxRetry {
		delay = maxRetry
	}
	r.failures++
	delay = r.jittered(delay)
	asked := reply.RetryAfter
	longest := usage.MaxNext * time.Second
	if r.cfg.Sharing() {
		longest = maxRetry
	}
	if asked > longest {
		asked = longest
	}
	if asked > delay {
		delay = asked
	}
	r.due = r.cfg.Timing.Now().Add(delay)
}

// varying matches what differs between two failures that are the same: the port
// of a connection.
var varying = regexp.MustCompile(`:[0-9]+`)

func (r *Reporter) report(reply feed.Reply, what string, failed bool) {
	line := "reports: " + what
	if reply.Endpoint != "" {
		line = "reports to " + reply.Endpoint + ": " + what
	}
	r.cfg.Report(line, failed)
}

// jittered draws a delay a little shorter or longer.
func (r *Reporter) jittered(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (1 + jitterShare*(2*r.cfg.Timing.Draw()-1)))
}
