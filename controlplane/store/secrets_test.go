package store_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
)

// rights are those that docs/serve.md says a user needs.
func rights(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "serve.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, line, found := strings.Cut(string(page), "ACL SETUSER tollgate on '>secret' ")
	line, _, _ = strings.Cut(line, "\n")
	if !found {
		t.Fatal("docs/serve.md shows no ACL SETUSER")
	}
	return strings.Fields(strings.ReplaceAll(line, "'", ""))
}

// works checks that a store can do all that it must.
func works(t *testing.T, s store.Store) {
	t.Helper()
	set(t, s, "key", "one")
	made, err := s.Swap(t.Context(),
		store.Change{Key: "key", Version: set(t, s, "key", "two").Version},
		store.Change{Key: "other", Version: get(t, s, "other").Version, Data: []byte("x"), TTL: time.Minute})
	if err != nil || made[0] == 0 || made[1] == 0 {
		t.Errorf("got %v, %v", made, err)
	}
}

func TestUsers(t *testing.T) {
	server := redistest.Start(t)
	const secret = "s/e?c#r@e%t"
	client := server.Client()
	set := func(name, password string) {
		t.Helper()
		args := []any{"acl", "setuser", name, "reset", "on", ">" + password}
		for _, right := range rights(t) {
			args = append(args, right)
		}
		if err := client.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("tollgate", secret)
	if err := client.ConfigSet(t.Context(), "requirepass", secret+"2").Err(); err != nil {
		t.Fatal(err)
	}
	address := func(userinfo string) string { return "redis://" + userinfo + server.Address + "/2?" + quick }
	works(t, open(t, address(url.UserPassword("tollgate", secret).String()+"@"), store.Options{}))
	works(t, open(t, address(":"+url.PathEscape(secret+"2")+"@"), store.Options{}))

	for name, test := range map[string]struct{ address, want string }{
		"none":  {address(""), "NOAUTH"},
		"wrong": {address("tollgate:wrong-" + url.PathEscape(secret) + "@"), "WRONGPASS"},
		"user":  {address("another:" + url.PathEscape(secret) + "@"), "WRONGPASS"},
	} {
		_, _, err := open(t, test.address, store.Options{}).Get(t.Context(), "key")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %s", name, err, test.want)
		} else if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), url.PathEscape(secret)) {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}

	// A password from elsewhere is asked for with each connection.
	var password atomic.Value
	password.Store(secret)
	s := open(t, address("tollgate:ignored@"), store.Options{Password: func() string { return password.Load().(string) }})
	works(t, s)
	set("tollgate", "next")
	if err := client.Do(t.Context(), "client", "kill", "user", "tollgate").Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(t.Context(), "key"); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("after it was changed: got %v", err)
	}
	password.Store("next")
	recovers(t, s)
	works(t, s)
}

func TestSentinelWithPasswords(t *testing.T) {
	server := redistest.Start(t, "--requirepass", "secret")
	sentinel := redistest.StartSentinel(t, "limits", server)
	s := open(t, "redis-sentinel://:secret@"+sentinel.Address+"/limits?"+quick, store.Options{})
	works(t, s)
	if err := sentinel.Client().ConfigSet(t.Context(), "requirepass", "x").Err(); err == nil {
		t.Error("a sentinel takes a setting that it should not know")
	}
	if err := sentinel.Client().Do(t.Context(), "acl", "setuser", "default", "resetpass", ">secret").Err(); err != nil {
		t.Fatal(err)
	}
	works(t, open(t, "redis-sentinel://:secret@"+sentinel.Address+"/limits?sentinel-auth=true&"+quick, store.Options{}))
	if _, _, err := open(t, "redis-sentinel://:secret@"+sentinel.Address+"/limits?"+quick, store.Options{}).Get(t.Context(), "key"); err == nil {
		t.Error("the sentinel answers without a password")
	}
	if _, _, err := open(t, "redis-sentinel://:secret@"+sentinel.Address+"/another?sentinel-auth=true&"+quick, store.Options{}).Get(t.Context(), "key"); err == nil {
		t.Error("the sentinel knows another master")
	}
}

func TestTLS(t *testing.T) {
	dir := t.TempDir()
	cert, key, authorities := newCertificate(t, dir)
	server := redistest.Start(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	// It is awaited without TLS, on its other port.
	_, port, err := net.SplitHostPort(redistest.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Client().ConfigSet(t.Context(), "tls-port", port).Err(); err != nil {
		t.Fatal(err)
	}
	private := store.Options{Authorities: func() *x509.CertPool { return authorities }}
	works(t, open(t, "rediss://127.0.0.1:"+port, private))
	for name, test := range map[string]struct {
		address string
		options store.Options
		want    string
	}{
		"authority of the system": {"rediss://127.0.0.1:" + port, store.Options{}, "unknown authority"},
		"another name":            {"rediss://localhost:" + port, private, "wanted to match localhost"},
		"no TLS here":             {"redis://127.0.0.1:" + port + "?" + quick, store.Options{}, "no good answer"},
		"no TLS there":            {"rediss://" + server.Address + "?" + quick, private, "no good answer"},
	} {
		_, _, err := open(t, test.address, test.options).Get(t.Context(), "key")
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, test.want)
		}
	}
}

// newCertificate makes a certificate for 127.0.0.1 that is its own authority.
func newCertificate(t *testing.T, dir string) (certFile, keyFile string, authorities *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	authorities = x509.NewCertPool()
	authorities.AddCert(parsed)
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", keyDER), authorities
}
