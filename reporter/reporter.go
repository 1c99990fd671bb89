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
	// Where a server allows less, reports are halved, down to leastBytes, and stay
	// small for narrowFor.
	leastBytes = 512
	narrowFor  = time.Hour
	// rowBytes is about what a row takes at least.
	rowBytes = 100
)

// mostSenseless is how many times in a row an endpoint may refuse a report by a
// sequence number that is none, until it is taken not to know this instance.
const mostSenseless = 10

// lastReports is how many reports there are at most when the end has come.
const lastReports = 64

// Config says what is reported, and how.
type Config struct {
	// Instance draws what reports call the gateway. It is called by New, and again
	// when no report can follow under the last name: what limits were shared under
	// that must be given up then.
	Instance func() string
	// Host is what reports say of the gateway's machine.
	Host string
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
	// they are of, about so many bytes of JSON at most, and how many there was no room
	// for. Each report that shares is settled by one call of Answered, with the answer,
	// or nil if there will be none.
	Sharing  func() bool
	Active   func() bool
	Entries  func(bytes int) (tenure int64, entries []usage.Entry, left int)
	Answered func(answer *usage.Answer)
	// Post sends a report, which shares limits or not, and Endpoint returns where it
	// would go now, as replies name it.
	Post     func(body []byte, sharing bool) feed.Reply
	Endpoint func() string
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
	// off says that the endpoint offAt takes no reports.
	off   bool
	offAt string
	// renewed says that a table came into force during the turn under way.
	renewed bool
	// news says that it is worth trying again now, whatever was before.
	news bool
	// hurried says that the next report is wanted soon, but no sooner than spacing
	// after the last one.
	hurried bool
	spacing time.Duration

	// What follows belongs to the turn under way.

	last    bool // after it the reporter sleeps
	waiting *tally
	// merged says that callers are no longer told apart, which was told.
	merged bool
	// sequence is that of the report that was made last, as instance.
	instance string
	sequence int64
	pending  *report // has no answer yet
	// narrow is how large reports are made until narrowUntil.
	narrow      int
	narrowUntil time.Time
	// sent is when a report was sent last, due when the next one may be, and next
	// the time between two.
	sent     time.Time
	due      time.Time
	next     time.Duration
	failures int // in a row
	// senseless counts the refusals in a row that named a sequence number that is none.
	senseless int
	// accepted is when the last report was, and revision what it told.
	accepted time.Time
	revision int64
	shared   bool // the last report told that limits are shared
	// told is the gist of the failure that was last reported.
	told  string
	spoke bool // of the first success
}

