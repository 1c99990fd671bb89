package faults

import (
	"bytes"
	"compress/flate"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
	"github.com/tollgate-apim/tollgate/table"
)

// lie is an answer that no gateway may believe.
type lie struct {
	name string
	// says is what the gateway says of it; empty where it cannot know.
	says string
	// needsTable says that it is a lie only to those that have a table.
	needsTable bool
	// tell answers one request, for the table, for a part, or for where a
	// redirect has led.
	tell func(w http.ResponseWriter, r *http.Request, m *matter)
}

// matter is what a lie is made of.
type matter struct {
	truth http.Handler
	// body is the newest table, or its index, and head what stands in that.
	body []byte
	head struct {
		Revision int64    `json:"revision"`
		Parts    []string `json:"parts"`
	}
	version version
	// held is what the gateway has; its revision is 0 if that is not known.
	held told
	// signer signs rightly; nil if the gateway expects no signature.
	signer ed25519.PrivateKey
}

func newMatter(body []byte) *matter {
	m := &matter{body: body, version: version{number: versionIn(body)}}
	_ = json.Unmarshal(body, &m.head) // What is no table has revision 0.
	return m
}

// evil returns the table that lies would bring into force.
func (m *matter) evil(revision int64) document {
	return encode(m.version.evilTable(revision), len(m.head.Parts))
}

// newer returns evil as a newer table than any.
func (m *matter) newer() document { return m.evil(m.head.Revision + 1000) }

// sign signs a body rightly.
func (m *matter) sign(h http.Header, body []byte) {
	if m.signer != nil {
		h.Set(signatureHeader, signature(m.signer, body))
	}
}

// tooLate is what gateways say of an answer that takes too long.
const tooLate = "no complete answer"

// redirected is the path where redirects lead.
const redirected = "/v1/elsewhere"

// saying is a lie about the table. What make returns is signed rightly unless it
// sets the header itself. Parts are those of the lie, and else true.
func saying(name, says string, make func(m *matter, h http.Header) document) *lie {
	return &lie{name: name, says: says, tell: func(w http.ResponseWriter, r *http.Request, m *matter) {
		d := make(m, w.Header())
		if part, ok := d.parts[strings.TrimPrefix(r.URL.Path, table.PartPath(""))]; ok {
			w.Header().Del(signatureHeader)
			send(w, r, jsonType, part, form{})
			return
		}
		if r.URL.Path != table.Path {
			m.truth.ServeHTTP(w, r)
			return
		}
		if w.Header().Get(signatureHeader) == "" && w.Header()[signatureHeader] == nil {
			m.sign(w.Header(), d.body)
		}
		w.Header().Set("ETag", tagOf(d.body))
		send(w, r, jsonType, d.body, form{})
	}}
}

// answering is a lie in how the table is sent: a newer evil one, rightly signed.
func answering(name, says string, tell func(w http.ResponseWriter, r *http.Request, body []byte)) *lie {
	return &lie{name: name, says: says, tell: func(w http.ResponseWriter, r *http.Request, m *matter) {
		d := m.newer()
		if part, ok := d.parts[strings.TrimPrefix(r.URL.Path, table.PartPath(""))]; ok {
			send(w, r, jsonType, part, form{})
			return
		}
		m.sign(w.Header(), d.body)
		if r.URL.Path == redirected {
			send(w, r, jsonType, d.body, form{})
			return
		}
		w.Header().Set("ETag", tagOf(d.body))
		tell(w, r, d.body)
	}}
}

// raw is a lie in bytes that are no proper HTTP.
func raw(name, says string, text func(header, body string) string) *lie {
	return answering(name, says, func(w http.ResponseWriter, _ *http.Request, body []byte) {
		header := &strings.Builder{}
		_ = w.Header().Write(header)
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		_, _ = conn.Write([]byte(text(header.String(), string(body))))
	})
}

// partly is a lie about parts. The index is the true one, if it is newer than what
// the gateway has.
func partly(name, says string, tell func(w http.ResponseWriter, r *http.Request, m *matter, sum string)) *lie {
	return &lie{name: name, says: says, tell: func(w http.ResponseWriter, r *http.Request, m *matter) {
		sum, isPart := strings.CutPrefix(r.URL.Path, table.PartPath(""))
		if isPart {
			tell(w, r, m, sum)
			return
		}
		m.truth.ServeHTTP(w, r)
	}}
}

