package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// syncManifests has one application that may call one API.
func syncManifests(ns namespace) []string {
	return []string{
		ns.api("api"), ns.unlimited("plan"), ns.app("app", string(ns)+"-key"),
		ns.sub("sub", "plan", list("app"), list("api")),
	}
}

// ownSync returns a sync endpoint for one test that is not reachable yet.
func ownSync(t *testing.T, target string) *stack.SyncProxy {
	t.Helper()
	proxy, err := stack.NewSyncProxy(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Down)
	return proxy
}

func up(t *testing.T, proxy *stack.SyncProxy) {
	t.Helper()
	if err := proxy.Up(); err != nil {
		t.Fatal(err)
	}
}

// TestSyncDownAtStart begins without a sync endpoint and goes on with one,
// without a restart.
func TestSyncDownAtStart(t *testing.T) {
	const ns = namespace("down")
	shared.apply(t, "down", syncManifests(ns)...)
	proxy := ownSync(t, shared.plane.URL)
	config := byHeader(shared.config("down/api"))
	config.Sync.Endpoint = proxy.URL
	shared.protectWithoutTable(t, "down.test", config)
	call := func() answer { return shared.send(t, "down.test", "GET /", apiKeyHeader+"down-key") }

	refused(t, call(), 503, "table_unavailable")
	up(t, proxy)
	shared.await(t, "the first table", func() error { return wantStatus(call(), 200) })

	// Down again, the table stays in force: no maxStaleness was set.
	proxy.Down()
	admitted(t, call())
}

// TestStaleness refuses once the table is older than it may be.
func TestStaleness(t *testing.T) {
	const ns = namespace("stale")
	shared.apply(t, "stale", syncManifests(ns)...)
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	config := byHeader(shared.config("stale/api"))
	config.Sync.Endpoint = proxy.URL
	config.Sync.Timeout, config.Sync.MaxStaleness = "1s", "3s"
	shared.protect(t, "stale.test", config)
	call := func() answer { return shared.send(t, "stale.test", "GET /", apiKeyHeader+"stale-key") }

	admitted(t, call())
	// An unchanged table that the endpoint confirms does not age.
	for begin := time.Now(); time.Since(begin) < 3*time.Second; time.Sleep(100 * time.Millisecond) {
		admitted(t, call())
	}
	proxy.Down()
	begin := time.Now()
	shared.await(t, "the table to be too old", func() error { return wantStatus(call(), 503) })
	if waited := time.Since(begin); waited < time.Second {
		t.Errorf("the table was too old after %s, want 2s", waited)
	}
	refused(t, call(), 503, "table_unavailable")
	up(t, proxy)
	shared.await(t, "a fresh table", func() error { return wantStatus(call(), 200) })
}

// TestBadTables makes the endpoint answer nonsense: the last good table stays in
// force, the log says why, and the next good one is taken.
func TestBadTables(t *testing.T) {
	const ns = namespace("bad-tables")
	shared.apply(t, "bad-tables", syncManifests(ns)...)
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	config := byHeader(shared.config("bad-tables/api"))
	config.Sync.Endpoint = proxy.URL
	config.Sync.Timeout = "1s"
	shared.protect(t, "bad-tables.test", config)
	call := func() answer {
		return shared.send(t, "bad-tables.test", "GET /", apiKeyHeader+"bad-tables-key")
	}
	admitted(t, call())

	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()

	text := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("ETag", `"bad"`)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	const empty = `"plans":{},"apis":{},"subscriptions":{},"applications":{},"keys":{}`
	for name, stand := range map[string]http.HandlerFunc{
		"HTML with status 200":        text(200, "text/html", "<html><body>Welcome</body></html>"),
		"unauthorized":                text(401, "text/plain", "no"),
		"server error":                text(500, "text/plain", "sorry"),
		"an empty body":               text(200, "application/json", ""),
		"truncated JSON":              text(200, "application/json", `{"revision":999999999,"issuedAt":"2026-11-21T17:00:00Z","keys":{`),
		"a wrong type":                text(200, "application/json", `{"revision":"many"}`),
		"a lower revision":            text(200, "application/json", `{"revision":1,"issuedAt":"2026-11-21T17:00:00Z",`+empty+`}`),
		"a table without its parts":   text(200, "application/json", `{"revision":999999999,"issuedAt":"2026-11-21T17:00:00Z"}`),
		"not modified, never fetched": text(304, "", ""),
		"a redirect to another host":  http.RedirectHandler(other.URL+"/v1/table", http.StatusFound).ServeHTTP,
		"a body that breaks off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"revision":`))
		},
		"one byte at a time": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				time.Sleep(50 * time.Millisecond)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			lines, polls := shared.traefik.Log.Len(), len(proxy.Polls())
			proxy.Answer(stand)
			shared.await(t, "two polls", func() error {
				if n := len(proxy.Polls()) - polls; n < 2 {
					return fmt.Errorf("there were %d", n)
				}
				return nil
			})
			admitted(t, call())
			if name != "not modified, never fetched" {
				shared.awaitLine(t, lines, proxy.URL)
			}
			proxy.Answer(nil)
			lines = shared.traefik.Log.Len()
			shared.awaitLine(t, lines, proxy.URL, "answers again")
			admitted(t, call())
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("the plugin followed the redirect %d times", n)
	}
}

// awaitLine waits for a line of Traefik's log after the first n.
func (g *gateway) awaitLine(t *testing.T, n int, words ...string) string {
	t.Helper()
	line, err := g.traefik.Log.Await(t.Context(), n, patience, words...)
	if err != nil {
		t.Fatalf("%v; the log ends with\n%s", err, g.traefik.Log.Tail(10))
	}
	return line
}

// TestSyncToken presents a wrong token.
func TestSyncToken(t *testing.T) {
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	config := shared.config("token/api")
	config.Sync.Endpoint = proxy.URL
	config.Sync.Token = "not-the-token"
	lines := shared.traefik.Log.Len()
	shared.protectWithoutTable(t, "token.test", config)
	shared.awaitLine(t, lines, proxy.URL, "401")
	refused(t, shared.send(t, "token.test", "GET /", "Authorization: Bearer x"), 503, "table_unavailable")
	for _, poll := range proxy.Polls() {
		if got := poll.Header.Get("Authorization"); got != "Bearer not-the-token" || poll.Status != 401 && poll.Status != 0 {
			t.Errorf("the gateway sent Authorization: %q and got status %d", got, poll.Status)
		}
	}
	for _, line := range shared.traefik.Log.Since(lines) {
		if strings.Contains(line, "not-the-token") && strings.Contains(line, `"plugin":"plugin-`) {
			t.Errorf("the plugin logs its token: %s", line)
		}
	}
}

// TestTableTooLarge caps the table below what is served.
func TestTableTooLarge(t *testing.T) {
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	config := shared.config("large/api")
	config.Sync.Endpoint = proxy.URL
	config.Sync.MaxBytes = 100
	lines := shared.traefik.Log.Len()
	shared.protectWithoutTable(t, "large.test", config)
	shared.awaitLine(t, lines, proxy.URL, "100 bytes")
}

// TestSyncTLS syncs over TLS with a certificate authority of one's own.
func TestSyncTLS(t *testing.T) {
	const ns = namespace("tls")
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	plane := startPlane(t, stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: dir, Manifests: filepath.Join(dir, "manifests"), TLSCert: cert, TLSKey: key,
	})
	write(t, plane, syncManifests(ns)...)
	config := byHeader(shared.config("tls/api"))
	config.Sync.Endpoint, config.Sync.Token = plane.URL, plane.Token

	lines := shared.traefik.Log.Len()
	shared.protectWithoutTable(t, "distrust.tls.test", config)
	shared.awaitLine(t, lines, plane.URL, "certificate")

	config.Sync.TLS = &stack.TLS{CA: cert}
	shared.protect(t, "trust.tls.test", config)
	shared.await(t, "the manifests", func() error {
		return wantStatus(shared.send(t, "trust.tls.test", "GET /", apiKeyHeader+"tls-key"), 200)
	})
	config.Sync.TLS = &stack.TLS{InsecureSkipVerify: true}
	shared.protect(t, "insecure.tls.test", config)
}

