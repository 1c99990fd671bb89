// Package server serves the table to gateways, and follows the manifests that
// it is made of.
package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/table"
)

// Server holds the table in force and serves it: any number of requests at once,
// while one goroutine calls Publish and KeepOut.
type Server struct {
	log     *slog.Logger
	now     func() time.Time
	token   [sha256.Size]byte // hash of the token that gateways present
	guarded bool              // whether there is a token

	mu      sync.RWMutex
	edition *edition // nil before the first
	health  health
}

// edition is one table, ready to be sent. It is never changed.
type edition struct {
	revision int64
	issuedAt time.Time
	plain    representation
	zipped   representation
}

// representation is a body and its strong entity tag.
type representation struct {
	body []byte
	etag string
}

// health is what /healthz answers.
type health struct {
	// Status is "starting" before the first table, then "ok".
	Status   string     `json:"status"`
	Revision int64      `json:"revision,omitempty"`
	IssuedAt *time.Time `json:"issuedAt,omitempty"`
	// KeptOut says that the last change could not be read, so that the table
	// before it stays in force.
	KeptOut bool `json:"keptOut"`
	// Findings counts those of the manifests as last read.
	Findings struct {
		Errors   int `json:"errors"`
		Warnings int `json:"warnings"`
	} `json:"findings"`
}

// New returns a server without a table. An empty token admits everybody. The
// time of the wall comes from now.
func New(token string, log *slog.Logger, now func() time.Time) *Server {
	return &Server{
		log: log, now: now, token: sha256.Sum256([]byte(token)), guarded: token != "",
		health: health{Status: "starting"},
	}
}

// Publish puts t in force, revision and time of issue included, and notes what
// was found about it. The caller says what changed since the last call; nil
// where it may be anything. The server keeps nothing of t.
//
// Revisions are the caller's to number: they grow, and one never comes again
// with other content.
func (s *Server) Publish(t *table.Table, change *compile.Change, findings []finding.Finding) error {
	s.mu.RLock()
	last := s.edition
	s.mu.RUnlock()
	if last != nil && change != nil && change.Empty() && t.Revision == last.revision {
		s.note(last, findings)
		return nil
	}
	// Gateways would refuse it, so it had better not go out.
	if err := table.Validate(t); err != nil {
		return fmt.Errorf("validating table: %w", err)
	}
	e, err := newEdition(t)
	if err != nil {
		return err
	}
	s.note(e, findings)
	return nil
}

func newEdition(t *table.Table) (*edition, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encoding table: %w", err)
	}
	var zipped bytes.Buffer
	// Most of a table is digests, which no effort makes smaller.
	z, err := gzip.NewWriterLevel(&zipped, gzip.BestSpeed)
	if err != nil {
		return nil, fmt.Errorf("compressing table: %w", err)
	}
	if _, err := z.Write(body); err != nil {
		return nil, fmt.Errorf("compressing table: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compressing table: %w", err)
	}
	sum := sha256.Sum256(body)
	tag := hex.EncodeToString(sum[:16])
	return &edition{
		revision: t.Revision,
		issuedAt: t.IssuedAt,
		plain:    representation{body, `"` + tag + `"`},
		zipped:   representation{zipped.Bytes(), `"` + tag + `-gzip"`},
	}, nil
}

func (s *Server) note(e *edition, findings []finding.Finding) {
	h := health{Status: "ok", Revision: e.revision, IssuedAt: &e.issuedAt}
	h.Findings.Errors, h.Findings.Warnings = finding.Count(findings)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.edition, s.health = e, h
}

// KeepOut notes that the manifests could not be read, with what was found, so
// that the table in force stays.
func (s *Server) KeepOut(findings []finding.Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health.KeptOut = true
	s.health.Findings.Errors, s.health.Findings.Warnings = finding.Count(findings)
}

