// Package server serves the table to gateways, takes their reports, and follows
// the manifests that the table is made of.
package server

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/controlplane/signing"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/table"
)

// Server holds the table in force and serves it. All its methods may be called at
// any time by any number of goroutines.
type Server struct {
	log     *slog.Logger
	closing chan struct{} // closed by Release
	release func()        // closes it, once

	partsAbove int
	pages      map[string]http.Handler // by path; not changed once requests are served

	making sync.Mutex // held while an edition is made
	keys   []ed25519.PrivateKey
	split  *partition // of the table in force; nil if that is one document

	ledger  *ledger.Ledger
	sharing *sharing.Sharing // nil if limits are not shared
	bodies  allowance        // of reports

	access access
	shelf  shelf

	waiting                          atomic.Int64 // requests
	unauthorized, forbidden, refused seldom

	mu      sync.RWMutex
	edition *edition // nil before the first
	health  health
	found   map[Kind]int
}

// document is a table as it is sent. It is never changed.
type document struct {
	revision int64
	issuedAt time.Time
	madeAt   time.Time
	rows     Rows
	index    bool // rather than a whole table
	body     []byte
	zipped   []byte
	// name begins the entity tags. Gateways know by it that another endpoint has
	// the same body: it is the first half of the body's SHA-256 in hex.
	name string
}

// edition is a signed document. Nothing of it changes but that superseded is
// closed.
type edition struct {
	*document
	signatures string // empty for none
	plain      representation
	zipped     representation
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
	// Waiting is how many requests are being held.
	Waiting int64 `json:"waiting"`
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
	// PartsAbove is how many rows (keys, applications and subscriptions) a table
	// may have and still be served as one document; 0 means DefaultPartsAbove.
	PartsAbove int
	// Ledger takes the reports of gateways; nil means one in the memory of this
	// server. Somebody else must run it.
	Ledger *ledger.Ledger
	// Sharing divides limits among gateways, by the table in force; nil means that
	// they are not shared.
	Sharing *sharing.Sharing
}

// DefaultPartsAbove rows are about 2 MB.
const DefaultPartsAbove = 10_000

// New returns a server without a table, which admits everybody.
func New(o Options) *Server {
	if o.PartsAbove == 0 {
		o.PartsAbove = DefaultPartsAbove
	}
	if o.Ledger == nil {
		o.Ledger = ledger.New(ledger.Options{Store: store.NewMemory(nil), Log: o.Log})
	}
	closing := make(chan struct{})
	s := &Server{
		log: o.Log, partsAbove: o.PartsAbove, health: health{Status: "starting"},
		ledger: o.Ledger, sharing: o.Sharing, bodies: allowance{most: maxBodies},
		closing: closing, release: sync.OnceFunc(func() { close(closing) }),
		unauthorized: seldom{log: o.Log}, forbidden: seldom{log: o.Log}, refused: seldom{log: o.Log},
	}
	s.access.configureLocked(nil)
	return s
}

// Release answers those who are being held, and holds nobody any more. It also
// ends what the server does by itself. It is for a server that is about to stop.
func (s *Server) Release() {
	s.release()
	s.shelf.close()
}

// Publish puts t in force, revision and time of issue included, and notes what
// was found about it. The caller says what changed since the last call; nil
// where it may be anything. The server keeps nothing of t.
//
// Revisions are the caller's to number: they grow, and one never comes again
// with other content.
func (s *Server) Publish(t *table.Table, change *compile.Change, findings []finding.Finding) error {
	s.making.Lock()
	defer s.making.Unlock()
	last := s.inForce()
	if last != nil && change != nil && change.Empty() && t.Revision == last.revision {
		s.note(last, findings)
		return nil
	}
	// Gateways would refuse it, so it had better not go out.
	if err := table.Validate(t); err != nil {
		return fmt.Errorf("validating table: %w", err)
	}
	split, err := s.divide(t, change)
	if err != nil {
		return fmt.Errorf("dividing table: %w", err)
	}
	d, err := newDocument(t, split)
	if err != nil {
		return err
	}
	s.split = split
	if split != nil {
		s.shelf.put(split.parts) // before anybody learns of them
	} else {
		s.shelf.put(nil)
	}
	if s.sharing != nil {
		s.sharing.UseTable(t, change)
	}
	if last != nil && last.name == d.name {
		s.note(last, findings) // nobody who waits for another is disturbed
		return nil
	}
	s.note(newEdition(d, s.keys), findings)
	return nil
}

