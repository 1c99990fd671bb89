package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha3"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// Names in the generated tables.
const (
	rateSubscription    = "bench/rate-sub"
	fullSubscription    = "bench/full-sub"
	limitedSubscription = "bench/limited-sub"
)

// The keys that every table has besides the numbered ones.
const (
	fullKey    = "tg_the_key_with_rate_limit_quota_and_set"
	limitedKey = "tg_the_key_whose_rate_limit_is_used_up_1"
)

// A tableSpec says what a table to generate has: equal ones give equal tables.
type tableSpec struct {
	// Revision is the table's own. No application is the same in another
	// revision.
	Revision int
	// Keys is how many numbered keys there are, each of an application of its own.
	Keys int
	// APIs is how many APIs there are. Every application may call all of them.
	APIs int
}

// apiName returns the name of an API of the tables.
func apiName(n int) string { return fmt.Sprintf("bench/api-%04d", n) }

// numberedKey appends the n-th key to buf. Like those that `tollgate key new`
// makes it has 40 characters.
func numberedKey(buf []byte, n uint64) []byte {
	buf = append(buf, "tg_bench_"...)
	digits := strconv.AppendUint(nil, n, 10)
	for range 31 - len(digits) {
		buf = append(buf, '0')
	}
	return append(buf, digits...)
}

// bytes returns the table as JSON, as long as 300 bytes for each key.
func (s tableSpec) bytes() []byte {
	var b bytes.Buffer
	b.Grow(s.Keys*330 + s.APIs*200 + s.APIs*60*min(s.Keys, 20) + 4096)
	fmt.Fprintf(&b, `{"revision":%d,"issuedAt":"2026-11-21T17:00:00Z",`, s.Revision)
	b.WriteString(`"plans":{` +
		`"bench/rate":{"title":"Rate limit","rateLimit":{"limit":1000,"period":"1s","bucket":"application"}},` +
		`"bench/full":{"title":"Both","rateLimit":{"limit":100000,"period":"1s"},"quota":{"limit":1000000000,"period":"720h"}},` +
		`"bench/limited":{"title":"Used up","rateLimit":{"limit":1,"period":"1h"}}},`)
	b.WriteString(`"apis":{`)
	for i := range s.APIs {
		separate(&b, i)
		fmt.Fprintf(&b, `"%s":{"operationSets":{"write":[{"methods":["POST"],"pathPrefix":"/weather"}],`+
			`"read":[{"methods":["GET"],"path":"/"},{"methods":["GET"],"pathPrefix":"/weather"}]}}`, apiName(i))
	}
	b.WriteString(`},"subscriptions":{"` + rateSubscription + `":{"plan":"bench/rate"},` +
		`"` + fullSubscription + `":{"plan":"bench/full","operationFilter":{"include":["read"]}},` +
		`"` + limitedSubscription + `":{"plan":"bench/limited"}},"applications":{`)
	s.application(&b, "full", fullSubscription)
	b.WriteByte(',')
	s.application(&b, "limited", limitedSubscription)
	for i := range s.Keys {
		b.WriteByte(',')
		s.application(&b, fmt.Sprintf("%07d", i), rateSubscription)
	}
	b.WriteString(`},"keys":{`)
	holder(&b, []byte(fullKey), "full")
	b.WriteByte(',')
	holder(&b, []byte(limitedKey), "limited")
	var key []byte
	for i := range s.Keys {
		b.WriteByte(',')
		key = numberedKey(key[:0], uint64(i))
		holder(&b, key, fmt.Sprintf("%07d", i))
	}
	b.WriteString("}}\n")
	return b.Bytes()
}

func separate(b *bytes.Buffer, i int) {
	if i > 0 {
		b.WriteByte(',')
	}
}

func (s tableSpec) application(b *bytes.Buffer, name, subscription string) {
	fmt.Fprintf(b, `"bench/app-%s":{"appId":"app-%[1]s","owner":"67f67907ee260b44%08d","grants":{`, name, s.Revision)
	for i := range s.APIs {
		separate(b, i)
		fmt.Fprintf(b, `"%s":"%s"`, apiName(i), subscription)
	}
	b.WriteString(`}}`)
}

func holder(b *bytes.Buffer, key []byte, application string) {
	digest := sha3.SumSHAKE256(key, 64)
	b.WriteByte('"')
	b.Write(hex.AppendEncode(b.AvailableBuffer(), digest))
	fmt.Fprintf(b, `":[{"application":"bench/app-%s","title":"key-1"}]`, application)
}

// A document is a table as a sync endpoint serves it.
type document struct {
	body []byte
	// parts are those that body lists, by their SHA-256; nil if it is the whole
	// table.
	parts map[string][]byte
}

// whole returns a table as one document.
func (s tableSpec) whole() document { return document{body: s.bytes()} }

// inParts returns a table in n parts.
func (s tableSpec) inParts(n int) (document, error) {
	index, parts, err := stack.SplitTable(s.bytes(), n)
	return document{body: index, parts: parts}, err
}

// size returns how many bytes of JSON a document has, its parts included.
func (d document) size() int {
	size := len(d.body)
	for _, part := range d.parts {
		size += len(part)
	}
	return size
}

