// Package feed keeps a gateway's table up to date: it asks sync endpoints for
// the table, keeps the last good one, and decides whom to ask again, and when.
// docs/sync.md tells the endpoints' side of it.
//
// This file has the loop: one poll after another, and what is in force. In
// endpoint.go stands whom to ask and for how long they may hold their answer, in
// exchange.go one HTTP exchange, in successor.go which answers replace the table
// in force, in signature.go who has to have signed them, and in parts.go how a
// table that comes in parts is made whole. cache.go and cachefile.go keep tables
// across restarts.
package feed

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/tollgate-apim/tollgate/table"
)

// How long a feed waits when all endpoints have failed: firstRetry, doubled by
// each further round, but never more than the larger of maxRetry and the poll
// interval.
const (
	firstRetry = 500 * time.Millisecond
	maxRetry   = 30 * time.Second
)

// jitterShare is by how much of itself each delay is drawn shorter or longer,
// so that gateways that started together do not go on asking together.
const jitterShare = 0.1

// maxReason is how many bytes of what went wrong a line tells.
const maxReason = 1000

// Config says whom a feed asks, how often, and whom it tells.
type Config struct {
	// Endpoints are the base URLs of the sync endpoints, without a trailing
	// slash; table.Path is appended. The feed stays with one that works, and
	// goes on to the next when it fails. There must be at least one.
	Endpoints []string
	// Token goes out as Bearer token; empty sends none.
	Token string
	// Interval is the time between polls of an endpoint that does not hold its
	// answer. It must be positive.
	Interval time.Duration
	// Timeout is for one whole exchange, body included, beside the time for
	// which the endpoint was asked to hold its answer. It must be positive.
	Timeout time.Duration
	// Wait is for how long an endpoint is asked to hold its answer while there
	// is no newer table; 0 means not at all.
	Wait time.Duration
	// MaxBytes is the largest table that is read, in bytes after
	// decompression; 0 means table.DefaultMaxBytes.
	MaxBytes int64
	// PublicKeys are those that a table may be signed with. With none, a table
	// must not be signed.
	PublicKeys []ed25519.PublicKey
	// Cache keeps the table in force across restarts; nil keeps none.
	Cache *Cache
	// Unchecked says that Client takes anybody for the endpoints.
	Unchecked bool
	// Client returns what carries the TLS settings, http.DefaultClient if it is
	// nil. Each poll calls it, and goes on with the connections that there are
	// if it returns the same as before. The feed works on a copy that never
	// follows a redirect.
	Client func() *http.Client
	// Activated, if it is not nil, is told of each table that comes into force
	// after the start: one after another, in the order in which they do. It is
	// called by the poll that brought the table, before the next one begins, or
	// by what read it from the cache.
	Activated func(*Snapshot)
	// Report takes one line for each change of state; failed says that
	// something got worse. It is never called twice at once, and may call Stop
	// once Start has returned.
	Report func(line string, failed bool)
}

// Snapshot is the table in force. It is never changed: a newer table, or a newer
// confirmation of the same one, comes as another snapshot.
type Snapshot struct {
	Table *table.Table
	// Confirmed is when the poll began in which an endpoint last gave this
	// table, or said that it still holds. It has a monotonic reading. It is zero,
	// which is long ago, if that is not known.
	Confirmed time.Time
	// From is the endpoint that did; empty if it is not known.
	From string

	// sum is the SHA-256 of the body that the table was decoded from; empty
	// if it is not known. For a table in parts, that was the index.
	sum string
	// partBytes is how long its parts are together.
	partBytes int64
	// etag is what From called the table; empty if it did not say.
	etag string
	// proof says who signed the table.
	proof proof
}

// Feed polls sync endpoints, one at a time. Polls never overlap: the next one is
// scheduled when the one before it is done.
type Feed struct {
	cfg     Config
	timing  timing
	current atomic.Value // *Snapshot, absent before the first table

	// ctx ends with the feed.
	ctx    context.Context
	cancel context.CancelFunc

	// forcing is held while a table comes into force, until all is told of it
	// that began says: nothing before Start returns.
	forcing sync.Mutex
	began   bool

	mu      sync.Mutex
	stopped bool
	stop    func() bool // of the timer armed last
	telling sync.Mutex  // held while Report is called
	// client is a copy of given, which cfg.Client returned, and at which of the
	// endpoints is asked. The poll under way changes them; Stop and Post read
	// them.
	client, given *http.Client
	at            int

	// What follows belongs to the poll under way.

	endpoints []*endpoint
	failures  int // in a row, of any of them
	// working says that the last poll succeeded. Otherwise the next one does not
	// wait: what counts most then is whether there is an answer.
	working bool
	// late says that the last exchange was not complete in time.
	late bool
	// pause is the time until the next poll after a success, before jitter.
	pause time.Duration
	// fetched are the parts of a table of which others are still missing, by
	// their sums.
	fetched map[string]*table.Part
}

