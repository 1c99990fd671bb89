package e2e

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
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

// TestRestartWithoutControlPlane restarts Traefik while nobody answers it: the
// first request is decided right.
func TestRestartWithoutControlPlane(t *testing.T) {
	const ns = namespace("kept")
	dir := t.TempDir()
	g, err := startGateway(t.Context(), dir, stack.TraefikOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Error(err)
		}
	})
	g.apply(t, "kept", syncManifests(ns)...)
	config := byHeader(g.config("kept/api"))
	config.Sync.CacheFile = filepath.Join(dir, "table.cache")
	config.Sync.MaxStaleness = "1h"
	g.protect(t, "kept.test", config)
	call := func(key string) answer { return g.send(t, "kept.test", "GET /", apiKeyHeader+key) }
	admitted(t, call("kept-key"))
	g.apply(t, "kept", ns.api("api"), ns.unlimited("plan"), ns.app("app", "second-key"), ns.sub("sub", "plan", list("app"), list("api")))
	g.await(t, "the file", func() error {
		file, err := os.ReadFile(config.Sync.CacheFile)
		if err != nil {
			return err
		}
		return mustContain(string(file), stack.Digest("second-key"))
	})

	if err := g.traefik.Stop(); err != nil {
		t.Fatal(err)
	}
	g.sync.Down()
	if err := g.plane.Stop(); err != nil {
		t.Fatal(err)
	}
	g.plane = nil
	restart := func() {
		t.Helper()
		var err error
		if g.traefik, err = stack.StartTraefik(t.Context(), stack.TraefikOptions{Binary: traefikBinary, Dir: dir}); err != nil {
			t.Fatal(err)
		}
	}
	// first returns the first answer that is not Traefik's own: it has no router yet.
	first := func(key string) (a answer) {
		t.Helper()
		g.await(t, "the router", func() error {
			if a = call(key); a.status == http.StatusNotFound {
				return fmt.Errorf("there is none")
			}
			return nil
		})
		return a
	}
	restart()
	admitted(t, first("second-key"))
	refused(t, call("kept-key"), 401, "key_invalid")
	g.awaitLine(t, 0, "cache file "+config.Sync.CacheFile, "is in force")
	g.awaitLine(t, 0, g.sync.URL, "no answer", "stays in force")

	// A file that somebody has changed is not believed.
	if err := g.traefik.Stop(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(config.Sync.CacheFile)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(file), stack.Digest("second-key"), stack.Digest("third-key"), 1)
	if err := os.WriteFile(config.Sync.CacheFile, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	restart()
	refused(t, first("third-key"), 503, "table_unavailable")
	g.awaitLine(t, 0, "cache file "+config.Sync.CacheFile, "was changed", "it is ignored")
}