// withChange returns a document in parts as the next revision, in which one
// application has another owner.
func (d document) withChange(s tableSpec) document {
	changed := document{parts: maps.Clone(d.parts)}
	revision := func(n int) []byte { return fmt.Appendf(nil, `"revision":%d`, n) }
	changed.body = bytes.Replace(d.body, revision(s.Revision), revision(s.Revision+1), 1)
	for sum, part := range d.parts {
		other := bytes.Replace(part, []byte(`"owner":"6`), []byte(`"owner":"7`), 1)
		if bytes.Equal(other, part) {
			continue // It has no application.
		}
		otherSum := fmt.Sprintf("%x", sha256.Sum256(other))
		delete(changed.parts, sum)
		changed.parts[otherSum] = other
		changed.body = bytes.Replace(changed.body, []byte(sum), []byte(otherSum), 1)
		break
	}
	return changed
}

// tableServer is a sync endpoint that serves one table.
type tableServer struct {
	URL    string
	server *http.Server

	mu        sync.Mutex
	document  document
	etag      string
	served    int       // bytes of the document and its parts
	begun     time.Time // when the table was last asked for
	confirmed time.Time // when a gateway first named its tag; zero before
}

func startTableServer(spec tableSpec) (*tableServer, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // Returns at once.
	if err != nil {
		return nil, err
	}
	s := &tableServer{URL: "http://" + listener.Addr().String()}
	s.put(spec.whole())
	s.server = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go s.server.Serve(listener) //nolint:errcheck // Ends with stop.
	return s, nil
}

func (s *tableServer) stop() { _ = s.server.Close() }

// put changes the table.
func (s *tableServer) put(d document) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.document, s.etag, s.served = d, fmt.Sprintf(`"%x"`, sha256.Sum256(d.body)), 0
	s.begun, s.confirmed = time.Time{}, time.Time{}
}

// bytesServed returns how much of the table was fetched since it was put there.
func (s *tableServer) bytesServed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

// activation returns when the table was asked for and when a gateway showed that
// it is in force; ok is false before.
func (s *tableServer) activation() (begun, confirmed time.Time, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.begun, s.confirmed, !s.confirmed.IsZero()
}

func (s *tableServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if sum, ok := strings.CutPrefix(r.URL.Path, stack.PartsPath); ok {
		s.servePart(w, r, sum)
		return
	}
	if r.Method == http.MethodPost {
		stack.TakeReport(w, r, time.Second)
		return
	}
	s.mu.Lock()
	body, etag, inParts, now := s.document.body, s.etag, s.document.parts != nil, time.Now()
	known := r.Header.Get("If-None-Match") == etag
	if known && s.confirmed.IsZero() {
		s.confirmed = now
	}
	if !known {
		s.begun = now
		s.served += len(body)
	}
	s.mu.Unlock()
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Type", "application/json")
	if inParts {
		w.Header().Set("Content-Type", "application/vnd.tollgate.index+json")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func (s *tableServer) servePart(w http.ResponseWriter, r *http.Request, sum string) {
	s.mu.Lock()
	part, ok := s.document.parts[sum]
	s.served += len(part)
	s.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(part))
}

// manifestsOf returns the manifests that a table with so many numbered keys and one
// API is compiled from.
func manifestsOf(keys int) string {
	var b strings.Builder
	object := func(kind, name, spec string) {
		fmt.Fprintf(&b, "apiVersion: hub.traefik.io/v1alpha1\nkind: %s\nmetadata: {name: %s, namespace: bench}\nspec: %s\n---\n", kind, name, spec)
	}
	application := func(name, key string) {
		object("ManagedApplication", "app-"+name,
			fmt.Sprintf(`{appId: app-%s, owner: bench, apiKeys: [{value: "%s", title: key-1}]}`, name, stack.Digest(key)))
	}
	subscription := func(name, plan, filter string, applications ...string) {
		object("ManagedSubscription", name, fmt.Sprintf("{apiPlan: {name: %s}, apis: [{name: api-0000}], managedApplications: [%s]%s}",
			plan, strings.Join(applications, ", "), filter))
	}
	object("API", "api-0000", `{title: API, openApiSpec: {operationSets: [`+
		`{name: write, matchers: [{methods: [POST], pathPrefix: /weather}]}, `+
		`{name: read, matchers: [{methods: [GET], path: /}, {methods: [GET], pathPrefix: /weather}]}]}}`)
	object("APIPlan", "rate", "{title: Rate limit, rateLimit: {limit: 1000, period: 1s, bucket: application}}")
	object("APIPlan", "full", "{title: Both, rateLimit: {limit: 100000, period: 1s}, quota: {limit: 1000000000, period: 720h}}")
	application("full", fullKey)
	subscription("full-sub", "full", ", operationFilter: {include: [read]}", "{name: app-full}")
	var applications []string
	for i := range keys {
		name := fmt.Sprintf("%07d", i)
		application(name, string(numberedKey(nil, uint64(i))))
		applications = append(applications, "{name: app-"+name+"}")
	}
	subscription("rate-sub", "rate", "", applications...)
	return b.String()
}
