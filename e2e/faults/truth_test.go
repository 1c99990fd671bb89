package faults

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// form is how bodies are sent.
type form struct {
	plain   bool // never compressed
	chunked bool // without a length
}

// truth is a sync endpoint that serves the versions of a test, and holds requests
// until there is another.
type truth struct {
	parts  int                // 0 for one document
	signer ed25519.PrivateKey // nil for none
	form   form

	mu      sync.Mutex
	current document
	known   map[string][]byte // parts of all versions
	changed chan struct{}     // closed when there is another version
}

func newTruth(parts int, signer ed25519.PrivateKey) *truth {
	return &truth{parts: parts, signer: signer, known: map[string][]byte{}, changed: make(chan struct{})}
}

// publish makes a version the one that is served. Its number is its revision.
func (t *truth) publish(v version) {
	d := encode(v.table(int64(v.number)), t.parts)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current = d
	for sum, part := range d.parts {
		t.known[sum] = part
	}
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *truth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t.mu.Lock()
	current, changed := t.current, t.changed
	part, isPart := t.known[strings.TrimPrefix(r.URL.Path, table.PartPath(""))]
	t.mu.Unlock()
	if isPart {
		send(w, r, jsonType, part, t.form)
		return
	}
	if r.URL.Path != table.Path || current.body == nil {
		http.NotFound(w, r)
		return
	}
	etag := tagOf(current.body)
	var wait int
	if _, err := fmt.Sscanf(r.Header.Get("Prefer"), "wait=%d", &wait); err == nil {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(wait))
	}
	if r.Header.Get("If-None-Match") == etag && wait > 0 {
		timer := time.NewTimer(time.Duration(wait) * time.Second)
		defer timer.Stop()
		select {
		case <-changed:
			t.mu.Lock()
			current = t.current
			t.mu.Unlock()
			etag = tagOf(current.body)
		case <-timer.C:
		case <-r.Context().Done():
		}
	}
	w.Header().Set("ETag", etag)
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if t.signer != nil {
		w.Header().Set("Tollgate-Signature", signature(t.signer, current.body))
	}
	contentType := jsonType
	if t.parts > 0 {
		contentType = indexType
	}
	send(w, r, contentType, current.body, t.form)
}

const (
	jsonType  = "application/json"
	indexType = "application/vnd.tollgate.index+json"
)

// tagOf returns a tag by which an endpoint knows a body everywhere.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// signature returns the header of a body that a key has signed.
func signature(key ed25519.PrivateKey, body []byte) string {
	return signatureOf(key, table.SignedMessage(body))
}

func signatureOf(key ed25519.PrivateKey, message []byte) string {
	return "ed25519=" + base64.StdEncoding.EncodeToString(ed25519.Sign(key, message))
}

// send answers with a body, compressed if the request allows that.
func send(w http.ResponseWriter, r *http.Request, contentType string, body []byte, as form) {
	h := w.Header()
	h.Set("Content-Type", contentType)
	if !as.plain && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = zipped(body)
	}
	if as.chunked {
		_ = http.NewResponseController(w).Flush()
	} else {
		h.Set("Content-Length", strconv.Itoa(len(body)))
	}
	_, _ = w.Write(body)
}

func zipped(body []byte) []byte {
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	_, _ = z.Write(body)
	_ = z.Close()
	return out.Bytes()
}
