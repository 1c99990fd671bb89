package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

// Poll is one exchange between a gateway and the sync endpoint.
type Poll struct {
	At time.Time
	// Header is what the gateway sent.
	Header http.Header
	// Status is what it was answered, and ETag the tag of the answer. Status is
	// 0 until then: an answer may be held.
	Status int
	ETag   string
}

// SyncProxy stands between gateways and a control plane and sees each poll. It
// can be down, and it can answer itself. Reports it only hands on.
type SyncProxy struct {
	URL string

	mu      sync.Mutex
	server  *http.Server // nil while down
	forward http.Handler
	stand   http.Handler // nil while it forwards
	polls   []Poll
	reports int
}

// NewSyncProxy returns a proxy for a control plane's URL that is down.
func NewSyncProxy(target string) (*SyncProxy, error) {
	address, err := FreeAddress()
	if err != nil {
		return nil, err
	}
	p := &SyncProxy{URL: "http://" + address}
	return p, p.Forward(target)
}

// Forward makes the proxy forward to a control plane's URL.
func (p *SyncProxy) Forward(target string) error {
	to, err := url.Parse(target)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forward = &httputil.ReverseProxy{
		Rewrite:  func(r *httputil.ProxyRequest) { r.SetURL(to) },
		ErrorLog: log.New(io.Discard, "", 0), // A gateway sees status 502.
	}
	return nil
}

// Up makes the endpoint reachable.
func (p *SyncProxy) Up() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		return nil
	}
	listener, err := net.Listen("tcp", p.URL[len("http://"):]) //nolint:noctx // Returns at once.
	if err != nil {
		return err
	}
	p.server = &http.Server{Handler: p, ReadHeaderTimeout: 10 * time.Second}
	go p.server.Serve(listener) //nolint:errcheck // Ends with Down.
	return nil
}

// Down makes connections to the endpoint fail.
func (p *SyncProxy) Down() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		_ = p.server.Close()
		p.server = nil
	}
}

// Answer makes the proxy answer by itself; nil makes it forward again.
func (p *SyncProxy) Answer(stand http.Handler) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stand = stand
}

// Polls returns what was asked so far, in that order.
func (p *SyncProxy) Polls() []Poll {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Poll(nil), p.polls...)
}

// Reports returns how many reports there were so far.
func (p *SyncProxy) Reports() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reports
}

func (p *SyncProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	if r.Method == http.MethodPost {
		p.reports++
		forward := p.forward
		p.mu.Unlock()
		forward.ServeHTTP(w, r)
		return
	}
	handler := p.stand
	if handler == nil {
		handler = p.forward
	}
	n := len(p.polls)
	p.polls = append(p.polls, Poll{At: time.Now(), Header: r.Header.Clone()})
	p.mu.Unlock()
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	handler.ServeHTTP(seen, r)

	p.mu.Lock()
	p.polls[n].Status, p.polls[n].ETag = seen.status, w.Header().Get("ETag")
	p.mu.Unlock()
}

// AwaitActive waits until a gateway has confirmed that the table that the
// control plane serves is in force there: it names that table's tag when it
// asks again.
func (p *SyncProxy) AwaitActive(ctx context.Context, etag string, atMost time.Duration) error {
	return Until(ctx, "the gateway to activate table "+etag, atMost, func() error {
		polls := p.Polls()
		if len(polls) == 0 {
			return errors.New("no poll yet")
		}
		if last := polls[len(polls)-1]; last.Header.Get("If-None-Match") != etag {
			return fmt.Errorf("the last of %d polls had status %d and If-None-Match %q", len(polls), last.Status, last.Header.Get("If-None-Match"))
		}
		return nil
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