// maxBytes is the largest table that gateways here accept.
const maxBytes = 1 << 20

// bomb is a lot of white space.
var bomb = zipped(bytes.Repeat([]byte(" "), 64*maxBytes))

// httpLies are lies in how an answer is sent.
func httpLies() []*lie {
	statuses := []int{201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 307, 308, 400, 401, 403, 404, 408, 410, 429, 500, 502, 503, 504, 599}
	var lies []*lie
	for _, status := range statuses {
		lies = append(lies, answering(fmt.Sprintf("status %d", status), fmt.Sprintf("status %d", status),
			func(w http.ResponseWriter, r *http.Request, body []byte) {
				if status/100 == 3 {
					w.Header().Set("Location", path.Base(redirected))
				}
				w.WriteHeader(status)
				_, _ = w.Write(body)
			}))
	}
	encoded := func(name, says, coding string, encode func(body []byte) []byte) *lie {
		return answering(name, says, func(w http.ResponseWriter, _ *http.Request, body []byte) {
			w.Header().Set("Content-Encoding", coding)
			_, _ = w.Write(encode(body))
		})
	}
	return append(lies,
		answering("304 with another tag", "status 304", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.WriteHeader(http.StatusNotModified)
		}),
		answering("a page", "no valid table", func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Set("Content-Type", "text/html")
			_, _ = w.Write([]byte("<html><body>Welcome</body></html>"))
		}),
		encoded("gzip that is none", "gzip", "gzip", func(body []byte) []byte { return body }),
		encoded("gzip that is cut off", "EOF", "gzip", func(body []byte) []byte {
			z := zipped(body)
			return z[:len(z)-len(z)/3]
		}),
		encoded("gzip with a wrong checksum", "checksum", "gzip", func(body []byte) []byte {
			z := zipped(body)
			z[len(z)-5] ^= 1
			return z
		}),
		encoded("gzip in gzip", "no valid table", "gzip", func(body []byte) []byte { return zipped(zipped(body)) }),
		encoded("a gzip bomb", "larger than allowed", "gzip", func(body []byte) []byte {
			return append(slices.Clone(bomb), zipped(body)...)
		}),
		encoded("deflate", "no valid table", "deflate", func(body []byte) []byte {
			var out bytes.Buffer
			z, _ := flate.NewWriter(&out, flate.BestSpeed)
			_, _ = z.Write(body)
			_ = z.Close()
			return out.Bytes()
		}),
		answering("too large", "larger than allowed", func(w http.ResponseWriter, _ *http.Request, body []byte) {
			_, _ = w.Write(append(body, bytes.Repeat([]byte(" "), maxBytes)...))
		}),
		answering("one byte at a time", tooLate, func(w http.ResponseWriter, r *http.Request, body []byte) {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			for i := range body {
				if r.Context().Err() != nil {
					return
				}
				_, _ = w.Write(body[i : i+1])
				_ = http.NewResponseController(w).Flush()
				time.Sleep(20 * time.Millisecond)
			}
		}),
		answering("nothing, for ever", tooLate, func(_ http.ResponseWriter, r *http.Request, _ []byte) {
			<-r.Context().Done()
		}),
		raw("no HTTP", "no answer", func(_, _ string) string { return "220 mail.example.com ESMTP\r\n" }),
		raw("nothing", "no answer", func(_, _ string) string { return "" }),
		raw("a body that ends early", "EOF", func(header, body string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", header, len(body)+1, body)
		}),
		raw("a body that is told too short", "table", func(header, body string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", header, len(body)-1, body)
		}),
		raw("chunks that end early", "EOF", func(header, body string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", header, len(body), body)
		}),
		raw("two lengths", "no answer", func(header, body string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\nContent-Length: %d\r\n\r\n%s", header, len(body), len(body)-1, body)
		}),
		raw("a header without end", "no answer", func(header, body string) string {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sX-Long: %s\r\nContent-Length: %d\r\n\r\n%s", header, strings.Repeat("x", 1<<20), len(body), body)
		}),
		raw("early hints without end", "no answer", func(header, body string) string {
			return fmt.Sprintf("%sHTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100000), header, len(body), body)
		}),
	)
}

