package tollgate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/traefik/genconf/dynamic/types"

	"github.com/tollgate-apim/tollgate/feed"
	"github.com/tollgate-apim/tollgate/table"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pem = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

// issue returns a certificate for the loopback address, and its key, as PEM.
func (a *authority) issue() (cert, key string) {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "leaf"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}))
}

// serve starts a server over HTTP/2 with a certificate of a, which asks clients
// for one of an authority, if that is not nil.
func (a *authority) serve(clients *authority, handler http.Handler) *httptest.Server {
	a.t.Helper()
	cert, key := a.issue()
	pair, err := tls.X509KeyPair([]byte(cert), []byte(key))
	if err != nil {
		a.t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if clients != nil {
		server.TLS.ClientAuth = tls.RequireAndVerifyClientCert
		server.TLS.ClientCAs = x509.NewCertPool()
		server.TLS.ClientCAs.AddCert(clients.cert)
	}
	// It logs each handshake that fails, and Yaegi cannot give it a log of its own.
	output := log.Writer()
	log.SetOutput(io.Discard)
	a.t.Cleanup(func() { log.SetOutput(output) })
	server.EnableHTTP2 = true
	server.StartTLS()
	a.t.Cleanup(server.Close)
	return server
}

// protocol answers which version of HTTP a request came by.
func protocol(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }

// fetch returns what a client gets, or what went wrong.
func fetch(t *testing.T, client *http.Client, url string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(body)
}

func TestClientTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key := ours.issue()
	foreign, foreignKey := theirs.issue()
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { protocol(w, r) })
	open, closed := ours.serve(nil, handler), ours.serve(ours, handler)
	for _, test := range []struct {
		name   string
		server *httptest.Server
		tls    types.ClientTLS
		want   string // empty: any failure
	}{
		{"the right authority", open, types.ClientTLS{CA: ours.pem}, "HTTP/2.0"},
		{"the system's authorities", open, types.ClientTLS{}, "certificate"},
		{"another authority", open, types.ClientTLS{CA: theirs.pem}, "certificate"},
		{"several authorities", open, types.ClientTLS{CA: theirs.pem + ours.pem}, "HTTP/2.0"},
		{"no check", open, types.ClientTLS{InsecureSkipVerify: true}, "HTTP/2.0"},
		{"a client's certificate", closed, types.ClientTLS{CA: ours.pem, Cert: cert, Key: key}, "HTTP/2.0"},
		{"no client's certificate", closed, types.ClientTLS{CA: ours.pem}, ""},
		{"a foreign client's certificate", closed, types.ClientTLS{CA: ours.pem, Cert: foreign, Key: foreignKey}, ""},
	} {
		client := newClients(syncSettings{timeout: time.Minute, tls: test.tls}, func(string, bool) {})()
		if got := fetch(t, client, test.server.URL); !strings.Contains(got, test.want) || test.want == "" && strings.Contains(got, "HTTP/2.0") {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// Files that change are read again; what cannot be used is told of if it lasts.
func TestClientsFollowTheirFiles(t *testing.T) {
	old, young := newAuthority(t, "old"), newAuthority(t, "young")
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { protocol(w, r) })
	before, after := old.serve(old, handler), young.serve(young, handler)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	put := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cert, key := old.issue()
	put("ca", old.pem)
	put("cert", cert)
	put("key", key)
	var lines []string
	settings := syncSettings{timeout: time.Minute, tls: types.ClientTLS{CA: file("ca"), Cert: file("cert"), Key: file("key")}}
	next := newClients(settings, func(line string, failed bool) {
		if !failed {
			t.Errorf("%s: not reported as a failure", line)
		}
		lines = append(lines, line)
	})
	first := next()
	if next() != first {
		t.Error("another client although no file has changed")
	}
	if got := fetch(t, first, before.URL); got != "HTTP/2.0" {
		t.Errorf("with the old files: got %q", got)
	}

	// One file after another: in between, they do not fit.
	cert, key = young.issue()
	put("cert", cert)
	if next() != first || len(lines) > 0 {
		t.Errorf("half way: another client, or lines %q", lines)
	}
	put("key", key)
	put("ca", young.pem)
	second := next()
	if second == first || next() != second || len(lines) > 0 {
		t.Errorf("afterwards: the old client, or lines %q", lines)
	}
	if got := fetch(t, second, after.URL); got != "HTTP/2.0" {
		t.Errorf("with the new files: got %q", got)
	}

	put("key", "nonsense")
	for i := 0; i < 5; i++ {
		if next() != second {
			t.Error("another client although a file is nonsense")
		}
	}
	if err := os.Remove(file("ca")); err != nil {
		t.Fatal(err)
	}
	next()
	next()
	put("ca", young.pem)
	put("key", key)
	if next() != second {
		t.Error("another client although all is as it was")
	}
	if err := os.Remove(file("cert")); err != nil {
		t.Fatal(err)
	}
	next()
	next()
	want := []string{
		"sync.tls.key: is neither PEM nor the path of a file of at most 1 MiB that can be read; what was there before is still used",
		"sync.tls.ca: is neither PEM nor the path of a file of at most 1 MiB that can be read; what was there before is still used",
		"sync.tls.cert: is neither PEM nor the path of a file of at most 1 MiB that can be read; what was there before is still used",
	}
	// The content of a file that is no PEM is told by what is wrong with the pair.
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "sync.tls.cert and key: ") || lines[1] != want[1] || lines[2] != want[2] {
		t.Errorf("got lines %q, want %q", lines, want)
	}
	if strings.Contains(strings.Join(lines, ""), "nonsense") {
		t.Error("a key is shown")
	}
}

