package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/signing"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

// Handler returns what answers requests: the table, its parts, reports, the pages,
// and /healthz, which needs neither token nor certificate because it tells nothing
// but counts.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.serve(w, r); err != nil {
			s.fail(w, r, err)
		}
	})
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if r.URL.Path == usage.Path {
		return s.serveReport(w, r)
	}
	if r.ContentLength != 0 { // or is not told
		return errBody
	}
	switch r.URL.Path {
	case table.Path:
		return s.serveTable(w, r)
	case "/healthz":
		return s.serveHealth(w, r)
	}
	if sum, ok := strings.CutPrefix(r.URL.Path, table.PartPath("")); ok {
		return s.servePart(w, r, sum)
	}
	if page := s.pages[r.URL.Path]; page != nil {
		if err := s.access.check(r); err != nil {
			return err
		}
		return servePage(w, r, page)
	}
	return errNotFound
}

// The media types of what is served.
const (
	typeOfTable = "application/json"
	typeOfIndex = "application/vnd.tollgate.index+json"
)

// Why a request is not answered with what it asks for.
var (
	errNotFound     = errors.New("there is nothing here")
	errNoPart       = errors.New("there is no such part, or not any more: ask for " + table.Path + " again")
	errOnlyIndex    = errors.New("this table is only served in parts: ask with Accept: " + typeOfIndex + ", as gateways do that can read parts; serve --parts-above sets how large a table may be before that")
	errBody         = errors.New("a request with a body cannot be answered")
	errMethod       = errors.New("only GET and HEAD are allowed")
	errUnauthorized = errors.New("a valid token is required")
	errForbidden    = errors.New("a valid client certificate is required")
	errNoTable      = errors.New("no table has been made yet")
)

// fail is the one place that turns errors into statuses.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, detail := http.StatusInternalServerError, "something went wrong"
	problem := map[string]any{}
	var behind *ledger.BehindError
	var refusal *reportError
	switch {
	case errors.Is(err, errNotFound):
		status, detail = http.StatusNotFound, errNotFound.Error()
	case errors.Is(err, errNoPart):
		status, detail = http.StatusNotFound, errNoPart.Error()
	case errors.Is(err, errOnlyIndex):
		status, detail = http.StatusNotAcceptable, errOnlyIndex.Error()
	case errors.Is(err, errBody):
		status, detail = http.StatusRequestEntityTooLarge, errBody.Error()
		w.Header().Set("Connection", "close") // rather than to read the body
	case errors.Is(err, errMethod):
		status, detail = http.StatusMethodNotAllowed, errMethod.Error()
		w.Header().Set("Allow", "GET, HEAD")
	case errors.Is(err, errUnauthorized):
		status, detail = http.StatusUnauthorized, errUnauthorized.Error()
		w.Header().Set("WWW-Authenticate", `Bearer realm="tollgate"`)
		w.Header().Set("Connection", "close")
		s.unauthorized.warn("request without a valid token", "client", r.RemoteAddr)
	case errors.Is(err, errForbidden):
		status, detail = http.StatusForbidden, errForbidden.Error()
		w.Header().Set("Connection", "close")
		s.forbidden.warn("request without a valid client certificate", "client", r.RemoteAddr)
	case errors.Is(err, errNoTable):
		status, detail = http.StatusServiceUnavailable, errNoTable.Error()
		w.Header().Set("Retry-After", "1")
	case errors.As(err, &behind):
		status, detail = http.StatusConflict, behind.Error()
		problem["sequence"] = behind.Last
	case errors.Is(err, errReport):
		status, detail = http.StatusBadRequest, err.Error()
		s.refused.warn("report refused", "client", r.RemoteAddr, "error", err)
	case errors.Is(err, ledger.ErrStore):
		status, detail = http.StatusServiceUnavailable, ledger.ErrStore.Error()
		w.Header().Set("Retry-After", "1")
	case errors.Is(err, ledger.ErrCrowded):
		status, detail = http.StatusServiceUnavailable, ledger.ErrCrowded.Error()
		w.Header().Set("Retry-After", "30")
	case errors.As(err, &refusal):
		status, detail = refusal.status, refusal.detail
		refusal.describe(w.Header())
	default:
		s.log.Error("request failed", "error", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	problem["title"], problem["status"], problem["detail"] = http.StatusText(status), status, detail
	s.writeJSON(w, status, "application/problem+json", problem)
}

func (s *Server) writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
}