// Handler returns what answers requests: the table, and /healthz, which needs no
// token because it tells nothing but counts.
func (s *Server) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var err error
		switch r.URL.Path {
		case table.Path:
			err = s.serveTable(w, r)
		case "/healthz":
			err = s.serveHealth(w, r)
		default:
			err = errNotFound
		}
		if err != nil {
			s.fail(w, r, err)
		}
	})
}

// Why a request is not answered with what it asks for.
var (
	errNotFound     = errors.New("there is nothing here")
	errMethod       = errors.New("only GET and HEAD are allowed")
	errUnauthorized = errors.New("a valid token is required")
	errNoTable      = errors.New("no table has been made yet")
)

// fail is the one place that turns errors into statuses.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	status, detail := http.StatusInternalServerError, "something went wrong"
	switch {
	case errors.Is(err, errNotFound):
		status, detail = http.StatusNotFound, errNotFound.Error()
	case errors.Is(err, errMethod):
		status, detail = http.StatusMethodNotAllowed, errMethod.Error()
		w.Header().Set("Allow", "GET, HEAD")
	case errors.Is(err, errUnauthorized):
		status, detail = http.StatusUnauthorized, errUnauthorized.Error()
		w.Header().Set("WWW-Authenticate", `Bearer realm="tollgate"`)
		s.log.Warn("request without a valid token", "client", r.RemoteAddr)
	case errors.Is(err, errNoTable):
		status, detail = http.StatusServiceUnavailable, errNoTable.Error()
		w.Header().Set("Retry-After", "1")
	default:
		s.log.Error("request failed", "error", err)
	}
	w.Header().Set("Cache-Control", "no-store")
	s.writeJSON(w, status, "application/problem+json", map[string]any{
		"title": http.StatusText(status), "status": status, "detail": detail,
	})
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
	if !s.admits(r) {
		return errUnauthorized
	}
	s.mu.RLock()
	e := s.edition
	s.mu.RUnlock()
	if e == nil {
		return errNoTable
	}
	h := w.Header()
	h.Set("Cache-Control", "no-cache")
	h.Set("Vary", "Accept-Encoding, Authorization")
	rep := e.plain
	if acceptsGzip(r.Header.Values("Accept-Encoding")) {
		rep = e.zipped
	}
	h.Set("ETag", rep.etag)
	if matches(r.Header.Values("If-None-Match"), rep.etag) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if &rep.body[0] == &e.zipped.body[0] {
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(rep.body)))
	if r.Method == http.MethodHead {
		return nil
	}
	if _, err := w.Write(rep.body); err != nil {
		s.log.Debug("table not delivered", "error", err)
	}
	return nil
}

func reads(r *http.Request) bool { return r.Method == http.MethodGet || r.Method == http.MethodHead }

// admits compares the presented token, hashed so that neither its length nor its
// text shows in the time taken.
func (s *Server) admits(r *http.Request) bool {
	if !s.guarded {
		return true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	return subtle.ConstantTimeCompare(sum[:], s.token[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3).
func acceptsGzip(fields []string) bool {
	accepted := false
	for _, item := range strings.Split(strings.Join(fields, ","), ",") {
		coding, parameters, _ := strings.Cut(item, ";")
		coding = strings.ToLower(strings.TrimSpace(coding))
		if coding != "gzip" && coding != "x-gzip" && coding != "*" {
			continue
		}
		weight := 1.0
		if q, ok := strings.CutPrefix(strings.ToLower(strings.ReplaceAll(parameters, " ", "")), "q="); ok {
			weight, _ = strconv.ParseFloat(q, 64) // what is no number weighs nothing
		}
		if coding != "*" {
			return weight > 0
		}
		accepted = weight > 0
	}
	return accepted
}

// matches reads If-None-Match (RFC 9110, 13.1.2), which compares weakly.
func matches(fields []string, etag string) bool {
	for _, item := range strings.Split(strings.Join(fields, ","), ",") {
		item = strings.TrimSpace(item)
		if item == "*" || strings.TrimPrefix(item, "W/") == etag {
			return true
		}
	}
	return false
}
