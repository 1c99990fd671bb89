// Package feed keeps a gateway's table up to date: it asks a sync endpoint for
// the table, keeps the last good one, and decides when to ask again.
// docs/sync.md tells the endpoint's side of it.
package feed

import (
	"context"
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

// How long a feed waits after a failure: firstRetry, doubled by each further
// failure, but never more than the larger of maxRetry and the poll interval.
const (
	firstRetry = 500 * time.Millisecond
	maxRetry   = 30 * time.Second
)

// jitterShare is by how much of itself each delay is drawn shorter or longer,
// so that gateways that started together do not go on asking together.
const jitterShare = 0.1

// maxReason is how many bytes of what went wrong a line tells.
const maxReason = 1000

// Config says what a feed asks, how often, and whom it tells.
type Config struct {
	// Endpoint is the base URL of the sync endpoint, without a trailing slash;
	// table.Path is appended.
	Endpoint string
	// Token goes out as Bearer token; empty sends none.
	Token string
	// Interval is the time between polls. It must be positive.
	Interval time.Duration
	// Timeout is for one whole exchange, body included. It must be positive.
	Timeout time.Duration
	// MaxBytes is the largest table that is read, in bytes after
	// decompression; 0 means table.DefaultMaxBytes.
	MaxBytes int64
	// Client carries the TLS settings; nil means http.DefaultClient. The feed
	// works on a copy that never follows a redirect.
	Client *http.Client
	// Activated, if it is not nil, is told of each table that comes into force
	// after the start. It is called by the poll that brought the table, before
	// the next one begins.
	Activated func(*Snapshot)
	// Report takes one line for each change of state; failed says that
	// something got worse. It is never called twice at once, and may call Stop.
	Report func(line string, failed bool)
}

// Snapshot is the table in force. It is never changed: a newer table, or a newer
// confirmation of the same one, comes as another snapshot.
type Snapshot struct {
	Table *table.Table
	// Confirmed is when the poll began in which the server last gave this
	// table, or said that it still holds. It has a monotonic reading.
	Confirmed time.Time

	// etag is what the server called the table; empty if it did not say.
	etag string
	// sum is the SHA-256 of the body that the table was decoded from; empty
	// if it is not known.
	sum string
}

// Feed polls one sync endpoint. Polls never overlap: the next one is scheduled
// when the one before it is done.
type Feed struct {
	cfg    Config
	timing timing
	client *http.Client
	// shown is the endpoint without its user name and password.
	shown   string
	current atomic.Value // *Snapshot, absent before the first table

	// ctx ends with the feed.
	ctx    context.Context
	cancel context.CancelFunc

	mu      sync.Mutex
	stopped bool
	stop    func() bool // of the timer armed last

	// What follows belongs to the poll under way.

	failures int // in a row
	// told is the failure that was last reported, with what changes from one
	// poll to the next taken out; empty while all is well.
	told string
}

// timing is what tests replace.
type timing struct {
	now   func() time.Time
	after func(d time.Duration, f func()) (stop func() bool)
	draw  func() float64 // from 0 to 1
}

func realTiming() timing {
	return timing{
		now: time.Now,
		after: func(d time.Duration, f func()) func() bool {
			t := time.AfterFunc(d, f)
			return t.Stop
		},
		draw: rand.Float64,
	}
}

// Start returns a feed that polls until it is stopped. It does not wait: the
// first poll runs in the background, at once. Until that brings a table, last is
// in force; it comes from an older feed of the same endpoint, or is nil.
func Start(cfg Config, last *Snapshot) *Feed {
	return start(cfg, last, realTiming())
}

func start(cfg Config, last *Snapshot, with timing) *Feed {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = table.DefaultMaxBytes
	}
	f := &Feed{cfg: cfg, timing: with, client: unredirected(cfg.Client), shown: withoutUser(cfg.Endpoint)}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	if last != nil {
		f.current.Store(last)
	}
	f.arm(0)
	return f
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
	stop := f.stop
	f.mu.Unlock()
	if stopped {
		return
	}
	stop()
	f.cancel()
	f.client.CloseIdleConnections()
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

// poll asks once. A panic becomes an error like any other.
func (f *Feed) poll() (next *Snapshot, err error) {
	defer func() {
		if p := recover(); p != nil {
			next, err = nil, fmt.Errorf("polling panicked: %v", p)
		}
	}()
	now := f.timing.now()
	held := Current(f)
	etag := ""
	if held != nil {
		etag = held.etag
	}
	a, err := f.ask(etag)
	if err != nil {
		return nil, err
	}
	return successor(held, a, now)
}

// settle puts a poll's result in force and reports what changed.
func (f *Feed) settle(next *Snapshot, err error) {
	held := Current(f)
	f.mu.Lock()
	stopped := f.stopped
	if !stopped && err == nil {
		f.current.Store(next)
	}
	f.mu.Unlock()
	if stopped {
		return
	}

	if err != nil {
		f.failures++
		reason := f.readable(err)
		told := ports.ReplaceAllString(reason, ":")
		if told == f.told {
			return
		}
		f.told = told
		f.report(reason+"; "+consequence(held), true)
		return
	}

	activated := held == nil || held.Table != next.Table
	if activated && f.cfg.Activated != nil {
		f.cfg.Activated(next)
	}
	recovered := f.failures > 0
	f.failures, f.told = 0, ""
	news := fmt.Sprintf("the table of revision %d is in force", next.Table.Revision)
	if recovered {
		f.report("answers again; "+news, false)
	} else if activated {
		f.report(news, false)
	}
}

func (f *Feed) report(what string, failed bool) {
	if f.cfg.Report != nil {
		f.cfg.Report("sync endpoint "+f.shown+": "+what, failed)
	}
}

// delay draws how long to wait for the next poll.
func (f *Feed) delay() time.Duration {
	d := f.cfg.Interval
	if f.failures > 0 {
		d = retryDelay(f.failures, f.cfg.Interval)
	}
	return time.Duration(float64(d) * (1 + jitterShare*(2*f.timing.draw()-1)))
}

// retryDelay returns the delay after so many failures in a row, before jitter.
func retryDelay(failures int, interval time.Duration) time.Duration {
	longest := maxRetry
	if interval > longest {
		longest = interval
	}
	d := firstRetry
	for i := 1; i < failures && d < longest; i++ {
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

// ports matches what differs between two network errors that are the same.
var ports = regexp.MustCompile(`:[0-9]+`)

// readable returns err's text without secrets, on one line of bounded length. A
// server may have put anything into it, the token that it was sent included.
func (f *Feed) readable(err error) string {
	text := err.Error()
	secrets := []string{f.cfg.Token}
	if u, err := url.Parse(f.cfg.Endpoint); err == nil {
		password, _ := u.User.Password()
		secrets = append(secrets, password, u.User.Username())
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

// withoutUser returns endpoint as a log may show it.
func withoutUser(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		// Its text may hold a password where the parser saw none.
		return "(not a URL)"
	}
	u.User = nil
	return u.String()
}

// unredirected returns a copy of c that hands redirects back as answers.
func unredirected(c *http.Client) *http.Client {
	if c == nil {
		c = http.DefaultClient
	}
	own := *c
	// The parameters have names because Yaegi mixes up unnamed ones.
	own.CheckRedirect = func(_ *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse }
	return &own
}
