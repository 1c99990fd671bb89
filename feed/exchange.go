package feed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// maxDrain is how much of an unwanted body is read so that its connection can
// be used again. A longer one costs the connection.
const maxDrain = 64 << 10

// question is what an exchange asks for.
type question struct {
	// endpoint is asked for what is at path, in a type that accept lists.
	endpoint, path, what, accept string
	// atMost is how many bytes the answer may have, after decompression.
	atMost int64
	// etag names the table that is held; empty asks for one in any case.
	etag string
	// wait is for how many seconds the answer may be held; 0 means not at all.
	wait int
}

// answer is what an endpoint said, taken off the network.
type answer struct {
	// notModified stands for a 304, which has no body.
	notModified bool
	// waited says that the answer was held, as the question allowed.
	waited      bool
	etag        string
	contentType string
	signatures  []string
	body        []byte

	// cut says, beside an error, that the endpoint itself did not answer: the
	// connection ended or stood still, or a proxy spoke in its place.
	cut bool
	// missing says, beside an error, that it was a 404.
	missing bool
	// late says, beside an error, that the answer was not complete in time.
	late bool
}

// What is asked for: a table as one document or as an index, and its parts.
const (
	acceptTable = "application/vnd.tollgate.index+json, application/json"
	acceptPart  = "application/json"
)

// question returns what to ask an endpoint for while held, which may be nil, is
// in force.
func (f *Feed) question(e *endpoint, held *Snapshot, now time.Time) question {
	q := question{
		endpoint: e.url, path: table.Path, what: "a table", accept: acceptTable, atMost: f.cfg.MaxBytes,
		etag: held.tagFor(e.url),
	}
	if f.cfg.Cache != nil && held != nil && f.cfg.Cache.lacks(f, held.sum) {
		q.etag = "" // It has to come once more.
	}
	if q.etag != "" && f.working {
		q.wait = e.seconds(now, f.timing.draw())
	}
	return q
}

// deadline ends an exchange that takes too long.
type deadline struct {
	ctx    context.Context
	cancel context.CancelFunc
	timer  *time.Timer
	late   *atomic.Bool
	end    time.Time // of the exchange as a whole
	step   time.Duration
}

// newDeadline returns the deadline of an exchange that has step, and that much
// longer if its answer may be held. The latter is neither for getting a
// connection nor for the answer once that has begun. It is one of init's because
// timers last for a while after they were stopped: see launch.
var newDeadline func(parent context.Context, step, held time.Duration) *deadline

func init() {
	newDeadline = func(parent context.Context, step, held time.Duration) *deadline {
		ctx, cancel := context.WithCancel(parent)
		late := &atomic.Bool{}
		end := time.Now().Add(step + held)
		timer := time.AfterFunc(step, func() {
			defer func() { _ = recover() }()
			late.Store(true)
			cancel()
		})
		if held > 0 {
			ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
				GotConn: func(_ httptrace.GotConnInfo) { timer.Reset(time.Until(end)) },
			})
		}
		return &deadline{ctx: ctx, cancel: cancel, timer: timer, late: late, end: end, step: step}
	}
}

// began notes that the answer has.
func (d *deadline) began() {
	if time.Until(d.end) > d.step {
		d.timer.Reset(d.step)
	}
}

// stop ends the exchange, if it has not ended yet.
func (d *deadline) stop() {
	d.timer.Stop()
	d.cancel()
}

// ask makes one exchange. It returns an error for everything but a 304 and a
// complete body with status 200.
func (f *Feed) ask(q question) (answer, error) {
	if f.late {
		// A connection of HTTP/2 outlives the requests on it that end in vain,
		// and may be one that is long dead.
		f.client.CloseIdleConnections()
	}
	a, err := f.askWithin(f.ctx, q)
	f.late = a.late
	return a, err
}