// revisionLies are lies about what came before.
func revisionLies() []*lie {
	lies := []*lie{
		saying("a lower revision", "not rolled back", func(m *matter, _ http.Header) document { return m.evil(m.held.revision - 1) }),
		saying("the first revision", "not rolled back", func(m *matter, _ http.Header) document { return m.evil(1) }),
		saying("the version before", "not rolled back", func(m *matter, _ http.Header) document {
			before := version{number: m.held.version.number - 1}
			return encode(before.table(m.held.revision-1), len(m.head.Parts))
		}),
		saying("the same revision", "other content", func(m *matter, _ http.Header) document { return m.evil(m.held.revision) }),
		{name: "nothing new", tell: func(w http.ResponseWriter, r *http.Request, m *matter) {
			if r.URL.Path == table.Path {
				w.Header().Set("Preference-Applied", "wait=30")
				w.WriteHeader(http.StatusNotModified)
				return
			}
			m.truth.ServeHTTP(w, r)
		}},
	}
	for _, l := range lies {
		l.needsTable = true
	}
	return lies
}

// signatureLies are lies to gateways that expect signatures.
func signatureLies() []*lie {
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	const header = signatureHeader
	with := func(name, says string, make func(m *matter, body []byte) string) *lie {
		return saying(name, says, func(m *matter, h http.Header) document {
			d := m.newer()
			h[header] = []string{make(m, d.body)}
			return d
		})
	}
	const byNone = "signed by none"
	return []*lie{
		with("no signature", "not signed", func(*matter, []byte) string { return "" }),
		with("signed by another key", byNone, func(_ *matter, body []byte) string { return signature(other, body) }),
		with("signed by several others", byNone, func(_ *matter, body []byte) string {
			return signature(other, body) + ", " + signature(other, body)
		}),
		with("a true signature of the true table", byNone, func(m *matter, _ []byte) string { return signature(m.signer, m.body) }),
		with("signed without the prefix", byNone, func(m *matter, body []byte) string { return signatureOf(m.signer, body) }),
		with("signed after compression", byNone, func(m *matter, body []byte) string { return signature(m.signer, zipped(body)) }),
		with("signed with a line end more", byNone, func(m *matter, body []byte) string {
			return signature(m.signer, append(slices.Clone(body), '\n'))
		}),
		with("a signature in no base64", "expected ed25519=", func(*matter, []byte) string { return "ed25519=!!!!" }),
		with("a signature that is short", "expected ed25519=", func(*matter, []byte) string { return "ed25519=AAAA" }),
		with("a signature of zeros", byNone, func(*matter, []byte) string { return "ed25519=" + strings.Repeat("A", 86) + "==" }),
		with("signed in an unknown way", byNone, func(m *matter, body []byte) string {
			return strings.Replace(signature(m.signer, body), "ed25519", "ed448", 1)
		}),
		with("signed too often", "8 at most", func(m *matter, body []byte) string {
			return strings.Repeat(signature(other, body)+", ", 8) + signature(m.signer, body)
		}),
	}
}

// unsignedLies are lies to gateways that expect no signature.
func unsignedLies() []*lie {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	return []*lie{saying("signed unexpectedly", "is signed, but", func(m *matter, h http.Header) document {
		d := m.newer()
		h.Set(signatureHeader, signature(key, d.body))
		return d
	})}
}

// partLies are lies to gateways that know an index.
func partLies() []*lie {
	part := func(m *matter, r *http.Request, sum string) []byte { return ask(m.truth, r, table.PartPath(sum)) }
	sending := func(name, says string, make func(m *matter, r *http.Request, sum string) []byte) *lie {
		return partly(name, says, func(w http.ResponseWriter, r *http.Request, m *matter, sum string) {
			send(w, r, jsonType, make(m, r, sum), form{})
		})
	}
	return []*lie{
		partly("a part that is gone", "is not there", func(w http.ResponseWriter, r *http.Request, _ *matter, _ string) { http.NotFound(w, r) }),
		partly("a part with status 500", "status 500", func(w http.ResponseWriter, _ *http.Request, _ *matter, _ string) {
			http.Error(w, "sorry", http.StatusInternalServerError)
		}),
		partly("a part that has moved", "redirects are not followed", func(w http.ResponseWriter, r *http.Request, m *matter, sum string) {
			if sum == "moved" {
				_, _ = w.Write(part(m, r, m.head.Parts[0]))
				return
			}
			http.Redirect(w, r, table.PartPath("moved"), http.StatusFound)
		}),
		partly("a part with status 304", "status 304", func(w http.ResponseWriter, _ *http.Request, _ *matter, _ string) {
			w.WriteHeader(http.StatusNotModified)
		}),
		partly("a part that ends early", "EOF", func(w http.ResponseWriter, r *http.Request, m *matter, sum string) {
			body := part(m, r, sum)
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			_, _ = w.Write(body[:len(body)-1])
		}),
		partly("a part that never ends", tooLate, func(w http.ResponseWriter, r *http.Request, _ *matter, _ string) {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}),
		sending("a part of nothing", "has SHA-256", func(*matter, *http.Request, string) []byte { return nil }),
		sending("a part that is a page", "has SHA-256", func(*matter, *http.Request, string) []byte { return []byte("<html></html>") }),
		sending("a part that is torn", "has SHA-256", func(m *matter, r *http.Request, sum string) []byte {
			body := part(m, r, sum)
			return body[:bytes.LastIndexByte(body, '\n')]
		}),
		sending("a part with a line more", "has SHA-256", func(m *matter, r *http.Request, sum string) []byte {
			return append(part(m, r, sum), '\n')
		}),
		sending("a part of an evil table", "has SHA-256", func(m *matter, _ *http.Request, sum string) []byte {
			evil := m.version.evilTable(m.head.Revision)
			_, parts := table.Split(evil, len(m.head.Parts))
			return parts[max(0, slices.Index(m.head.Parts, sum))]
		}),
		sending("a part in place of another", "has SHA-256", func(m *matter, r *http.Request, sum string) []byte {
			for _, other := range m.head.Parts {
				if other != sum {
					return part(m, r, other)
				}
			}
			return nil
		}),
		sending("a part that is too large", "larger than allowed", func(m *matter, r *http.Request, sum string) []byte {
			return append(part(m, r, sum), bytes.Repeat([]byte(" "), maxBytes)...)
		}),
		saying("parts in another order", "has rows of part", func(m *matter, _ http.Header) document {
			return reordered(m, func(parts []string) { slices.Reverse(parts) })
		}),
		saying("one part in all places", "has rows of part", func(m *matter, _ http.Header) document {
			return reordered(m, func(parts []string) {
				for i := range parts {
					parts[i] = parts[len(parts)-1]
				}
			})
		}),
		saying("an index of parts that nobody has", "is not there", func(m *matter, _ http.Header) document {
			return reordered(m, func(parts []string) {
				for i := range parts {
					parts[i] = table.PartSum([]byte(parts[i]))
				}
			})
		}),
	}
}

// reordered returns a newer evil index with other sums, and its parts.
func reordered(m *matter, change func(parts []string)) document {
	t := m.version.evilTable(m.head.Revision + 1000)
	index, texts := table.Split(t, len(m.head.Parts))
	d := document{parts: map[string][]byte{}}
	for i, text := range texts {
		d.parts[index.Parts[i]] = text
	}
	change(index.Parts)
	d.body = mustJSON(index)
	return d
}

// badFiles returns a lie for each bad table, or part, of testdata.
func badFiles(t *testing.T, folder, says string, make func(text []byte, m *matter) document) []*lie {
	t.Helper()
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "testdata", folder, "bad", "*"))
	if err != nil || len(files) < 50 {
		t.Fatalf("found %d bad files in %s (%v)", len(files), folder, err)
	}
	var lies []*lie
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(folder) + " " + strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		lies = append(lies, saying(name, says, func(m *matter, _ http.Header) document { return make(text, m) }))
	}
	return lies
}

// badTable returns a bad table. Its revision is a higher one, if it has any, so
// that it is not refused for that.
func badTable(text []byte, m *matter) document {
	for _, old := range []string{`"revision": 1,`, `"revision":1,`} {
		text = bytes.Replace(text, []byte(old), fmt.Appendf(nil, `"revision": %d,`, m.head.Revision+1000), 1)
	}
	return document{body: text}
}

// badPart returns an index with one bad part.
func badPart(text []byte, m *matter) document {
	index, _ := table.Split(m.version.evilTable(m.head.Revision+1000), 1)
	index.Parts[0] = table.PartSum(text)
	return document{body: mustJSON(index), parts: map[string][]byte{index.Parts[0]: text}}
}

