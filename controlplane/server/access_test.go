package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/table"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.make(nil, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// make fills in what template lacks.
func (a *authority) make(parent *authority, template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62)); err != nil {
		a.t.Fatal(err)
	}
	template.NotBefore = time.Now().Add(-time.Hour)
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, signer, &key.PublicKey, signerKey)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// intermediate returns an authority that a has signed.
func (a *authority) intermediate() *authority {
	b := &authority{t: a.t}
	b.cert, b.key = b.make(a, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return b
}

// issue returns a certificate of 127.0.0.1 for a use, with those behind it.
func (a *authority) issue(use x509.ExtKeyUsage, notAfter time.Time, chain ...*authority) tls.Certificate {
	cert, key := a.make(a, &x509.Certificate{
		ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotAfter: notAfter,
	})
	result := tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
	for _, c := range chain {
		result.Certificate = append(result.Certificate, c.cert.Raw)
	}
	return result
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// tlsSite is a server that speaks TLS.
type tlsSite struct {
	t      *testing.T
	server *server.Server
	own    *authority
	dial   func() (net.Conn, error)
}

// newTLSSite returns one on real connections.
func newTLSSite(t *testing.T, s *server.Server) *tlsSite {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return newTLSSiteOn(t, s, listener, func() (net.Conn, error) { return net.Dial("tcp", listener.Addr().String()) })
}

func newTLSSiteOn(t *testing.T, s *server.Server, listener net.Listener, dial func() (net.Conn, error)) *tlsSite {
	t.Helper()
	site := &tlsSite{t: t, server: s, own: newAuthority(t), dial: dial}
	s.UseCertificate(site.own.issue(x509.ExtKeyUsageServerAuth, time.Time{}))
	web, ended := s.Web(), make(chan struct{})
	go func() {
		defer close(ended)
		_ = web.Serve(tls.NewListener(listener, s.TLSConfig())) // ends with Close
	}()
	t.Cleanup(func() {
		web.Close()
		<-ended
	})
	return site
}

// client returns one with a connection of its own.
func (s *tlsSite) client(certificates ...tls.Certificate) *http.Client {
	dial := func(context.Context, string, string) (net.Conn, error) { return s.dial() }
	transport := &http.Transport{ForceAttemptHTTP2: true, DialContext: dial, TLSClientConfig: &tls.Config{
		RootCAs: s.own.pool(),
		// A client that sends what it has, whether or not the server says that it
		// takes it.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certificates) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certificates[0], nil
		},
	}}
	s.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// status returns what a path is answered with, or 0 if the connection fails.
func (s *tlsSite) status(client *http.Client, path string) int {
	s.t.Helper()
	res, err := client.Get("https://127.0.0.1" + path)
	if err != nil {
		return 0
	}
	defer res.Body.Close()
	if res.ProtoMajor != 2 {
		s.t.Errorf("%s came by %s, want HTTP/2", path, res.Proto)
	}
	body(s.t, res)
	return res.StatusCode
}

func TestClientCertificates(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))
	site := newTLSSite(t, s)
	ours, foreign := newAuthority(t), newAuthority(t)
	middle := ours.intermediate()
	s.AdmitClients(ours.pool())
	const client = x509.ExtKeyUsageClientAuth
	for _, test := range []struct {
		name         string
		certificates []tls.Certificate
		table        int
		health       int
	}{
		{"ours", []tls.Certificate{ours.issue(client, time.Time{})}, 200, 200},
		{"by an intermediate", []tls.Certificate{middle.issue(client, time.Time{}, middle)}, 200, 200},
		{"none", nil, 403, 200},
		{"foreign", []tls.Certificate{foreign.issue(client, time.Time{})}, 0, 0},
		{"expired", []tls.Certificate{ours.issue(client, time.Now().Add(-time.Minute))}, 0, 0},
		{"a server's", []tls.Certificate{ours.issue(x509.ExtKeyUsageServerAuth, time.Time{})}, 0, 0},
		{"without the intermediate", []tls.Certificate{middle.issue(client, time.Time{})}, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := site.client(test.certificates...)
			if got := site.status(c, table.Path); got != test.table {
				t.Errorf("the table: got %d, want %d", got, test.table)
			}
			if got := site.status(c, "/healthz"); got != test.health {
				t.Errorf("health: got %d, want %d", got, test.health)
			}
		})
	}
	// Without TLS there is no certificate.
	if got := get(s, "GET", table.Path).StatusCode; got != 403 {
		t.Errorf("without TLS: got %d, want 403", got)
	}
}

