package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// splitting serves the tables of a control plane in parts.
type splitting struct {
	whole http.Handler
	n     int

	mu     sync.Mutex
	parts  map[string][]byte // of the index that was served last
	asked  []string          // parts that were asked for
	mangle func(part []byte) []byte
}

func (s *splitting) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sum, ok := strings.CutPrefix(r.URL.Path, stack.PartsPath); ok {
		s.asked = append(s.asked, sum)
		part, ok := s.parts[sum]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if s.mangle != nil {
			part = s.mangle(part)
		}
		_, _ = w.Write(part)
		return
	}
	if !strings.Contains(r.Header.Get("Accept"), "application/vnd.tollgate.index+json") {
		http.Error(w, "the table comes in parts", http.StatusNotAcceptable)
		return
	}
	answer := httptest.NewRecorder()
	plain := r.Clone(r.Context())
	plain.Header = http.Header{"Authorization": r.Header["Authorization"]}
	s.whole.ServeHTTP(answer, plain)
	index, parts, err := stack.SplitTable(answer.Body.Bytes(), s.n)
	if answer.Code != http.StatusOK || err != nil {
		http.Error(w, fmt.Sprint("no table: ", answer.Code, err), http.StatusBadGateway)
		return
	}
	s.parts = parts
	w.Header().Set("Content-Type", "application/vnd.tollgate.index+json")
	_, _ = w.Write(index)
}

// since returns which parts were asked for after the first n.
func (s *splitting) since(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[n:len(s.asked):len(s.asked)]
}

func (s *splitting) setMangle(mangle func(part []byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mangle = mangle
}

// TestTableInParts decides by a table in parts, fetches what changed and nothing
// else, and takes no part that is not what the index lists.
func TestTableInParts(t *testing.T) {
	const ns = namespace("parts")
	late := func(key string) []string {
		return []string{ns.app("late", key), ns.sub("late", "plan", list("late"), list("api"))}
	}
	shared.apply(t, "parts", syncManifests(ns)...)
	plane, err := stack.NewSyncProxy(shared.plane.URL)
	if err != nil {
		t.Fatal(err)
	}
	endpoint := &splitting{whole: plane, n: 256}
	proxy := ownSync(t, shared.plane.URL)
	proxy.Answer(endpoint)
	up(t, proxy)
	config := byHeader(shared.config("parts/api"))
	config.Sync.Endpoint = proxy.URL
	shared.protect(t, "parts.test", config)
	call := func(key string) answer { return shared.send(t, "parts.test", "GET /", apiKeyHeader+key) }
	admitted(t, call("parts-key"))
	refused(t, call("unknown-key"), 401, "key_invalid")

	// The other tests change the table too, so only an upper bound holds: far
	// from all 256 parts, most of which are empty and equal.
	before := len(endpoint.since(0))
	shared.apply(t, "parts-late", late("late-key")...)
	shared.await(t, "the new key", func() error { return wantStatus(call("late-key"), 200) })
	if asked := endpoint.since(before); len(asked) == 0 || len(asked) > 20 {
		t.Errorf("for a new application %d parts were fetched", len(asked))
	}

	for name, mangle := range map[string]func(part []byte) []byte{
		"torn": func(part []byte) []byte { return part[:len(part)/2] },
		"another": func(_ []byte) []byte {
			return []byte("{\"applications\":{\n},\"keys\":{\n},\"subscriptions\":{\n}}\n\n")
		},
		"changed": func(part []byte) []byte { return bytes.ToUpper(part) },
	} {
		t.Run(name, func(t *testing.T) {
			lines := shared.traefik.Log.Len()
			endpoint.setMangle(mangle)
			shared.apply(t, "parts-late", late(name+"-key")...)
			shared.awaitLine(t, lines, proxy.URL, "has SHA-256", "stays in force")
			refused(t, call(name+"-key"), 401, "key_invalid")
			admitted(t, call("parts-key"))
			endpoint.setMangle(nil)
			shared.await(t, "the whole table", func() error { return wantStatus(call(name+"-key"), 200) })
			admitted(t, call("parts-key"))
		})
	}
	shared.apply(t, "parts", ns.api("api"), ns.unlimited("plan"))
	shared.await(t, "the key to be revoked", func() error { return wantStatus(call("parts-key"), 401) })
}
