package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/signing"
	"github.com/tollgate-apim/tollgate/table"
)

// patience is how long a test waits for what must come; it is no delay.
const patience = 20 * time.Second

// TestServe tells the whole story: serve with token and TLS, notice an edit,
// keep a broken one out, stop.
func TestServe(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, certKey, pool := newCertificate(t)
	manifests := filepath.Join(dir, "manifests")
	if err := os.Mkdir(manifests, 0o700); err != nil {
		t.Fatal(err)
	}
	const plan = "apiVersion: hub.traefik.io/v1alpha1\nkind: APIPlan\nmetadata: {name: plan}\nspec: {title: One}\n"
	const secret = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {key: not-to-be-told}\n---\n" +
		"apiVersion: hub.traefik.io/v1alpha1\nkind: ManagedApplication\nmetadata: {name: a}\nspec: {appId: a, owner: o, apiKeys: [{secretName: s}]}\n"
	file("manifests/plan.yaml", plan+secret)
	tokenFile := file("token", "a-token\n")

	p := startServe(t, "--manifests", manifests, "--listen", "127.0.0.1:0", "--log-format", "json",
		"--token-file", tokenFile, "--tls-cert", file("cert.pem", cert), "--tls-key", file("key.pem", certKey))
	address := p.await("listening")["address"].(string)
	found := p.await("finding")
	if found["rule"] != "plaintext-key" || found["file"] != filepath.Join(manifests, "plan.yaml") || found["line"] != 9.0 {
		t.Errorf("the finding is %v", found)
	}
	served := p.await("table served")

	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}, Timeout: patience}
	defer client.CloseIdleConnections()
	get := func(path, token string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(data)
	}
	title := func() string {
		t.Helper()
		_, body := get(table.Path, "a-token")
		tbl, err := table.Decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		return tbl.Plans["default/plan"].Title
	}
	if got := title(); got != "One" {
		t.Errorf("serves the plan %q, want One", got)
	}
	if status, _ := get(table.Path, "another-token"); status != http.StatusUnauthorized {
		t.Errorf("with another token: got %d, want 401", status)
	}
	if status, _ := get("/healthz", ""); status != http.StatusOK {
		t.Errorf("health: got %d, want 200", status)
	}

	file("manifests/plan.yaml", strings.Replace(plan, "One", "Two", 1))
	if again := p.await("table served"); again["revision"].(float64) <= served["revision"].(float64) {
		t.Errorf("the revision went from %v to %v", served["revision"], again["revision"])
	}
	if got := title(); got != "Two" {
		t.Errorf("serves the plan %q, want Two", got)
	}
	file("manifests/plan.yaml", "\tbad")
	p.await("change kept out: the last good table stays in force")
	if got := title(); got != "Two" {
		t.Errorf("after a bad change: serves the plan %q, want Two", got)
	}
	p.stop()
	for _, secret := range []string{"a-token", "another-token", "not-to-be-told"} {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log tells %s", secret)
		}
	}
}

// TestServeReloads replaces the files with tokens, keys and certificates, then
// spoils them.
func TestServeReloads(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var secrets []string
	signers := func(names ...string) []ed25519.PrivateKey {
		t.Helper()
		keys := make([]ed25519.PrivateKey, len(names))
		for i, name := range names {
			var err error
			if keys[i], err = signing.New(); err != nil {
				t.Fatal(err)
			}
			text, err := signing.Encode(keys[i])
			if err != nil {
				t.Fatal(err)
			}
			write(name, string(text))
			secrets = append(secrets, strings.Split(string(text), "\n")[1])
		}
		return keys
	}
	sources := []string{"--token-file", "--tls-cert and --tls-key", "--client-ca", "--signing-key"}
	if err := os.Mkdir(path("manifests"), 0o700); err != nil {
		t.Fatal(err)
	}

	serverCert, serverKey, pool := newCertificate(t)
	clientCert, clientKey, _ := newCertificate(t)
	write("cert", serverCert)
	write("key", serverKey)
	write("ca", clientCert)
	write("tokens", "old-token\n")
	keys := signers("one", "two")
	p := startServe(t, "--manifests", path("manifests"), "--listen", "127.0.0.1:0", "--log-format", "json",
		"--token-file", path("tokens"), "--tls-cert", path("cert"), "--tls-key", path("key"), "--client-ca", path("ca"),
		"--signing-key", path("one"), "--signing-key", path("two"))
	if got := fmt.Sprint(p.await("tables are signed")["publicKeys"]); got != fmt.Sprint([]string{signing.PublicKey(keys[0]), signing.PublicKey(keys[1])}) {
		t.Errorf("logged the public keys %s", got)
	}
	address := p.await("listening")["address"].(string)
	p.await("table served")

	// ask returns what a new connection is answered; 0 if there is none.
	ask := func(token string, keys []ed25519.PrivateKey) int {
		t.Helper()
		certificate, err := tls.X509KeyPair([]byte(clientCert), []byte(clientKey))
		if err != nil {
			t.Fatal(err)
		}
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{certificate}}}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+address+table.Path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		res, err := (&http.Client{Transport: transport, Timeout: patience}).Do(r)
		if err != nil {
			return 0
		}
		defer res.Body.Close()
		data, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		if want := signing.Sign(keys, data); res.StatusCode == http.StatusOK && res.Header.Get(signing.Header) != want {
			t.Errorf("got signatures %q, want %q", res.Header.Get(signing.Header), want)
		}
		return res.StatusCode
	}
	if got := ask("old-token", keys); got != http.StatusOK {
		t.Fatalf("before: got %d, want 200", got)
	}

	serverCert, serverKey, pool = newCertificate(t)
	write("cert", serverCert)
	write("key", serverKey)
	clientCert, clientKey, _ = newCertificate(t)
	write("ca", clientCert)
	write("tokens", "\nnew-token\r\n  other-token  \n")
	keys = append(keys[:1], signers("two")...)
	for range sources {
		p.await("changed files read again")
	}
	for token, want := range map[string]int{"old-token": 401, "new-token": 200, "other-token": 200} {
		if got := ask(token, keys); got != want {
			t.Errorf("after the change: %s got %d, want %d", token, got, want)
		}
	}

	for _, name := range []string{"cert", "ca", "tokens", "two"} {
		write(name, "not-to-be-told but spoilt")
	}
	var told []string
	for range sources {
		line := p.await("changed files cannot be used: what was read before stays in force")
		told = append(told, line["source"].(string))
	}
	if slices.Sort(told); !slices.Equal(told, slices.Sorted(slices.Values(sources))) {
		t.Errorf("told of %q, want %q", told, sources)
	}
	if got := ask("new-token", keys); got != http.StatusOK {
		t.Errorf("after all was spoilt: got %d, want 200", got)
	}
	p.stop()
	for _, secret := range append(secrets, "old-token", "new-token", "other-token", "not-to-be-told") {
		if strings.Contains(p.log.String(), secret) {
			t.Errorf("the log tells %s", secret)
		}
	}
}