// askWithin makes one exchange that ends with a context at the latest. Several
// goroutines may use it at once.
func (f *Feed) askWithin(ctx context.Context, q question) (answer, error) {
	d := newDeadline(ctx, f.cfg.Timeout, time.Duration(q.wait)*time.Second)
	defer d.stop()
	a, err := f.exchange(d, q)
	a.late = err != nil && d.late.Load()
	if a.late {
		err = fmt.Errorf("no complete answer within %s", f.cfg.Timeout)
	}
	return a, err
}

// exchange sends the question and reads the answer.
func (f *Feed) exchange(d *deadline, q question) (answer, error) {
	req, err := http.NewRequestWithContext(d.ctx, http.MethodGet, q.endpoint+q.path, nil)
	if err != nil {
		return answer{}, errors.New("cannot be asked: expected a URL such as https://sync.example.com:7070")
	}
	req.Header.Set("Accept", q.accept)
	req.Header.Set("User-Agent", "tollgate")
	if f.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+f.cfg.Token)
	}
	if q.etag != "" {
		req.Header.Set("If-None-Match", q.etag)
	}
	if q.wait > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(q.wait))
	}

	resp, err := f.client.Do(req)
	if err != nil {
		return answer{cut: true}, noAnswer(err)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, maxDrain)
		_ = resp.Body.Close()
	}()
	d.began()

	a := answer{
		waited:      waited(resp.Header),
		etag:        resp.Header.Get("ETag"),
		contentType: resp.Header.Get("Content-Type"),
		signatures:  resp.Header.Values(signatureHeader),
	}
	if resp.StatusCode == http.StatusNotModified {
		a.notModified = true
		return a, nil
	}
	if resp.StatusCode != http.StatusOK {
		return answer{cut: proxySpoke[resp.StatusCode], missing: resp.StatusCode == http.StatusNotFound}, unexpectedStatus(resp, q.what)
	}
	a.body, err = table.Read(resp.Body, q.atMost)
	return a, err
}

// noAnswer says that a client's Do has returned err.
func noAnswer(err error) error {
	// A url.Error tells the URL again, user name included.
	if wrapped, ok := err.(*url.Error); ok { //nolint:errorlint // Do returns no other type
		err = wrapped.Err
	}
	return fmt.Errorf("no answer: %w", err)
}

// proxySpoke lists what a proxy answers when it waits for an endpoint in vain.
var proxySpoke = map[int]bool{
	http.StatusRequestTimeout:     true,
	http.StatusBadGateway:         true,
	http.StatusServiceUnavailable: true,
	http.StatusGatewayTimeout:     true,
}

func unexpectedStatus(resp *http.Response, what string) error {
	got := fmt.Sprintf("status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if to, err := resp.Location(); err == nil && resp.StatusCode/100 == 3 {
		got += " to " + to.Scheme + "://" + to.Host + " (redirects are not followed)"
	}
	if resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden {
		got += " (check the token)"
	}
	return fmt.Errorf("%s, expected status 200 with %s", got, what)
}

// sameTag says whether a 304 with the tag got answers a question that named the
// tag asked. The answer may leave its tag out, and servers that compress drop the
// mark of a weak one.
func sameTag(asked, got string) bool {
	if asked == "" {
		return false
	}
	return got == "" || strings.TrimPrefix(asked, "W/") == strings.TrimPrefix(got, "W/")
}

// renewClient makes f use what cfg.Client returns now.
func (f *Feed) renewClient() {
	given := http.DefaultClient
	if f.cfg.Client != nil {
		given = f.cfg.Client()
	}
	if given == f.given {
		return
	}
	client := *given
	client.CheckRedirect = keepRedirect
	f.mu.Lock()
	before := f.client
	f.client = &client
	f.given = given
	f.mu.Unlock()
	if before != nil {
		before.CloseIdleConnections()
	}
}

// keepRedirect has a client return a redirect as it came. The parameters have
// names because Yaegi mixes up unnamed ones.
var keepRedirect = func(_ *http.Request, _ []*http.Request) error { return http.ErrUseLastResponse }