func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) error {
	if !reads(r) {
		return errMethod
	}
	s.mu.RLock()
	h := s.health
	s.mu.RUnlock()
	h.Waiting = s.waiting.Load()
	status := http.StatusOK
	if h.Revision == 0 {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	s.writeJSON(w, status, "application/json", h)
	return nil
}

func (s *Server) serveTable(w http.ResponseWriter, r *http.Request) error {
	if !reads(r) {
		return errMethod
	}
	if err := s.access.check(r); err != nil {
		return err
	}
	e := s.inForce()
	if e == nil {
		return errNoTable
	}
	h := w.Header()
	h.Set("Vary", "Accept, Accept-Encoding, Authorization, Prefer")
	known := r.Header.Values("If-None-Match")
	if wait, ok := preferredWait(r.Header.Values("Prefer")); ok && len(known) > 0 && r.Method == http.MethodGet {
		if matches(known, e.choose(r).etag) {
			s.hold(w, r, e, wait)
			// Much may have changed meanwhile.
			if err := s.access.check(r); err != nil {
				return err
			}
			e = s.inForce()
		}
		h.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	if e.index && !accepts(r.Header.Values("Accept"), typeOfIndex) {
		return errOnlyIndex
	}
	h.Set("Cache-Control", "no-cache")
	rep := e.choose(r)
	h.Set("ETag", rep.etag)
	if matches(known, rep.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if e.signatures != "" {
		h.Set(signing.Header, e.signatures)
	}
	h.Set("Content-Type", typeOfTable)
	if e.index {
		h.Set("Content-Type", typeOfIndex)
	}
	s.send(w, r, rep)
	return nil
}

// servePart serves the part of a sum.
func (s *Server) servePart(w http.ResponseWriter, r *http.Request, sum string) error {
	if !reads(r) {
		return errMethod
	}
	if err := s.access.check(r); err != nil {
		return err
	}
	p := s.shelf.find(sum)
	if p == nil {
		return errNoPart
	}
	h := w.Header()
	if s.access.guarded() {
		h.Set("Cache-Control", "private, max-age=31536000, immutable")
		h.Set("Vary", "Accept-Encoding, Authorization")
	} else {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("Vary", "Accept-Encoding")
	}
	rep := representation{p.zipped, "gzip", `"` + sum + `-gzip"`}
	if !acceptsGzip(r.Header.Values("Accept-Encoding")) {
		text, err := p.text()
		if err != nil {
			return fmt.Errorf("reading part: %w", err)
		}
		rep = representation{text, "", `"` + sum + `"`}
	}
	h.Set("ETag", rep.etag)
	if matches(r.Header.Values("If-None-Match"), rep.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", typeOfTable)
	s.send(w, r, rep)
	return nil
}

// send writes a representation whose other header fields are set.
func (s *Server) send(w http.ResponseWriter, r *http.Request, rep representation) {
	h := w.Header()
	if rep.coding != "" {
		h.Set("Content-Encoding", rep.coding)
	}
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	if r.Method == http.MethodHead {
		return
	}
	if _, err := w.Write(rep.body); err != nil {
		s.log.Debug("answer not delivered", "error", err)
	}
}

// hold returns once e is superseded, the server is about to stop, the client has
// gone, or wait has passed.
func (s *Server) hold(w http.ResponseWriter, r *http.Request, e *edition, wait time.Duration) {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-e.superseded:
	case <-s.closing:
	case <-r.Context().Done():
	case <-timer.C:
	}
	// Waiting is not to shorten the time for writing. What cannot set a deadline
	// has none.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
}

// choose returns what a request is answered with, unless it has that already.
func (e *edition) choose(r *http.Request) representation {
	if acceptsGzip(r.Header.Values("Accept-Encoding")) {
		return e.zipped
	}
	return e.plain
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }
