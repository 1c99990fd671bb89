package e2e

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

const indexType = "application/vnd.tollgate.index+json"

// cached is a control plane that serves its tables in parts, behind nginx.
type cached struct {
	t      *testing.T
	plane  *stack.ControlPlane
	url    string
	caFile string
	client *http.Client
	// publicKey is the one that tables are signed for.
	publicKey string
}

// newCached starts both. In the site's configuration the address of the control
// plane is 127.0.0.1:7070, and it listens on 443 with the files sync.crt and
// sync.key of /etc/nginx; files in /var/cache/nginx are moved, too.
func newCached(t *testing.T, site string, open bool) *cached {
	t.Helper()
	dir := t.TempDir()
	c := &cached{t: t}
	manifests := filepath.Join(dir, "manifests")
	for _, folder := range []string{manifests, filepath.Join(dir, "cache")} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	signingKey := filepath.Join(dir, "signing.key")
	public, err := exec.CommandContext(t.Context(), tollgateBinary, "keygen", "--out", signingKey).Output()
	if err != nil {
		t.Fatal(err)
	}
	c.publicKey = strings.TrimSpace(string(public))
	c.plane, err = stack.StartControlPlane(t.Context(), stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: dir, Manifests: manifests, Open: open,
		Args: []string{"--parts-above", "1", "--signing-key", signingKey},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.plane.Stop(); err != nil {
			t.Error(err)
		}
	})

	address, err := stack.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t, dir)
	c.caFile = cert
	certificate, err := os.ReadFile(cert)
	if err != nil {
		t.Fatal(err)
	}
	site = strings.NewReplacer(
		"listen              443 ssl http2", "listen "+address+" ssl http2",
		"/etc/nginx/sync.crt", cert, "/etc/nginx/sync.key", key, "/var/cache/nginx", filepath.Join(dir, "cache"),
		"127.0.0.1:7070", strings.TrimPrefix(c.plane.URL, "http://"),
	).Replace(site)
	nginx, err := stack.StartNginx(t.Context(), dir, site, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := nginx.Stop(); err != nil {
			t.Error(err)
		}
	})
	c.url = "https://" + address
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificate)
	transport := &http.Transport{
		ForceAttemptHTTP2: true, DisableCompression: true, TLSClientConfig: &tls.Config{RootCAs: roots},
	}
	t.Cleanup(transport.CloseIdleConnections)
	c.client = &http.Client{Transport: transport, Timeout: patience}
	return c
}

// get asks nginx as a gateway would that has the token, unless another is given.
func (c *cached) get(path string, header ...string) (res *http.Response, body []byte) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.url+path, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Accept", indexType)
	r.Header.Set("Authorization", "Bearer "+c.plane.Token)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	if res, err = c.client.Do(r); err != nil {
		c.t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err = io.ReadAll(res.Body); err != nil {
		c.t.Fatal(err)
	}
	if res.ProtoMajor != 2 {
		c.t.Errorf("%s came by %s, want HTTP/2", path, res.Proto)
	}
	return res, body
}

// index returns the tag and the parts of the table.
func (c *cached) index() (etag string, parts []string) {
	c.t.Helper()
	res, body := c.get("/v1/table")
	var index struct{ Parts []string }
	if err := json.Unmarshal(body, &index); err != nil || res.StatusCode != 200 || len(index.Parts) == 0 {
		c.t.Fatalf("got %d, %.200s, %v, want an index", res.StatusCode, body, err)
	}
	if res.Header.Get("Tollgate-Signature") == "" || res.Header.Get("Content-Type") != indexType {
		c.t.Errorf("the index has the header %v", res.Header)
	}
	return res.Header.Get("ETag"), index.Parts
}

