package faults

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
	"github.com/tollgate-apim/tollgate/table"
)

// front is an HTTP server between gateways and the truth. Each gateway asks it
// under a path of its own, so it knows who asks. It lies to those that it is told
// to lie to, and keeps book of what it told the others.
type front struct {
	address string

	truth http.Handler
	// signer signs the lies that are signed rightly.
	signer ed25519.PrivateKey

	mu   sync.Mutex
	ends map[string]*end
	// tags has what was told truly, by tag.
	tags map[string]told
}

// told is a table that was told.
type told struct {
	revision int64
	version  version
}

// end is a gateway as the front knows it.
type end struct {
	name string
	// signed says that the gateway expects signatures.
	signed bool

	// What follows is guarded by the front's mutex.

	lie     *lie          // nil for the truth
	changed chan struct{} // closed when another lie, or none, is told
	asked   int           // how often the gateway asked for a table since then
	served  int           // the newest version that it was told truly
	// listed is the newest version of which it was told the index while lied to
	// about its parts.
	listed int
}

func newFront(t *testing.T, truth http.Handler, signer ed25519.PrivateKey) *front {
	t.Helper()
	f := &front{truth: truth, signer: signer, ends: map[string]*end{}, tags: map[string]told{}}
	server := httptest.NewServer(f)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	f.address = server.Listener.Addr().String()
	return f
}

// add makes a gateway known.
func (f *front) add(name string, signed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[name] = &end{name: name, signed: signed, changed: make(chan struct{})}
}

// lie lies to a gateway from now on, or tells the truth again if l is nil. It also
// answers a request that is being held.
func (f *front) lie(name string, l *lie) {
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.ends[name]
	e.lie, e.asked = l, 0
	close(e.changed)
	e.changed = make(chan struct{})
}

// asked returns how often a gateway asked for a table since the last call of lie.
func (f *front) asked(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends[name].asked
}

// served returns the newest version that a gateway may have.
func (f *front) served(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends[name].served
}

// forget makes the front forget what it told a gateway, which has forgotten it too.
func (f *front) forget(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ends[name].served, f.ends[name].listed = 0, 0
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	f.mu.Lock()
	e := f.ends[name]
	f.mu.Unlock()
	if e == nil {
		http.NotFound(w, r)
		return
	}
	if r.Method == http.MethodPost {
		// Lies are about tables. What becomes of reports is tested elsewhere.
		stack.TakeReport(w, r, time.Minute)
		return
	}
	asked := r.Clone(r.Context())
	asked.URL.Path = "/" + path
	for !f.answer(e, w, asked) {
		if r.Context().Err() != nil {
			return
		}
	}
}

// answer answers a gateway. It is false, and nothing was sent, if it has to be
// tried again because something else is to be told now.
func (f *front) answer(e *end, w http.ResponseWriter, r *http.Request) bool {
	f.mu.Lock()
	l, changed := e.lie, e.changed
	if r.URL.Path == table.Path {
		e.asked++
	}
	f.mu.Unlock()
	if l != nil {
		f.tell(l, e, w, r)
		return true
	}

	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	seen := httptest.NewRecorder()
	f.truth.ServeHTTP(seen, r.WithContext(ctx))
	if !f.note(e, r, seen, changed) {
		return false
	}
	pass(w, seen, e.signed)
	return true
}

// note keeps book of what a gateway is about to be told truly, unless something
// else is to be told by now.
func (f *front) note(e *end, r *http.Request, seen *httptest.ResponseRecorder, changed chan struct{}) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if e.changed != changed {
		return false
	}
	if seen.Code != http.StatusOK {
		return true
	}
	if r.URL.Path == table.Path {
		m := newMatter(plainBody(seen))
		e.served = max(e.served, m.version.number)
		f.tags[seen.Header().Get("ETag")] = told{m.head.Revision, m.version}
	} else {
		e.served = max(e.served, e.listed)
	}
	return true
}

// pass sends an answer on, without signatures unless they are expected.
func pass(w http.ResponseWriter, seen *httptest.ResponseRecorder, signed bool) {
	h := w.Header()
	for name, values := range seen.Header() {
		if signed || name != signatureHeader {
			h[name] = values
		}
	}
	w.WriteHeader(seen.Code)
	_, _ = w.Write(seen.Body.Bytes())
}

const signatureHeader = "Tollgate-Signature"

// plainBody returns the body of an answer before compression.
func plainBody(seen *httptest.ResponseRecorder) []byte {
	if seen.Header().Get("Content-Encoding") != "gzip" {
		return seen.Body.Bytes()
	}
	z, err := gzip.NewReader(bytes.NewReader(seen.Body.Bytes()))
	if err != nil {
		return nil
	}
	body, _ := io.ReadAll(z)
	return body
}

// tell lies to a gateway.
func (f *front) tell(l *lie, e *end, w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	held := f.tags[r.Header.Get("If-None-Match")]
	f.mu.Unlock()
	if l.needsTable && r.URL.Path == table.Path && held.revision == 0 {
		http.Error(w, "this would not be a lie to you", http.StatusServiceUnavailable)
		return
	}
	req := httptest.NewRequestWithContext(r.Context(), http.MethodGet, table.Path, nil)
	for _, name := range []string{"Accept", "Authorization"} {
		req.Header[name] = r.Header[name]
	}
	seen := httptest.NewRecorder()
	f.truth.ServeHTTP(seen, req)
	if seen.Code != http.StatusOK {
		pass(w, seen, false)
		return
	}
	m := newMatter(plainBody(seen))
	m.held, m.signer = held, f.signer
	m.truth = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == table.Path {
			f.mu.Lock()
			e.listed = max(e.listed, m.version.number)
			f.mu.Unlock()
		}
		f.truth.ServeHTTP(w, r)
	})
	if !e.signed {
		m.signer = nil
	}
	l.tell(w, r, m)
}