// TestAuthorityTakenAway takes an authority away while a connection that began
// with it is there.
func TestAuthorityTakenAway(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))
	site := newTLSSite(t, s)
	old, next := newAuthority(t), newAuthority(t)
	s.AdmitClients(old.pool())
	c := site.client(old.issue(x509.ExtKeyUsageClientAuth, time.Time{}))
	if got := site.status(c, table.Path); got != 200 {
		t.Fatalf("before: got %d, want 200", got)
	}
	s.AdmitClients(next.pool())
	if got := site.status(c, table.Path); got != 403 {
		t.Errorf("the connection that is there: got %d, want 403", got)
	}
	if got := site.status(site.client(next.issue(x509.ExtKeyUsageClientAuth, time.Time{})), table.Path); got != 200 {
		t.Errorf("the next authority: got %d, want 200", got)
	}
}

// TestExpiresWhileConnected uses a certificate that is good for the handshake and
// not for the second request.
func TestExpiresWhileConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := quietServer()
		publish(t, s, newTable("Standard"))
		listener := newPipes()
		site := newTLSSiteOn(t, s, listener, func() (net.Conn, error) { return listener.dial(), nil })
		ours := newAuthority(t)
		s.AdmitClients(ours.pool())
		c := site.client(ours.issue(x509.ExtKeyUsageClientAuth, time.Now().Add(time.Minute)))
		if got := site.status(c, table.Path); got != 200 {
			t.Fatalf("before: got %d, want 200", got)
		}
		time.Sleep(61 * time.Second)
		if got := site.status(c, table.Path); got != 403 {
			t.Errorf("after: got %d, want 403", got)
		}
	})
}

// TestCertificateReplaced replaces the server's certificate.
func TestCertificateReplaced(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))
	site := newTLSSite(t, s)
	ours := newAuthority(t)
	s.AdmitClients(ours.pool())
	mine := ours.issue(x509.ExtKeyUsageClientAuth, time.Time{})
	before := site.client(mine)
	if got := site.status(before, table.Path); got != 200 {
		t.Fatalf("before: got %d, want 200", got)
	}
	site.own = newAuthority(t)
	s.UseCertificate(site.own.issue(x509.ExtKeyUsageServerAuth, time.Time{}))
	if got := site.status(site.client(mine), table.Path); got != 200 {
		t.Errorf("a new connection: got %d, want 200", got)
	}
	if got := site.status(site.client(), table.Path); got != 403 {
		t.Errorf("a new connection without a certificate: got %d, want 403", got)
	}
	if got := site.status(before, table.Path); got != 200 {
		t.Errorf("the connection that is there: got %d, want 200", got)
	}
}

func TestTokens(t *testing.T) {
	s := quietServer()
	publish(t, s, newTable("Standard"))
	status := func(token string) int {
		return get(s, "GET", table.Path, "Authorization", "Bearer "+token).StatusCode
	}
	for _, step := range []struct{ tokens, good, bad string }{
		{"", "old new other", ""},
		{"old", "old", "new other"},
		{"old new", "old new", "other"},
		{"new", "new", "old other"},
	} {
		s.AdmitTokens(strings.Fields(step.tokens))
		for _, token := range strings.Fields(step.good) {
			if got := status(token); got != 200 {
				t.Errorf("tokens %q: %s got %d, want 200", step.tokens, token, got)
			}
		}
		for _, token := range strings.Fields(step.bad) {
			if got := status(token); got != 401 {
				t.Errorf("tokens %q: %s got %d, want 401", step.tokens, token, got)
			}
		}
	}
}