// selfSigned writes a certificate for this machine, and its key.
func selfSigned(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	privateBytes, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{
		cert: {Type: "CERTIFICATE", Bytes: certificate},
		key:  {Type: "PRIVATE KEY", Bytes: privateBytes},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestPolls looks at how the gateway asks.
func TestPolls(t *testing.T) {
	const ns = namespace("polls")
	shared.apply(t, "polls", syncManifests(ns)...)
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	for _, host := range []string{"a.polls.test", "b.polls.test", "c.polls.test"} {
		config := byHeader(shared.config("polls/api"))
		config.Sync.Endpoint = proxy.URL
		shared.protect(t, host, config)
	}
	shared.await(t, "ten polls", func() error {
		if n := len(proxy.Polls()); n < 10 {
			return fmt.Errorf("there were %d", n)
		}
		return nil
	})
	polls := proxy.Polls()
	if polls[0].Status != 200 || polls[0].Header.Get("If-None-Match") != "" {
		t.Errorf("the first poll had status %d and If-None-Match %q", polls[0].Status, polls[0].Header.Get("If-None-Match"))
	}
	for i, poll := range polls[1 : len(polls)-1] { // the last may be under way
		if poll.Status != 304 {
			t.Errorf("poll %d had status %d, want 304 for a table that has not changed", i+2, poll.Status)
		}
	}
	checkPace(t, polls, 0)
}

// checkPace checks that one feed asks, at its interval and no faster; a few
// polls may come early.
func checkPace(t *testing.T, polls []stack.Poll, early int) {
	t.Helper()
	found := 0
	for i := 1; i < len(polls); i++ {
		// Jitter takes a tenth away; arriving takes and gives a little.
		if gap := polls[i].At.Sub(polls[i-1].At); gap < syncInterval*7/10 {
			found++
			t.Logf("poll %d came %s after the one before it", i+1, gap)
		}
	}
	if found > early {
		t.Errorf("%d of %d polls came early, want %d at most", found, len(polls), early)
	}
}

// TestUnusedSource takes the last router of a sync endpoint away: polling ends.
func TestUnusedSource(t *testing.T) {
	const linger = time.Minute // in the plugin
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	config := shared.config("unused/api")
	config.Sync.Endpoint = proxy.URL
	shared.protect(t, "unused.test", config)
	if err := shared.traefik.Unconfigure("unused.test"); err != nil {
		t.Fatal(err)
	}
	shared.await(t, "the router to go", func() error { return wantStatus(shared.send(t, "unused.test", "GET /"), 404) })
	gone := time.Now()
	t.Parallel() // The minute passes while other tests run.

	if err := stack.Until(t.Context(), "polling to end", linger+patience, func() error {
		polls := proxy.Polls()
		if quiet := time.Since(polls[len(polls)-1].At); quiet < 10*syncInterval {
			return fmt.Errorf("the last of %d polls was %s ago", len(polls), quiet)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if last := proxy.Polls(); last[len(last)-1].At.Sub(gone) < linger/2 {
		t.Errorf("polling ended %s after the router went, want about %s", last[len(last)-1].At.Sub(gone), linger)
	}
}

// TestManifestEdits edits, adds and removes manifests while everything runs.
func TestManifestEdits(t *testing.T) {
	const ns = namespace("edited")
	shared.apply(t, "edited", syncManifests(ns)...)
	shared.protect(t, "edited.test", byHeader(shared.config("edited/api")))
	call := func(key string) answer { return shared.send(t, "edited.test", "GET /", apiKeyHeader+key) }

	admitted(t, call("edited-key"))
	refused(t, call("added-key"), 401, "key_invalid")

	shared.apply(t, "edited-more", ns.app("added", "added-key"))
	refused(t, call("added-key"), 403, "subscription_missing")

	shared.apply(t, "edited-sub", ns.sub("added", "plan", list("added"), list("api")))
	admitted(t, call("added-key"))

	before, err := shared.plane.Table(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.plane.Remove("edited-more.yaml"); err != nil {
		t.Fatal(err)
	}
	shared.awaitChange(t, before)
	refused(t, call("added-key"), 401, "key_invalid")
	admitted(t, call("edited-key"))
}

// TestBadManifests puts bad manifests among good ones: each is left out with a
// finding that names file, line, object and field, and nothing else suffers.
func TestBadManifests(t *testing.T) {
	const ns = namespace("bad-manifests")
	shared.apply(t, "bad-manifests", syncManifests(ns)...)
	shared.protect(t, "bad-manifests.test", byHeader(shared.config("bad-manifests/api")))
	call := func(key string) answer {
		return shared.send(t, "bad-manifests.test", "GET /", apiKeyHeader+key)
	}

	for i, bad := range []struct {
		name, manifest string
		finding        []string // words of one line of the log
	}{
		{"a duration in days", ns.plan("days", "quota: {limit: 1, period: 1d}"), list("days", "period", "1d")},
		{"a bad expression", ns.object("API", "regexp", `{title: A, openApiSpec: {path: /o, operationSets: [{name: s, matchers: [{pathRegex: "("}]}]}}`), list("regexp", "pathRegex")},
		{"two sources of a key", ns.object("ManagedApplication", "sources", `{appId: sources, owner: o, apiKeys: [{secretName: a, value: "{{digest "x"}}"}]}`), list("sources", "secretName", "value")},
		{"an unknown field", ns.object("APIPlan", "unknown", "{title: A, ratelimit: {limit: 1}}"), list("unknown", "ratelimit")},
		{"a plaintext key", ns.object("ManagedApplication", "plain", `{appId: plain, owner: o, apiKeys: [{value: my-plaintext-key}]}`), list("plain", "value")},
		{"a reference to nothing", ns.sub("nothing", "plan", list("no-such-application"), list("api")), list("nothing", "no-such-application")},
		{"an unknown kind of limit", ns.plan("bucket", "quota: {limit: 1, period: 1h, bucket: planet}"), list("bucket", "planet")},
		{"two of one name", ns.app("app", "another-key"), list("app", "bad-manifests")},
	} {
		t.Run(bad.name, func(t *testing.T) {
			file := fmt.Sprintf("zz-bad-%d.yaml", i)
			lines := shared.plane.Log.Len()
			// A good application beside it, in a file of its own, shows that
			// the change was taken.
			fresh := fmt.Sprintf("fresh-%d", i)
			if err := shared.plane.Apply(file, bad.manifest); err != nil {
				t.Fatal(err)
			}
			shared.apply(t, "good-"+fresh, ns.app(fresh, fresh+"-key"), ns.sub(fresh, "plan", list(fresh), list("api")))
			admitted(t, call("bad-manifests-key"))
			admitted(t, call(fresh+"-key"))
			line, err := shared.plane.Log.Await(t.Context(), lines, patience, append(bad.finding, file)...)
			if err != nil {
				t.Fatalf("%v; the log says\n%s", err, strings.Join(shared.plane.Log.Since(lines), "\n"))
			}
			if strings.Contains(line, "my-plaintext-key") {
				t.Errorf("the finding prints the key: %s", line)
			}
			if err := shared.plane.Remove(file); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestUnreadableManifest breaks a file so that nobody can tell what it meant: the
// last good table stays in force until the file is mended.
func TestUnreadableManifest(t *testing.T) {
	const ns = namespace("unreadable")
	const tabs = "kind: API\n\tmetadata: {name: tabbed}\n"
	shared.apply(t, "unreadable", syncManifests(ns)...)
	shared.protect(t, "unreadable.test", byHeader(shared.config("unreadable/api")))
	call := func() answer { return shared.send(t, "unreadable.test", "GET /", apiKeyHeader+"unreadable-key") }

	lines := shared.plane.Log.Len()
	if err := shared.plane.Apply("unreadable.yaml", tabs); err != nil {
		t.Fatal(err)
	}
	if _, err := shared.plane.Log.Await(t.Context(), lines, patience, "finding", "unreadable.yaml", "line=2"); err != nil {
		t.Fatalf("%v; the log says\n%s", err, strings.Join(shared.plane.Log.Since(lines), "\n"))
	}
	admitted(t, call())
	shared.apply(t, "unreadable", append(syncManifests(ns), ns.app("second", "unreadable-second"))...)
	admitted(t, call())
	refused(t, shared.send(t, "unreadable.test", "GET /", apiKeyHeader+"unreadable-second"), 403, "subscription_missing")

	t.Run("at start", func(t *testing.T) {
		dir := t.TempDir()
		manifests := filepath.Join(dir, "manifests")
		if err := os.Mkdir(manifests, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(manifests, "bad.yaml"), []byte(tabs), 0o600); err != nil {
			t.Fatal(err)
		}
		options := stack.ControlPlaneOptions{Binary: tollgateBinary, Dir: dir, Manifests: manifests}
		write(t, &stack.ControlPlane{Manifests: manifests}, syncManifests(ns)...)
		plane := startPlane(t, options)
		var table stack.Table
		shared.await(t, "the first table", func() (err error) {
			table, err = plane.Table(t.Context())
			return err
		})
		if len(table.Keys) != 1 {
			t.Errorf("the table has %d keys, want that of the good file", len(table.Keys))
		}
	})
}

// TestControlPlaneRestart restarts a control plane: its revisions go on, so the
// gateway takes what was edited meanwhile.
func TestControlPlaneRestart(t *testing.T) {
	const ns = namespace("restart")
	dir := t.TempDir()
	options := stack.ControlPlaneOptions{Binary: tollgateBinary, Dir: dir, Manifests: filepath.Join(dir, "manifests"), Token: shared.plane.Token}
	first := startPlane(t, options)
	write(t, first, syncManifests(ns)...)
	proxy := ownSync(t, first.URL)
	up(t, proxy)
	config := byHeader(shared.config("restart/api"))
	config.Sync.Endpoint = proxy.URL
	shared.protect(t, "restart.test", config)
	call := func(key string) answer { return shared.send(t, "restart.test", "GET /", apiKeyHeader+key) }
	admitted(t, call("restart-key"))

	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	admitted(t, call("restart-key"))
	write(t, first, append(syncManifests(ns), ns.app("late", "late-key"))...)
	second := startPlane(t, options)
	if err := proxy.Forward(second.URL); err != nil {
		t.Fatal(err)
	}
	shared.await(t, "the edited table", func() error { return wantStatus(call("late-key"), 403) })
	admitted(t, call("restart-key"))
}

func startPlane(t *testing.T, options stack.ControlPlaneOptions) *stack.ControlPlane {
	t.Helper()
	if err := os.MkdirAll(options.Manifests, 0o750); err != nil {
		t.Fatal(err)
	}
	plane, err := stack.StartControlPlane(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = plane.Stop() })
	return plane
}

func write(t *testing.T, plane *stack.ControlPlane, manifests ...string) {
	t.Helper()
	if err := plane.Apply("all.yaml", strings.Join(manifests, "---\n")); err != nil {
		t.Fatal(err)
	}
}