// report is one that was made.
type report struct {
	sequence, revision int64
	requests           int64
	sharing            bool // limits
	body               []byte
	// rows are what it counts, entries how many it has, and left how many more there
	// were. It was to have most bytes at most.
	rows          []usage.Row
	entries, left int
	most          int
	// doubtful says that it may have been taken, without an answer that tells so.
	doubtful bool
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
	return &Reporter{cfg: cfg, instance: cfg.Instance(), waiting: newTally(usage.MaxRows), next: usual}
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
func (r *Reporter) Hurry() { r.HurryAfter(gap) }

// HurryAfter is Hurry for a report that shall come no sooner than d after the last one.
func (r *Reporter) HurryAfter(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sooner := !r.hurried || d < r.spacing
	if sooner {
		r.hurried = true
		r.spacing = d
	}
	if sooner && r.awake && !r.running && !r.ends && !r.off {
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
	if r.hurried && r.failures == 0 && !r.cfg.Timing.Now().Before(r.sent.Add(r.spacing)) {
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
		rest := r.sent.Add(r.spacing).Sub(now)
		if usual := r.due.Sub(now); usual < rest {
			rest = usual
		}
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
	off := r.resting()
	r.mu.Lock()
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

// resting says whether the endpoint takes no reports. Another one may.
func (r *Reporter) resting() bool {
	at := r.cfg.Endpoint()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.off && r.offAt != at {
		r.off = false
		r.due = time.Time{}
	}
	return r.off
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
	if r.sequence >= usage.MaxCount {
		r.begetInstance()
		r.report(feed.Reply{}, "the last sequence number is used up; they go on as those of instance "+r.instance, false)
	}
	most := mostBytes
	if r.cfg.Timing.Now().Before(r.narrowUntil) {
		most = r.narrow
	}
	atOnce := mostRows
	if few := 1 + most/rowBytes; few < atOnce {
		atOnce = few
	}
	rows := r.waiting.take(atOnce)
	r.sequence++
	told := usage.Report{
		Instance: r.instance,
		Sequence: r.sequence,
		Host:     r.cfg.Host,
		Revision: revision,
		TableAge: math.Round(math.Max(age.Seconds(), 0)*1000) / 1000,
	}
	left := 0
	if sharing {
		told.Sharing = true
		// The rest is for at least one row.
		told.Tenure, told.Entries, left = r.cfg.Entries(most / 6 * 5)
	}
	for {
		told.Usage = rows
		body, err := json.Marshal(told)
		if err == nil && len(body) > most && len(rows) > 1 {
			half := len(rows) / 2
			r.putBack(rows[half:])
			rows = rows[:half]
			continue
		}
		requests := int64(0)
		for _, row := range rows {
			requests += row.Count
		}
		return &report{
			sequence: r.sequence, revision: revision, requests: requests, sharing: sharing,
			body: body, rows: rows, entries: len(told.Entries), left: left, most: most,
		}
	}
}

// putBack has rows wait again.
func (r *Reporter) putBack(rows []usage.Row) {
	for _, row := range rows {
		r.waiting.add(row)
	}
}

// begetInstance has the next report be the first of another instance.
func (r *Reporter) begetInstance() {
	r.instance = r.cfg.Instance()
	r.sequence = 0
	r.senseless = 0
	r.accepted = time.Time{}
	r.shared = false
}

// send sends the report that is pending, and says whether another one may follow.
func (r *Reporter) send() bool {
	r.sent = r.cfg.Timing.Now()
	doubtful := r.pending.doubtful
	r.pending.doubtful = true
	reply := r.cfg.Post(r.pending.body, r.pending.sharing)
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
	// These two say for certain that this try does not count.
	if reply.Status == http.StatusConflict {
		r.pending.doubtful = doubtful
		return r.skip(reply)
	}
	if reply.Status == http.StatusRequestEntityTooLarge {
		r.pending.doubtful = doubtful
		return r.shrink(reply)
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
	r.senseless = 0
	r.accepted = now
	r.revision = r.pending.revision
	rest := r.next
	if left := r.pending.left; left > 0 {
		// All entries are to be told once in the usual time.
		rest = time.Duration(float64(rest) * float64(r.pending.entries) / float64(r.pending.entries+left))
	}
	if rest < soonest || r.waiting.waits() {
		rest = soonest
	}
	if rest > r.next {
		rest = r.next
	}
	r.pending = nil
	r.failures = 0
	r.due = now.Add(r.jittered(rest))
	if r.told != "" {
		r.report(reply, "accepted again", false)
	} else if !r.spoke {
		r.report(reply, "accepted, as those of instance "+r.instance, false)
	}
	r.told = ""
	r.spoke = true
}

// rest makes no more reports until the next table, or until another endpoint has its
// turn.
func (r *Reporter) rest(reply feed.Reply) {
	r.mu.Lock()
	r.off = !r.renewed
	r.offAt = reply.Endpoint
	r.news = r.renewed // whatever came into force may change the answer
	r.mu.Unlock()
	r.failures = 0
	none := "takes none: " + reply.Endpoint
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
	if err == nil && (behind.Sequence < r.pending.sequence || behind.Sequence > usage.MaxCount) {
		err = fmt.Errorf("sequence: %d, must be from %d to %d", behind.Sequence, r.pending.sequence, int64(usage.MaxCount))
		r.senseless++
	}
	if err != nil && r.senseless < mostSenseless {
		r.fail(reply, fmt.Errorf("%w; the answer is not valid: %w", reply.Err, err))
		return false
	}
	if err != nil || behind.Sequence == usage.MaxCount {
		r.beginAnew(reply)
		return false
	}
	r.answered(nil)
	r.sequence = behind.Sequence
	r.report(reply, fmt.Sprintf("report %d was accepted before, and the last one was %d", r.pending.sequence, behind.Sequence), false)
	r.accept(reply)
	return true
}

// beginAnew goes on as another instance, because the endpoint takes nothing more from
// this one.
func (r *Reporter) beginAnew(reply feed.Reply) {
	was := r.instance
	lost := r.giveUp()
	r.begetInstance()
	r.retry(reply)
	const refused = "no more from this instance"
	if r.told == refused && lost == "" {
		return
	}
	r.told = refused
	r.report(reply, fmt.Sprintf("%s: it takes no more of instance %s; they go on as those of instance %s%s", reply.Err, was, r.instance, lost), true)
}

// shrink goes on with smaller reports after one that was too large for a server on the
// way. It says whether that makes sense.
func (r *Reporter) shrink(reply feed.Reply) bool {
	size := len(r.pending.body)
	if size > r.pending.most {
		size = r.pending.most // What it has at least is more than that.
	}
	if size <= leastBytes || len(r.pending.rows) < 2 && r.pending.entries < 2 {
		r.fail(reply, reply.Err)
		return false
	}
	r.narrow = size / 2
	if r.narrow < leastBytes {
		r.narrow = leastBytes
	}
	now := r.cfg.Timing.Now()
	r.narrowUntil = now.Add(narrowFor)
	if !r.pending.doubtful {
		r.sequence-- // nothing was taken under it
	}
	told := r.pending
	lost := r.giveUp()
	r.due = now.Add(r.jittered(soonest))
	reason := reply.Err.Error()
	if reason != r.told || lost != "" {
		r.told = reason
		r.report(reply, fmt.Sprintf("%s, to %d bytes; smaller ones follow%s", reason, len(told.body), lost), true)
	}
	return true
}

// giveUp lets go of the report that is pending. What it counts is told by others, unless
// it may have been taken; then giveUp returns what to say of that.
func (r *Reporter) giveUp() string {
	told := r.pending
	r.answered(nil)
	r.pending = nil
	if !told.doubtful {
		r.putBack(told.rows)
		return ""
	}
	if told.requests == 0 {
		return ""
	}
	return fmt.Sprintf("; %d requests that it told of before, without an answer, may have been counted, and will not be told again", told.requests)
}

// fail takes note that the report that is pending got no answer that settles it.
func (r *Reporter) fail(reply feed.Reply, err error) {
	r.retry(reply)
	reason := err.Error()
	told := feed.Gist(reason)
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