// process is a command that runs in the background.
type process struct {
	t      *testing.T
	lines  chan map[string]any
	log    strings.Builder // to be read after stop
	cancel context.CancelFunc
	ended  chan error
}

func startServe(t *testing.T, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	p := &process{t: t, lines: make(chan map[string]any, 1000), cancel: cancel, ended: make(chan error, 1)}
	r, w := io.Pipe()
	cmd := newCommand()
	cmd.SetArgs(append([]string{"serve"}, args...))
	cmd.SetErr(w)
	go func() {
		err := cmd.ExecuteContext(ctx)
		w.Close()
		p.ended <- err
	}()
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(r); s.Scan(); {
			p.log.WriteString(s.Text() + "\n")
			var line map[string]any
			if err := json.Unmarshal(s.Bytes(), &line); err != nil {
				line = map[string]any{"msg": "not JSON: " + s.Text()}
			}
			p.lines <- line
		}
	}()
	t.Cleanup(cancel)
	return p
}

// await returns the next line of the log with that message.
func (p *process) await(message string) map[string]any {
	p.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				p.t.Fatalf("ended before it logged %q: %v", message, <-p.ended)
			}
			if line["msg"] == message {
				return line
			}
		case <-deadline:
			p.t.Fatalf("does not log %q", message)
		}
	}
}

// stop ends the command as a signal does, and waits until it has.
func (p *process) stop() {
	p.t.Helper()
	p.cancel()
	p.await("stopped")
	if err := <-p.ended; err != nil {
		p.t.Errorf("ended with %v", err)
	}
	for range p.lines { // until it is closed
	}
}

// TestServeFailsWithItsListener checks that a command whose one half fails does
// not go on with the other.
func TestServeFailsWithItsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := newCommand()
	cmd.SetErr(io.Discard)
	cmd.SetArgs([]string{"serve", "--manifests", t.TempDir(), "--listen", l.Addr().String()})
	if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v, want that the address is in use", err)
	}
}

func TestReadTokens(t *testing.T) {
	for text, want := range map[string]string{
		"a":                              "a",
		"a\n":                            "a",
		"\r\n a \r\n\r\n\tb-~!\r\nc\n\n": "a b-~! c",
		"a a":                            "",
		"a\x00":                          "",
		"ä":                              "",
		"":                               "",
		" \n\n":                          "",
		strings.Repeat("a\n", 101):       "",
	} {
		got, err := readTokens(text)
		if strings.Join(got, " ") != want || (err == nil) != (want != "") {
			t.Errorf("%.20q: got %q, %v, want %q", text, got, err, want)
		}
		if err != nil && want == "" && strings.Contains(err.Error(), "ä") {
			t.Errorf("%q tells the token", err)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "localhost": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.1": false, "example.com": false, "localhost.example.com": false,
	} {
		if got := isLoopback(host); got != want {
			t.Errorf("%q: got %v, want %v", host, got, want)
		}
	}
}

// newCertificate returns a certificate of 127.0.0.1 with its key, in PEM, and a
// pool that trusts it.
func newCertificate(t *testing.T) (cert, certKey string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	certKey = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	pool = x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(cert))
	return cert, certKey, pool
}