// part fetches a part in an encoding and checks it. It returns how nginx used its
// cache.
func (c *cached) part(sum, encoding string) (cache string) {
	c.t.Helper()
	res, body := c.get(stack.PartsPath+sum, "Accept-Encoding", encoding)
	if res.StatusCode != 200 || res.Header.Get("Content-Encoding") != strings.TrimPrefix(encoding, "identity") {
		c.t.Fatalf("got %d with Content-Encoding %q, want 200 with %q", res.StatusCode, res.Header.Get("Content-Encoding"), encoding)
	}
	if encoding == "gzip" {
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		if body, err = io.ReadAll(z); err != nil {
			c.t.Fatal(err)
		}
	}
	if got := sha256.Sum256(body); hex.EncodeToString(got[:]) != sum {
		c.t.Errorf("in %s, the part %s is %.100s", encoding, sum, body)
	}
	return res.Header.Get("X-Cache")
}

// change makes another table, and waits until it is served.
func (c *cached) change(name string, manifests ...string) {
	c.t.Helper()
	before, _ := c.get("/v1/table")
	if err := c.plane.Apply(name+".yaml", strings.Join(manifests, "---\n")); err != nil {
		c.t.Fatal(err)
	}
	err := stack.Until(c.t.Context(), "another table", patience, func() error {
		if res, _ := c.get("/v1/table"); res.Header.Get("ETag") == before.Header.Get("ETag") {
			return fmt.Errorf("still %s", res.Header.Get("ETag"))
		}
		return nil
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// documentedSite returns the configuration of nginx that a page shows.
func documentedSite(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	_, site, found := strings.Cut(string(text), "```nginx\n")
	site, _, _ = strings.Cut(site, "```")
	if !found {
		t.Fatalf("%s shows none", page)
	}
	return site
}

// TestNginx puts nginx in front as docs/serve.md shows.
func TestNginx(t *testing.T) {
	const ns = namespace("nginx")
	c := newCached(t, documentedSite(t, "serve.md"), false)
	c.change("nginx", syncManifests(ns)...)
	etag, parts := c.index()

	// Both encodings are kept, and not mixed up.
	for _, want := range []string{"MISS", "HIT", "HIT"} {
		for _, encoding := range []string{"gzip", "identity"} {
			if got := c.part(parts[0], encoding); got != want {
				t.Errorf("part in %s: %s, want %s", encoding, got, want)
			}
		}
	}
	// Only for who has the token, though it is there.
	for _, token := range []string{"", "Bearer another", "Bearer " + c.plane.Token[1:]} {
		for _, path := range []string{stack.PartsPath + parts[0], "/v1/table"} {
			if res, _ := c.get(path, "Authorization", token, "Accept-Encoding", "gzip"); res.StatusCode != 401 {
				t.Errorf("%s with %q: got %d from the cache's %s, want 401", path, token, res.StatusCode, res.Header.Get("X-Cache"))
			}
		}
	}
	// What is not there is not remembered.
	missing := stack.PartsPath + strings.Repeat("0", 64)
	for range 2 {
		if res, _ := c.get(missing); res.StatusCode != 404 || res.Header.Get("X-Cache") != "MISS" {
			t.Errorf("a part that is missing: got %d, %s", res.StatusCode, res.Header.Get("X-Cache"))
		}
	}

	// The index is asked for each time.
	if res, _ := c.get("/v1/table", "If-None-Match", etag); res.StatusCode != 304 {
		t.Errorf("a known table: got %d, want 304", res.StatusCode)
	}
	held := make(chan *http.Response)
	go func() {
		res, _ := c.get("/v1/table", "If-None-Match", etag, "Prefer", "wait=15")
		held <- res
	}()
	begin := time.Now()
	c.change("nginx", append(syncManifests(ns), ns.app("other", "other-key"))...)
	res := <-held
	if res.StatusCode != 200 || res.Header.Get("Preference-Applied") != "wait=15" || res.Header.Get("ETag") == etag {
		t.Errorf("held for %s: got %d with the header %v, want the other table", time.Since(begin), res.StatusCode, res.Header)
	}
	if res, _ := c.get("/v1/table", "If-None-Match", etag); res.StatusCode != 200 {
		t.Errorf("after the change: got %d, want 200", res.StatusCode)
	}
	etag, _ = c.index()
	if res, _ := c.get("/v1/table", "If-None-Match", etag, "Prefer", "wait=1"); res.StatusCode != 304 || res.Header.Get("Preference-Applied") != "wait=1" {
		t.Errorf("nothing changed: got %d, %v", res.StatusCode, res.Header)
	}

	// A real gateway, which polls once in an hour unless it is held.
	config := byHeader(shared.config("nginx/api"))
	config.Sync = stack.Sync{
		Endpoint: c.url, Token: c.plane.Token, Interval: "1h", PublicKey: c.publicKey, TLS: &stack.TLS{CA: c.caFile},
	}
	shared.protect(t, "nginx.test", config)
	call := func() answer { return shared.send(t, "nginx.test", "GET /", apiKeyHeader+"nginx-key") }
	admitted(t, call())
	c.change("nginx", ns.api("api"), ns.unlimited("plan"), ns.app("app"), ns.sub("sub", "plan", list("app"), list("api")))
	shared.await(t, "the revocation", func() error { return wantStatus(call(), 401) })
	shared.await(t, "a report", func() error {
		s, err := statusOf(t, c.plane)
		if err == nil && (len(s.Gateways) != 1 || s.Requests.Total == 0) {
			err = fmt.Errorf("got %+v", s)
		}
		return err
	})
}

// naiveSite is nginx with a cache for everything, as one writes it without
// reading docs.
const naiveSite = `
proxy_cache_path /var/cache/nginx/tollgate keys_zone=tollgate:10m;
server {
    listen              443 ssl http2;
    ssl_certificate     /etc/nginx/sync.crt;
    ssl_certificate_key /etc/nginx/sync.key;
    location / {
        proxy_pass  http://127.0.0.1:7070;
        proxy_cache tollgate;
    }
}
`

// TestNaiveNginx caches all that may be cached.
func TestNaiveNginx(t *testing.T) {
	const ns = namespace("naive")
	for _, open := range []bool{true, false} {
		t.Run(fmt.Sprintf("open %v", open), func(t *testing.T) {
			c := newCached(t, naiveSite, open)
			c.change("naive", syncManifests(ns)...)
			etag, parts := c.index()
			first, second := "MISS", "HIT"
			if !open {
				second = "MISS" // parts are private
			}
			for _, want := range []string{first, second} {
				for _, encoding := range []string{"gzip", "identity"} {
					if got := c.part(parts[0], encoding); got != want {
						t.Errorf("part in %s: %s, want %s", encoding, got, want)
					}
				}
			}
			if res, _ := c.get(stack.PartsPath+parts[0], "Authorization", ""); !open && res.StatusCode != 401 {
				t.Errorf("without the token: got %d, want 401", res.StatusCode)
			}

			// Nginx keeps the tag for itself, so nothing is held, which must show.
			res, _ := c.get("/v1/table", "If-None-Match", etag, "Prefer", "wait=60")
			if res.StatusCode != 200 || res.Header.Get("Preference-Applied") != "" {
				t.Errorf("got %d, %v, want 200 without Preference-Applied", res.StatusCode, res.Header)
			}
			if res, _ := c.get("/v1/table", "Accept", "application/json"); res.StatusCode != 406 {
				t.Errorf("who cannot read parts: got %d, want 406", res.StatusCode)
			}
			c.change("naive", append(syncManifests(ns), ns.app("other", "other-key"))...)
			if res, _ := c.get("/v1/table", "If-None-Match", etag); res.StatusCode != 200 || res.Header.Get("ETag") == etag {
				t.Errorf("after the change: got %d, %v, want the other table", res.StatusCode, res.Header)
			}
		})
	}
}