// TestAllOfSync has everything at once: certificates on both sides, signed tables
// in parts, changes that are waited for, a file that keeps them, and a restart
// without the control plane.
func TestAllOfSync(t *testing.T) {
	const ns = namespace("all")
	dir := t.TempDir()
	cert, key := selfSigned(t, dir)
	signingKey := filepath.Join(dir, "signing.key")
	public, err := exec.CommandContext(t.Context(), tollgateBinary, "keygen", "--out", signingKey).Output()
	if err != nil {
		t.Fatal(err)
	}
	options := stack.ControlPlaneOptions{
		Binary: tollgateBinary, Dir: dir, Manifests: filepath.Join(dir, "all"), TLSCert: cert, TLSKey: key,
		Args: list("--client-ca", cert, "--signing-key", signingKey, "--parts-above", "1"),
	}
	plane := startPlane(t, options)
	write(t, plane, syncManifests(ns)...)

	g := newGateway(t, stack.TraefikOptions{})
	config := byHeader(stack.Config{API: "all/api", Sync: stack.Sync{
		Endpoint: plane.URL, Token: plane.Token, Interval: "10m", Wait: "30s",
		PublicKey: strings.TrimSpace(string(public)),
		CacheFile: filepath.Join(dir, "table.cache"),
		TLS:       &stack.TLS{CA: cert, Cert: cert, Key: key},
	}})
	g.protect(t, "all.test", config)
	call := func(key string) answer { return g.send(t, "all.test", "GET /", apiKeyHeader+key) }
	g.await(t, "the manifests", func() error { return wantStatus(call("all-key"), 200) })
	write(t, plane, append(syncManifests(ns)[:2:2], ns.app("app", "second-key"), ns.sub("sub", "plan", list("app"), list("api")))...)
	g.await(t, "the key to be refused", func() error { return wantStatus(call("all-key"), 401) })
	admitted(t, call("second-key"))
	g.await(t, "the parts", func() error {
		for _, name := range []string{"table.cache", "table.cache.parts/*"} {
			paths, err := filepath.Glob(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			for _, path := range paths {
				if data, err := os.ReadFile(path); err == nil && strings.Contains(string(data), stack.Digest("second-key")) {
					return nil
				}
			}
		}
		return errors.New("the second key is not in them")
	})

	if err := g.traefik.Stop(); err != nil {
		t.Fatal(err)
	}
	if err := plane.Stop(); err != nil {
		t.Fatal(err)
	}
	traefik, err := stack.StartTraefik(t.Context(), stack.TraefikOptions{
		Binary: traefikBinary, Dir: t.TempDir(), Dynamic: map[string]stack.Dynamic{"all.test": g.route("all.test", config)},
	})
	if err != nil {
		t.Fatal(err)
	}
	g.traefik = traefik
	first := 0
	g.await(t, "the router", func() error {
		if first = call("second-key").status; first == http.StatusNotFound {
			return errors.New("there is none")
		}
		return nil
	})
	if first != http.StatusOK {
		t.Errorf("the first request was answered with status %d", first)
	}
	refused(t, call("all-key"), 401, "key_invalid")
}

// signing serves the tables of a control plane, signed by a key.
type signing struct {
	plane *stack.ControlPlane
	key   ed25519.PrivateKey
	// change, if set, changes a table that is already signed.
	change func(body []byte) []byte
}

func (s *signing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, s.plane.URL+"/v1/table", nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	req.Header.Set("Authorization", r.Header.Get("Authorization"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		http.Error(w, fmt.Sprint(resp.Status, err), http.StatusBadGateway)
		return
	}
	if s.key != nil {
		signature := ed25519.Sign(s.key, append([]byte("tollgate table v1\n"), body...))
		w.Header().Set("Tollgate-Signature", "ed25519="+base64.StdEncoding.EncodeToString(signature))
	}
	if s.change != nil {
		body = s.change(body)
	}
	_, _ = w.Write(body)
}

// TestSignedTables keeps out what is not signed as expected.
func TestSignedTables(t *testing.T) {
	const ns = namespace("signed")
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	shared.apply(t, "signed", syncManifests(ns)...)
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	proxy.Answer(&signing{plane: shared.plane, key: private})
	config := byHeader(shared.config("signed/api"))
	config.Sync.Endpoint = proxy.URL
	old := base64.StdEncoding.EncodeToString(make([]byte, ed25519.PublicKeySize))
	config.Sync.PublicKey = old + ", " + base64.StdEncoding.EncodeToString(public)
	shared.protect(t, "signed.test", config)
	call := func(key string) answer { return shared.send(t, "signed.test", "GET /", apiKeyHeader+key) }
	admitted(t, call("signed-key"))

	for name, test := range map[string]struct {
		stand *signing
		line  string
	}{
		"not signed":            {&signing{}, "the table is not signed"},
		"signed by another":     {&signing{key: other}, "signed by none of the keys"},
		"changed after signing": {&signing{key: private, change: func(body []byte) []byte { return append(body, '\n') }}, "signed by none of the keys"},
	} {
		t.Run(name, func(t *testing.T) {
			late := "signed-" + strings.ReplaceAll(name, " ", "-")
			lines := shared.traefik.Log.Len()
			test.stand.plane = shared.plane
			proxy.Answer(test.stand)
			shared.apply(t, "signed-late", ns.app("late", late), ns.sub("late", "plan", list("late"), list("api")))
			shared.awaitLine(t, lines, proxy.URL, test.line, "stays in force")
			refused(t, call(late), 401, "key_invalid")
			admitted(t, call("signed-key"))
			proxy.Answer(&signing{plane: shared.plane, key: private})
			shared.await(t, "the signed table", func() error { return wantStatus(call(late), 200) })
		})
	}

	// Without a key, what is signed stays out.
	lines := shared.traefik.Log.Len()
	config.Sync.PublicKey = ""
	shared.protectWithoutTable(t, "unexpected.signed.test", withEndpoint(t, config, proxy))
	shared.awaitLine(t, lines, "the table is signed, but no key is set in sync.publicKey")
}

// withEndpoint returns a configuration with another address of a proxy, so that
// it shares neither table nor poller with the one that there is.
func withEndpoint(t *testing.T, config stack.Config, proxy *stack.SyncProxy) stack.Config {
	t.Helper()
	config.Sync.Endpoint = strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)
	return config
}

// TestRevocationArrivesAtOnce takes a key away while the gateway polls once in ten
// minutes: only a request that is held can tell it.
func TestRevocationArrivesAtOnce(t *testing.T) {
	const ns = namespace("revoked")
	shared.apply(t, "revoked", syncManifests(ns)...)
	proxy := ownSync(t, shared.plane.URL)
	up(t, proxy)
	config := byHeader(shared.config("revoked/api"))
	config.Sync.Endpoint = proxy.URL
	config.Sync.Interval, config.Sync.Wait = "10m", "30s"
	shared.protect(t, "revoked.test", config)
	call := func(key string) answer { return shared.send(t, "revoked.test", "GET /", apiKeyHeader+key) }
	admitted(t, call("revoked-key"))
	for i := range 3 {
		before, after := "revoked-key", fmt.Sprintf("revoked-fresh-%d", i)
		if i > 0 {
			before = fmt.Sprintf("revoked-fresh-%d", i-1)
		}
		admitted(t, call(before))
		saved := time.Now()
		if err := shared.plane.Apply("revoked.yaml", strings.Join(append(syncManifests(ns)[:2:2],
			ns.app("app", after), ns.sub("sub", "plan", list("app"), list("api"))), "---\n")); err != nil {
			t.Fatal(err)
		}
		shared.await(t, "the key to be refused", func() error { return wantStatus(call(before), 401) })
		t.Logf("refused %s after the manifest was saved", time.Since(saved).Round(time.Millisecond))
		admitted(t, call(after))
	}
	for _, poll := range proxy.Polls()[1:] {
		if poll.Header.Get("Prefer") == "" {
			t.Error("the gateway asked without waiting")
		}
	}
}

// TestSecondEndpoint takes the first of two endpoints away, and then the second.
func TestSecondEndpoint(t *testing.T) {
	const ns = namespace("two-endpoints")
	shared.apply(t, "two-endpoints", syncManifests(ns)...)
	first, second := ownSync(t, shared.plane.URL), ownSync(t, shared.plane.URL)
	up(t, first)
	up(t, second)
	config := byHeader(shared.config("two-endpoints/api"))
	config.Sync.Endpoint = first.URL + "," + second.URL
	config.Sync.Wait = "30s"
	shared.protect(t, "two-endpoints.test", config)
	call := func(key string) answer { return shared.send(t, "two-endpoints.test", "GET /", apiKeyHeader+key) }
	admitted(t, call("two-endpoints-key"))
	if n := len(second.Polls()); n != 0 {
		t.Errorf("the second endpoint was asked %d times although the first works", n)
	}

	lines := shared.traefik.Log.Len()
	first.Down()
	shared.awaitLine(t, lines, first.URL, "stays in force")
	shared.awaitLine(t, lines, second.URL, "answers instead")
	admitted(t, call("two-endpoints-key"))
	shared.apply(t, "two-endpoints-late", ns.app("late", "two-endpoints-late"))
	shared.await(t, "a change by way of the second endpoint", func() error { return wantStatus(call("two-endpoints-late"), 403) })

	lines = shared.traefik.Log.Len()
	up(t, first)
	second.Down()
	shared.awaitLine(t, lines, first.URL, "answers again")
	admitted(t, call("two-endpoints-key"))
}