// TestLies tells each lie to a gateway that has no table yet, and then, once that
// has one, while there is a newer one.
func TestLies(t *testing.T) {
	public, signer, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := startTraefik(t)
	var all []liedTo
	for _, kind := range []struct {
		name   string
		parts  int
		signer ed25519.PrivateKey
		lies   [][]*lie
	}{
		{"whole", 0, nil, [][]*lie{revisionLies(), unsignedLies(), httpLies(), badFiles(t, "tables", "no valid table", badTable)}},
		{"signed", 0, signer, [][]*lie{revisionLies(), signatureLies()}},
		{"parts", 4, signer, [][]*lie{revisionLies(), signatureLies(), partLies(), badFiles(t, "parts", "part 1 of 1", badPart)}},
	} {
		for i, l := range slices.Concat(kind.lies...) {
			name := fmt.Sprintf("%s-%d", kind.name, i)
			sync := stack.Sync{Timeout: "10s", Interval: "300ms", Wait: "20s", MaxBytes: maxBytes}
			if l.says == tooLate {
				sync.Timeout = "1s"
			}
			if kind.signer != nil {
				sync.PublicKey = publicText(public)
			}
			told := newTruth(kind.parts, kind.signer)
			told.publish(version{number: first})
			f := newFront(t, told, signer)
			f.add(name, kind.signer != nil)
			sync.Endpoint = "http://" + f.address + "/" + name
			if !l.needsTable {
				f.lie(name, l)
			}
			all = append(all, liedTo{newGateway(h, name, sync, f.served), l, f, told})
		}
	}
	lieToAll(t, h, all)
}

// first is the number of the first version that is served while lies are told, so
// that there are some before.
const first = 5

// liedTo is a gateway and what it is told.
type liedTo struct {
	*gateway
	lie   *lie
	front *front
	truth *truth
}

// lieToAll lies to all gateways at once, because most of the time passes between
// their polls.
func lieToAll(t *testing.T, h host, all []liedTo) {
	t.Helper()
	gateways := make([]*gateway, len(all))
	for i, g := range all {
		gateways[i] = g.gateway
	}
	if err := h.configure(gateways); err != nil {
		t.Fatal(err)
	}
	for i, err := range atOnce(len(all), func(i int) error { return all[i].story() }) {
		t.Run(all[i].name+" "+all[i].lie.name, func(t *testing.T) {
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// story lies to a gateway without a table and to one with a table.
func (g liedTo) story() error {
	if !g.lie.needsTable {
		if err := g.believesNothing(0); err != nil {
			return fmt.Errorf("without a table: %w", err)
		}
		if g.decided {
			return fmt.Errorf("without a table, version %d came into force", g.lo)
		}
		g.front.lie(g.name, nil)
	}
	if err := g.untilAt(first); err != nil {
		return fmt.Errorf("the truth after the lie: %w", err)
	}
	lines := g.host.log().Len()
	g.front.lie(g.name, g.lie)
	g.truth.publish(version{number: first + 1})
	if err := g.believesNothing(lines); err != nil {
		return fmt.Errorf("with a table: %w", err)
	}
	if g.lo != first {
		return fmt.Errorf("version %d is in force while lies are told, want %d", g.lo, first)
	}
	g.front.lie(g.name, nil)
	if err := g.untilAt(first + 1); err != nil {
		return fmt.Errorf("the truth after the lie: %w", err)
	}
	return nil
}

// believesNothing waits until the gateway was lied to twice, and said so after
// the first lines of the log.
func (g liedTo) believesNothing(lines int) error {
	return g.until("lies to be told", func() error {
		if n := g.front.asked(g.name); n < 2 {
			return fmt.Errorf("there were %d", n)
		}
		if _, found := g.host.log().Find(lines, "/"+g.name+":", g.lie.says); !found && g.lie.says != "" {
			return fmt.Errorf("no line of the log has %q", g.lie.says)
		}
		return nil
	})
}

// atOnce calls do for each number below n, all at once, and returns what they
// return. Tests that are parallel would be as few as there are processors.
func atOnce(n int, do func(i int) error) []error {
	failures := make([]error, n)
	var done sync.WaitGroup
	for i := range n {
		done.Go(func() { failures[i] = do(i) })
	}
	done.Wait()
	return failures
}

// ask returns what a handler answers at a path.
func ask(from http.Handler, r *http.Request, path string) []byte {
	seen := httptest.NewRecorder()
	from.ServeHTTP(seen, httptest.NewRequestWithContext(r.Context(), http.MethodGet, path, nil))
	return seen.Body.Bytes()
}

// publicText returns a public key as the configuration has it.
func publicText(key ed25519.PublicKey) string { return base64.StdEncoding.EncodeToString(key) }
