// Package server serves the table to gateways, and follows the manifests that
// it is made of.
package server

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
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
	closing chan struct{} // closed by Release
	release func()        // closes it, once

	mu      sync.RWMutex
	tokens  [][sha256.Size]byte // hashes of those that gateways may present; none admits everybody
	edition *edition            // nil before the first
	health  health
}

// edition is one table, ready to be sent. Nothing of it changes but that
// superseded is closed.
type edition struct {
	revision int64
	issuedAt time.Time
	plain    representation
	zipped   representation
	// superseded is closed once another edition is in force: one channel for
	// all who wait for that.
	superseded chan struct{}
}

// representation is a body, how it is encoded, and its strong entity tag.
type representation struct {
	body   []byte
	coding string // as Content-Encoding says it; empty for none
	etag   string
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

// Options say what stays as it is while a server runs.
type Options struct {
	Log *slog.Logger
}

// New returns a server without a table, which admits everybody.
func New(o Options) *Server {
	closing := make(chan struct{})
	return &Server{
		log: o.Log, health: health{Status: "starting"},
		closing: closing, release: sync.OnceFunc(func() { close(closing) }),
	}
}

// AdmitTokens makes tokens the ones of which gateways must present one; none
// admits everybody. It may be called at any time: who is being held with a token
// that is no longer among them is refused when he is released.
func (s *Server) AdmitTokens(tokens []string) {
	sums := make([][sha256.Size]byte, len(tokens))
	for i, token := range tokens {
		sums[i] = sha256.Sum256([]byte(token))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens = sums
}

// Release answers those who are being held, and holds nobody any more. It is for
// a server that is about to stop.
func (s *Server) Release() { s.release() }

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
	if last != nil && last.plain.etag == e.plain.etag {
		e = last // nobody who waits for another is disturbed
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
		plain:    representation{body, "", `"` + tag + `"`},
		zipped:   representation{zipped.Bytes(), "gzip", `"` + tag + `-gzip"`},

		superseded: make(chan struct{}),
	}, nil
}

func (s *Server) note(e *edition, findings []finding.Finding) {
	h := health{Status: "ok", Revision: e.revision, IssuedAt: &e.issuedAt}
	h.Findings.Errors, h.Findings.Warnings = finding.Count(findings)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.edition != nil && s.edition != e {
		close(s.edition.superseded)
	}
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