// timing is what tests replace.
type timing struct {
	now   func() time.Time
	after func(d time.Duration, f func()) (stop func() bool)
	draw  func() float64 // from 0 to 1
	// background runs f on a goroutine of its own.
	background func(f func())
}

func realTiming() timing {
	var timer *time.Timer
	stop := func() bool { return timer.Stop() }
	return timing{
		now: time.Now,
		// It is one timer for all of them: f is always the same. In Yaegi a timer
		// holds the frames in which its func value was made. If each poll made the
		// timer of the next one, all polls that ever were would hang together, with
		// every table that they brought.
		after: func(d time.Duration, f func()) func() bool {
			if timer == nil {
				timer = time.AfterFunc(d, f)
			} else {
				timer.Reset(d)
			}
			return stop
		},
		draw:       rand.Float64,
		background: func(f func()) { go f() },
	}
}

// Start returns a feed that polls until it is stopped. It does not wait: the
// first poll runs in the background, at once. Until that brings a table, last is
// in force; it comes from an older feed with an endpoint in common, or is nil. A
// last that none of cfg.PublicKeys has signed is left out. A newer table in the
// cache is in force in its place when Start returns, unless reading it takes longer
// than the cache's patience: then it comes into force once it was read, if it is
// still newer.
func Start(cfg Config, last *Snapshot) *Feed {
	return start(cfg, last, newTiming())
}

// In Yaegi a func value holds the frame in which it was made, and the frames of
// all callers of that, with whatever table stands in them. These two make func
// values that last as long as a feed. They are func values of init's, so a call
// of theirs has no callers.
var (
	newTiming func() timing
	launch    func(*Feed)
)

func init() {
	newTiming = func() timing { return realTiming() }
	launch = func(f *Feed) { f.arm(0) }
}

func start(cfg Config, last *Snapshot, with timing) *Feed {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = table.DefaultMaxBytes
	}
	if len(cfg.Endpoints) == 0 {
		cfg.Endpoints = []string{""} // which cannot be asked, and says so
	}
	f := &Feed{cfg: cfg, timing: with, pause: cfg.Interval}
	for _, u := range cfg.Endpoints {
		f.endpoints = append(f.endpoints, &endpoint{url: u, shown: withoutUser(u), wait: cfg.Wait})
	}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if last = Inherited(last, cfg.PublicKeys); last != nil {
		f.current.Store(last)
	}
	if cfg.Cache != nil {
		cfg.Cache.restore(f)
	}
	f.begin()
	launch(f)
	return f
}

// begin has cfg.Activated be told of tables from now on.
func (f *Feed) begin() {
	f.forcing.Lock()
	defer f.forcing.Unlock()
	f.began = true
}

// Current returns the table in force, or nil before the first one. It is one
// atomic load, for the request path.
func Current(f *Feed) *Snapshot {
	s, _ := f.current.Load().(*Snapshot)
	return s
}

// Stop ends the feed: it cancels the poll under way without waiting for it, and
// no other follows. The table in force stays readable. Calling Stop again does
// nothing.
func (f *Feed) Stop() {
	f.mu.Lock()
	stopped := f.stopped
	f.stopped = true
	stop, client := f.stop, f.client
	f.mu.Unlock()
	if stopped {
		return
	}
	stop()
	f.cancel()
	if client != nil {
		client.CloseIdleConnections()
	}
	if f.cfg.Cache != nil {
		f.cfg.Cache.release(f)
	}
}

// arm schedules the next poll.
func (f *Feed) arm(delay time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.stopped {
		f.stop = f.timing.after(delay, f.turn)
	}
}

// turn is one poll and what follows from it. It runs on a timer's goroutine,
// where a panic would end the host process.
func (f *Feed) turn() {
	defer func() {
		// poll recovers for itself. What panics beside it is Report, so there
		// is nobody left to tell.
		_ = recover()
		f.arm(f.delay())
	}()
	f.settle(f.poll())
}