// Files that are gone by the time that they are needed do not mean that anybody is
// trusted.
func TestClientsWithoutTheirFiles(t *testing.T) {
	server := newAuthority(t, "ours").serve(nil, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { protocol(w, r) }))
	settings := syncSettings{timeout: time.Minute, tls: types.ClientTLS{CA: "/no/such/file", InsecureSkipVerify: true}}
	client := newClients(settings, func(string, bool) {})()
	if got := fetch(t, client, server.URL); !strings.Contains(got, "certificate") {
		t.Errorf("got %q, want an error for the certificate", got)
	}
}

// All of it together: HTTP/2, a private authority, a client's certificate, a table
// in parts, and a change that a held request brings.
func TestSyncOverTLS(t *testing.T) {
	ours := newAuthority(t, "ours")
	cert, key := ours.issue()
	rows := testTable(table.Plan{RateLimit: perHour(9)})
	rows.Revision = 1
	index, parts := table.Split(rows, 4)
	first, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	rows.Revision = 2
	rows.Keys = map[string][]table.Holder{}
	second, err := json.Marshal(rows)
	if err != nil {
		t.Fatal(err)
	}
	held, revoke := make(chan bool, 10), make(chan bool)
	server := ours.serve(ours, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Proto != "HTTP/2.0" || len(r.TLS.PeerCertificates) != 1 || r.Header.Get("Authorization") != "Bearer t" {
			t.Errorf("got a request by %s with %d certificates", r.Proto, len(r.TLS.PeerCertificates))
		}
		for i, sum := range index.Parts {
			if r.URL.Path == table.PartPath(sum) {
				_, _ = w.Write(parts[i])
				return
			}
		}
		if prefer := r.Header.Get("Prefer"); prefer != "" {
			w.Header().Set("Preference-Applied", prefer)
			held <- true
			if !<-revoke {
				<-r.Context().Done() // until the feed stops
				held <- false
				return
			}
			w.Header().Set("ETag", `"2"`)
			_, _ = w.Write(second)
			return
		}
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write(first)
	}))
	endpoint := newLive(t)
	c := testConfig(weatherAPI)
	c.Sync.Endpoint = []string{server.URL}
	c.Sync.Token = "t"
	c.Sync.TLS = types.ClientTLS{CA: ours.pem, Cert: cert, Key: key}
	r := newRig(t, c)
	endpoint.await("revision 1 is in force")
	if got := r.call("ann"); got != "ok 8" {
		t.Errorf("got %q", got)
	}
	await(t, "a request that waits", held)
	revoke <- true
	endpoint.await("revision 2 is in force")
	if got := r.call("ann"); got != "key_invalid" {
		t.Errorf("after the key was taken out: got %q", got)
	}
	await(t, "another request that waits", held)
	revoke <- false
	for _, src := range sources.sources {
		src.feed.Stop()
	}
	if <-held {
		t.Error("another request, after the feed has stopped")
	}
}

// TestConnectionsAreKept: those of parts that were fetched at once serve the next
// ones too.
func TestConnectionsAreKept(t *testing.T) {
	const most = feed.AtOnce + 1
	var opened atomic.Int64
	var together sync.WaitGroup
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, _ *http.Request) {
		together.Done()
		together.Wait()
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(func() { server.Close() })
	client := newClient(time.Minute, nil)
	t.Cleanup(func() { client.CloseIdleConnections() })
	for round := 1; round <= 3; round++ {
		together.Add(most)
		ended := make(chan error, most)
		for i := 0; i < most; i++ {
			go func() {
				resp, err := client.Get(server.URL)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
				}
				ended <- err
			}()
		}
		for i := 0; i < most; i++ {
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := opened.Load(); got != most {
		t.Errorf("%d connections for %d requests at a time, three times, want %d", got, most, most)
	}
}