// SignWith makes keys the ones that tables are signed with, each with all of
// them; none leaves them unsigned. The table in force goes out again, signed
// anew and under other tags, so that gateways and caches learn of it.
func (s *Server) SignWith(keys []ed25519.PrivateKey) {
	s.making.Lock()
	defer s.making.Unlock()
	s.keys = keys
	last := s.inForce()
	if last == nil {
		return
	}
	if e := newEdition(last.document, keys); e.signatures != last.signatures {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.putInForceLocked(e)
	}
}

// divide returns t in parts, or nil if it is to be one document.
func (s *Server) divide(t *table.Table, change *compile.Change) (*partition, error) {
	if len(t.Subscriptions)+len(t.Applications)+len(t.Keys) <= s.partsAbove {
		return nil, nil
	}
	if s.split != nil && change != nil {
		if next, err := s.split.with(t, change); next != nil || err != nil {
			return next, err
		}
	}
	next, err := split(t, s.split)
	if errors.Is(err, errTooLarge) {
		s.log.Warn("the table is served as one document", "because", err)
		return nil, nil
	}
	return next, err
}

// newDocument returns t as it is sent: as one document, or, if it is divided, as
// an index.
func newDocument(t *table.Table, divided *partition) (*document, error) {
	rows := Rows{
		APIs: len(t.APIs), Plans: len(t.Plans), Subscriptions: len(t.Subscriptions), Applications: len(t.Applications), Keys: len(t.Keys),
	}
	if divided != nil {
		t = divided.index(t)
	}
	body, err := json.Marshal(t)
	if err != nil {
		return nil, fmt.Errorf("encoding table: %w", err)
	}
	zipped, err := compressed(body)
	if err != nil {
		return nil, fmt.Errorf("compressing table: %w", err)
	}
	sum := sha256.Sum256(body)
	return &document{
		revision: t.Revision, issuedAt: t.IssuedAt, madeAt: time.Now(), rows: rows, index: divided != nil, body: body, zipped: zipped, name: hex.EncodeToString(sum[:16]),
	}, nil
}

// zippers are writers of gzip that can be used again: a new one has to be given
// a megabyte first.
var zippers = sync.Pool{New: func() any {
	// Most of a table is digests, which no effort makes smaller.
	z, err := gzip.NewWriterLevel(nil, gzip.BestSpeed)
	if err != nil {
		panic(err) // The level is one.
	}
	return z
}}

// compressed returns data in the format of gzip.
func compressed(data []byte) ([]byte, error) {
	z, ok := zippers.Get().(*gzip.Writer)
	if !ok {
		panic("a zipper is none")
	}
	defer zippers.Put(z)
	var zipped bytes.Buffer
	z.Reset(&zipped)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	// Without the room that is left behind it: there may be many of these.
	return bytes.Clone(zipped.Bytes()), nil
}

func newEdition(d *document, keys []ed25519.PrivateKey) *edition {
	e := &edition{document: d, signatures: signing.Sign(keys, d.body), superseded: make(chan struct{})}
	tag := d.name
	if e.signatures != "" {
		// A cache that asks whether its copy is still good would else go on with
		// old signatures.
		sum := sha256.Sum256([]byte(e.signatures))
		tag += "-" + hex.EncodeToString(sum[:4])
	}
	e.plain = representation{d.body, "", `"` + tag + `"`}
	e.zipped = representation{d.zipped, "gzip", `"` + tag + `-gzip"`}
	return e
}

// note puts e in force with what was found about it.
func (s *Server) note(e *edition, findings []finding.Finding) {
	h := health{Status: "ok", Revision: e.revision, IssuedAt: &e.issuedAt}
	h.Findings.Errors, h.Findings.Warnings = finding.Count(findings)
	found := countKinds(findings)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.health, s.found = h, found
	s.putInForceLocked(e)
}

// putInForceLocked makes e the edition in force, unless it is that already.
func (s *Server) putInForceLocked(e *edition) {
	if s.edition == e {
		return
	}
	if s.edition != nil {
		close(s.edition.superseded)
	}
	s.edition = e
}

// inForce returns the edition in force, or nil before the first.
func (s *Server) inForce() *edition {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.edition
}

// KeepOut notes that the manifests could not be read, with what was found, so
// that the table in force stays.
func (s *Server) KeepOut(findings []finding.Finding) {
	found := countKinds(findings)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = found
	s.health.KeptOut = true
	s.health.Findings.Errors, s.health.Findings.Warnings = finding.Count(findings)
}