// outcome is what a poll comes to: what is to be in force in place of what was
// held when it began, and how long to leave it at that; or what went wrong.
type outcome struct {
	held, next *Snapshot
	// body is what next came in, unless it was only confirmed.
	body  []byte
	pause time.Duration
	// note is what else there is to tell; it is no failure.
	note string
	err  error
}

// poll asks one endpoint. A panic becomes an error like any other.
func (f *Feed) poll() (o outcome) {
	o = outcome{}
	defer func() {
		if p := recover(); p != nil {
			o = outcome{err: fmt.Errorf("polling panicked: %v", p)}
		}
	}()
	f.renewClient()
	e, held := f.endpoints[f.at], Current(f)
	began := f.timing.now()
	q := f.question(e, held, began)
	asked, anew := q.wait > 0, false
	a, err := f.ask(q)
	if err != nil && a.cut && q.wait > 0 && f.ctx.Err() == nil {
		// A proxy may not bear connections on which nothing happens, or the
		// endpoint is out of order. It tells which if it is asked plainly.
		began = f.timing.now()
		q.wait = 0
		if a, err = f.ask(q); err == nil {
			o.note = e.shorten(began)
		}
	}
	if err == nil {
		o.next, err = f.successor(held, q, a, began)
	}
	for try := 1; errors.Is(err, errPartGone) && try < maxTries; try++ {
		anew = true
		began = f.timing.now()
		q.wait = 0
		if a, err = f.ask(q); err == nil {
			o.next, err = f.successor(held, q, a, began)
		}
	}
	if err != nil || anew {
		if asked {
			e.refusals++
		}
	} else if q.wait > 0 {
		e.refusals = 0
	}
	if err != nil {
		return outcome{err: err}
	}
	o.held = held
	o.body = a.body
	now := f.timing.now()
	fresh := held == nil || held.Table != o.next.Table
	o.pause = f.cfg.Interval
	if o.next.tagFor(e.url) != "" && e.mayWait(now) {
		o.pause = e.pause(q.wait > 0, a.waited, fresh, now.Sub(began), f.cfg.Interval)
	}
	return o
}

// successor returns what follows held after an answer to a question of a poll
// that began at now, with all its parts.
func (f *Feed) successor(held *Snapshot, q question, a answer, now time.Time) (*Snapshot, error) {
	next, err := successor(held, q, a, f.cfg.PublicKeys, now)
	if err == nil && len(next.Table.Parts) > 0 && table.LoadedParts(next.Table) == nil {
		err = f.complete(next, held, q.endpoint, len(a.body))
	}
	return next, err
}

// putInForce puts next in force, unless the feed was stopped, and says whether its
// table is another one than before. It returns an error if something else than held
// is in force by now, which next cannot replace.
func (f *Feed) putInForce(held, next *Snapshot) (bool, error) {
	f.forcing.Lock()
	defer f.forcing.Unlock()
	if now := Current(f); now != held {
		if err := follows(now, next); err != nil {
			return false, err
		}
	}
	return f.forceLocked(next), nil
}

// adopt puts what was read from the cache in force if it is newer than what is, and
// says whether it was.
func (f *Feed) adopt(s *Snapshot) bool {
	f.forcing.Lock()
	defer f.forcing.Unlock()
	if now := Current(f); now != nil && now.Table.Revision >= s.Table.Revision {
		return false
	}
	return f.forceLocked(s)
}

// forceLocked is putInForce for what can replace anything.
func (f *Feed) forceLocked(next *Snapshot) bool {
	now := Current(f)
	f.mu.Lock()
	stopped := f.stopped
	if !stopped {
		f.current.Store(next)
	}
	f.mu.Unlock()
	fresh := !stopped && (now == nil || now.Table != next.Table)
	if fresh && f.began && f.cfg.Activated != nil {
		f.cfg.Activated(next)
	}
	return fresh
}

// settle puts a poll's outcome in force and reports what changed.
func (f *Feed) settle(o outcome) {
	fresh := false
	if o.err == nil {
		var err error
		if fresh, err = f.putInForce(o.held, o.next); err != nil {
			o = outcome{err: err}
		}
	}
	f.mu.Lock()
	stopped := f.stopped
	f.mu.Unlock()
	if stopped {
		return
	}
	e := f.endpoints[f.at]

	if o.err != nil {
		f.failures++
		f.working = false
		f.mu.Lock()
		f.at = (f.at + 1) % len(f.endpoints)
		f.mu.Unlock()
		reason := f.readable(o.err)
		told := Gist(reason)
		if told != e.told {
			e.told = told
			f.report(e, reason+"; "+consequence(Current(f)), true)
		}
		return
	}

	again, instead := e.told != "", f.failures > 0
	f.failures, f.pause, f.working, e.told = 0, o.pause, true, ""
	if o.note != "" {
		f.report(e, o.note, false)
	}
	if f.cfg.Cache != nil {
		f.cfg.Cache.keep(f, o.next, o.body)
	}
	news := fmt.Sprintf("the table of revision %d is in force", o.next.Table.Revision)
	if again {
		f.report(e, "answers again; "+news, false)
	} else if instead {
		f.report(e, "answers instead; "+news, false)
	} else if fresh {
		f.report(e, news, false)
	}
}

func (f *Feed) report(e *endpoint, what string, failed bool) {
	f.tell("sync endpoint "+e.shown+": "+what, failed)
}

// tell reports a line, unless the feed was stopped.
func (f *Feed) tell(line string, failed bool) {
	f.mu.Lock()
	stopped := f.stopped
	f.mu.Unlock()
	if stopped || f.cfg.Report == nil {
		return
	}
	f.telling.Lock()
	defer f.telling.Unlock()
	f.cfg.Report(line, failed)
}

// delay draws how long to wait for the next poll.
func (f *Feed) delay() time.Duration {
	d := f.pause
	if f.failures > 0 {
		d = 0 // for the next endpoint
		if f.failures%len(f.endpoints) == 0 {
			d = retryDelay(f.failures/len(f.endpoints), f.cfg.Interval)
		}
	}
	return time.Duration(float64(d) * (1 + jitterShare*(2*f.timing.draw()-1)))
}

// retryDelay returns the delay after so many failed rounds, before jitter.
func retryDelay(rounds int, interval time.Duration) time.Duration {
	longest := maxRetry
	if interval > longest {
		longest = interval
	}
	return doubled(firstRetry, rounds, longest)
}

// doubled returns first for n = 1, twice that for n = 2, and so on up to longest.
func doubled(first time.Duration, n int, longest time.Duration) time.Duration {
	d := first
	for i := 1; i < n && d < longest; i++ {
		d *= 2
	}
	if d > longest {
		return longest
	}
	return d
}

// consequence says what a failure means for requests.
func consequence(held *Snapshot) string {
	if held == nil {
		return "there is no table yet, so requests are refused"
	}
	return fmt.Sprintf("the last good table (revision %d) stays in force", held.Table.Revision)
}

// varying matches what differs between two failures that are the same: addresses
// and their ports, the time, the number of a stream, how long a body was, what
// revision and which of its parts could not be had.
var varying = regexp.MustCompile(strings.Join([]string{
	`[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(Z|[+-][0-9]{2}:?[0-9]{2})?`,
	`[0-9]{1,3}(\.[0-9]{1,3}){3}`,
	`\[[0-9a-fA-F:.]*:[0-9a-fA-F:.]*(%[^\]]*)?\]`,
	`:[0-9]+`,
	`[Ss]tream ?ID[ =][0-9]+`,
	`\([0-9]+ bytes`,
	`revision [0-9]+`,
	`part [0-9]+ of [0-9]+`,
	`part [0-9a-f]{64}`,
	`SHA-256 [0-9a-f]{64}`,
	`[0-9]+ of [0-9]+ parts`,
	`within [0-9hms.]+`,
}, "|"))

// Gist returns what is the same in all texts of one failure, for whoever tells of a
// failure once and not each time that it is met.
func Gist(reason string) string { return varying.ReplaceAllString(reason, "") }

// readable returns err's text without secrets, on one line of bounded length. A
// server may have put anything into it, the token that it was sent included.
func (f *Feed) readable(err error) string {
	text := err.Error()
	secrets := []string{f.cfg.Token}
	for _, e := range f.endpoints {
		if u, err := url.Parse(e.url); err == nil {
			password, _ := u.User.Password()
			secrets = append(secrets, password, u.User.Username())
		}
	}
	for _, secret := range secrets {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "[hidden]")
		}
	}
	if len(text) > maxReason {
		text = strings.ToValidUTF8(text[:maxReason], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
}
