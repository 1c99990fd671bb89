package tollgate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/traefik/genconf/dynamic/types"
)

func TestConfigErrors(t *testing.T) {
	const (
		api      = `must be the namespace/name of an API, such as apps/weather-api`
		endpoint = `must be an absolute http or https URL, such as http://127.0.0.1:7070`
		duration = ` must be a duration such as 10s, of `
		name     = "must be letters, digits and any of !#$%&'*+-.^_`|~"
		query    = "must be a parameter's name as it is when decoded, without space and any of &;=?#%+"
	)
	const publicKey = `must be the base64 of the 32 bytes of an ed25519 public key, as tollgate keygen prints it`
	const file = `must be empty, or the absolute path of a file, such as /var/lib/traefik/tollgate.cache`
	keyOf := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	certificate, key := testCertificate(t)
	for _, test := range []struct {
		name  string
		wrong func(*Config)
		want  string
	}{
		{"no api", func(c *Config) { c.API = "" }, `api: "" ` + api},
		{"api without namespace", func(c *Config) { c.API = "weather-api" }, `api: "weather-api" ` + api},
		{"api in capitals", func(c *Config) { c.API = "apps/Weather" }, `api: "apps/Weather" ` + api},
		{"api with a slash too many", func(c *Config) { c.API = "apps/weather/v1" }, `api: "apps/weather/v1" ` + api},
		{"api on two lines", func(c *Config) { c.API = "apps/weather\n" }, `api: "apps/weather\n" ` + api},
		{"api for a header", func(c *Config) { c.API = `apps/x"` }, `api: "apps/x\"" ` + api},

		{"no endpoint", func(c *Config) { c.Sync.Endpoint = []string{""} }, `sync.endpoint: "" ` + endpoint},
		{"endpoint without scheme", func(c *Config) { c.Sync.Endpoint = []string{"localhost:7070"} }, `sync.endpoint: "localhost:7070" ` + endpoint},
		{"endpoint that is no URL", func(c *Config) { c.Sync.Endpoint = []string{"127.0.0.1:7070"} }, `sync.endpoint: ` + endpoint},
		{"endpoint with a bad port", func(c *Config) { c.Sync.Endpoint = []string{"http://h:port"} }, `sync.endpoint: ` + endpoint},
		{"endpoint with too high a port", func(c *Config) { c.Sync.Endpoint = []string{"http://h:70700"} }, `sync.endpoint: "http://h:70700" ` + endpoint},
		{"endpoint of another scheme", func(c *Config) { c.Sync.Endpoint = []string{"ftp://h"} }, `sync.endpoint: "ftp://h" ` + endpoint},
		{"endpoint without host", func(c *Config) { c.Sync.Endpoint = []string{"http://:7070"} }, `sync.endpoint: "http://:7070" ` + endpoint},
		{"endpoint with query", func(c *Config) { c.Sync.Endpoint = []string{"http://h/?a=b"} }, `sync.endpoint: must have neither query nor fragment`},
		{"endpoint with fragment", func(c *Config) { c.Sync.Endpoint = []string{"http://h/#a"} }, `sync.endpoint: must have neither query nor fragment`},
		{"endpoint with password", func(c *Config) { c.Sync.Endpoint = []string{"http://u:p@h"} }, `sync.endpoint: must have no user name or password; use sync.token`},

		{"no endpoints", func(c *Config) { c.Sync.Endpoint = nil }, `sync.endpoint: "" ` + endpoint},
		{"second endpoint", func(c *Config) { c.Sync.Endpoint = []string{"http://h", "ftp://h"} }, `sync.endpoint[1]: "ftp://h" ` + endpoint},
		{"endpoint behind a comma too many", func(c *Config) { c.Sync.Endpoint = []string{"http://h", ""} }, `sync.endpoint[1]: "" ` + endpoint},
		{"endpoint listed twice", func(c *Config) { c.Sync.Endpoint = []string{"http://h", "http://i", "http://h/"} },
			`sync.endpoint[2]: "http://h" must be listed once`},

		{"token on two lines", func(c *Config) { c.Sync.Token = "a\nb" }, `sync.token: must be text on one line, without space around it`},
		{"token with the file's last newline", func(c *Config) { c.Sync.Token = "a\n" }, `sync.token: must be text on one line, without space around it`},
		{"token that no header can hold", func(c *Config) { c.Sync.Token = "a\x00b" }, `sync.token: must be text on one line, without space around it`},
		{"token with space", func(c *Config) { c.Sync.Token = " a" }, `sync.token: must be text on one line, without space around it`},

		{"no interval", func(c *Config) { c.Sync.Interval = "" }, `sync.interval: ""` + duration + "100ms or more"},
		{"interval that is none", func(c *Config) { c.Sync.Interval = "soon" }, `sync.interval: "soon"` + duration + "100ms or more"},
		{"interval in days", func(c *Config) { c.Sync.Interval = "1d" }, `sync.interval: "1d"` + duration + "100ms or more"},
		{"interval of 0", func(c *Config) { c.Sync.Interval = "0" }, `sync.interval: "0"` + duration + "100ms or more"},
		{"short interval", func(c *Config) { c.Sync.Interval = "99ms" }, `sync.interval: "99ms"` + duration + "100ms or more"},
		{"negative interval", func(c *Config) { c.Sync.Interval = "-10s" }, `sync.interval: "-10s"` + duration + "100ms or more"},
		{"interval of centuries", func(c *Config) { c.Sync.Interval = "999999h" }, `sync.interval: "999999h"` + duration + "100ms or more"},
		{"interval of ages", func(c *Config) { c.Sync.Interval = "10000000000" }, `sync.interval: "10000000000"` + duration + "100ms or more"},
		{"timeout", func(c *Config) { c.Sync.Timeout = "1x" }, `sync.timeout: "1x"` + duration + "100ms or more"},
		{"maxStaleness", func(c *Config) { c.Sync.MaxStaleness = "-1s" }, `sync.maxStaleness: "-1s"` + duration + "0s or more"},
		{"maxStaleness shorter than two intervals", func(c *Config) { c.Sync.MaxStaleness = "10s" },
			`sync.maxStaleness: "10s" must be 0s or at least 2 × (sync.interval + sync.wait + sync.timeout), which is 1m30s`},
		{"maxStaleness without waiting", func(c *Config) { c.Sync.MaxStaleness, c.Sync.Wait = "24s", "0s" },
			`sync.maxStaleness: "24s" must be 0s or at least 2 × (sync.interval + sync.wait + sync.timeout), which is 30s`},
		{"wait", func(c *Config) { c.Sync.Wait = "long" }, `sync.wait: "long"` + duration + "0s or more"},
		{"no wait", func(c *Config) { c.Sync.Wait = "" }, `sync.wait: ""` + duration + "0s or more"},
		{"negative wait", func(c *Config) { c.Sync.Wait = "-1s" }, `sync.wait: "-1s"` + duration + "0s or more"},
		{"short wait", func(c *Config) { c.Sync.Wait = "1999ms" }, `sync.wait: "1999ms" must be 0s, or from 2s to 1m0s`},
		{"long wait", func(c *Config) { c.Sync.Wait = "61s" }, `sync.wait: "61s" must be 0s, or from 2s to 1m0s`},
		{"maxBytes", func(c *Config) { c.Sync.MaxBytes = 0 }, `sync.maxBytes: "0" must be 1 or more`},

		{"CA that is no file", func(c *Config) { c.Sync.TLS.CA = "/no/such/file" },
			`sync.tls.ca: is neither PEM nor the path of a file of at most 1 MiB that can be read`},
		{"CA that is a key", func(c *Config) { c.Sync.TLS.CA = key }, `sync.tls.ca: holds no certificate; must be PEM or the path of a PEM file`},
		{"certificate without key", func(c *Config) { c.Sync.TLS.Cert = certificate }, `sync.tls: has one of cert and key, must have both or none`},
		{"key without certificate", func(c *Config) { c.Sync.TLS.Key = key }, `sync.tls: has one of cert and key, must have both or none`},
		{"certificate that is no file", func(c *Config) { c.Sync.TLS = types.ClientTLS{Cert: "/no/such/file", Key: key} },
			`sync.tls.cert: is neither PEM nor the path of a file of at most 1 MiB that can be read`},
		{"key that is no file", func(c *Config) { c.Sync.TLS = types.ClientTLS{Cert: certificate, Key: "secret"} },
			`sync.tls.key: is neither PEM nor the path of a file of at most 1 MiB that can be read`},
		{"key that is a certificate", func(c *Config) { c.Sync.TLS = types.ClientTLS{Cert: certificate, Key: certificate} },
			`sync.tls.cert and key: tls: found a certificate rather than a key in the PEM for the private key`},

		{"headerAuthScheme alone", func(c *Config) { c.KeySource.HeaderAuthScheme = "Bearer" }, `keySource.headerAuthScheme: "Bearer" needs keySource.header`},
		{"scheme and query", func(c *Config) { c.KeySource = KeySource{HeaderAuthScheme: "Bearer", Query: "k"} },
			`keySource.headerAuthScheme: "Bearer" needs keySource.header`},
		{"header with a colon", func(c *Config) { c.KeySource.Header = "X-Key:" }, `keySource.header: "X-Key:" ` + name},
		{"scheme of two words", func(c *Config) { c.KeySource = KeySource{Header: "X-Key", HeaderAuthScheme: "Api Key"} },
			`keySource.headerAuthScheme: "Api Key" ` + name},
		{"cookie with an equals sign", func(c *Config) { c.KeySource.Cookie = "key=" }, `keySource.cookie: "key=" ` + name},
		{"query with an equals sign", func(c *Config) { c.KeySource.Query = "key=" }, `keySource.query: "key=" ` + query},
		{"query with a question mark", func(c *Config) { c.KeySource.Query = "?key" }, `keySource.query: "?key" ` + query},
		{"encoded query", func(c *Config) { c.KeySource.Query = "api%5Fkey" }, `keySource.query: "api%5Fkey" ` + query},

		{"identity header with a colon", func(c *Config) { c.IdentityHeaders.Plan = "X-Plan:" }, `identityHeaders.plan: "X-Plan:" ` + name},
		{"identity headers of one name", func(c *Config) { c.IdentityHeaders.KeyTitle = "x-app-id" },
			`identityHeaders.keyTitle: "x-app-id" must differ from identityHeaders.appId`},
		{"identity header that HTTP needs", func(c *Config) { c.IdentityHeaders.AppID = "host" },
			`identityHeaders.appId: "host" must not be a header that HTTP or a proxy acts on`},
		{"identity header that no proxy forwards", func(c *Config) { c.IdentityHeaders.AppID = "Proxy-Connection" },
			`identityHeaders.appId: "Proxy-Connection" must not be a header that HTTP or a proxy acts on`},
		{"identity header that holds the key", func(c *Config) { c.IdentityHeaders.AppID = "authorization" },
			`identityHeaders: "Authorization" must differ from keySource.header`},
		{"identity header that holds the cookies", func(c *Config) { c.IdentityHeaders.AppID = "Cookie" },
			`identityHeaders.appId: "Cookie" must not be a header that HTTP or a proxy acts on`},

		{"errorBody", func(c *Config) { c.ErrorBody = "json" }, `errorBody: "json" must be "problem" or "empty"`},
		{"no errorBody", func(c *Config) { c.ErrorBody = "" }, `errorBody: "" must be "problem" or "empty"`},
		{"limits", func(c *Config) { c.Limits = "global" }, `limits: "global" must be "local" or "shared"`},
		{"lost limits", func(c *Config) { c.OnLimitsLost = "wait" }, `onLimitsLost: "wait" must be "refuse", "fair-share" or "admit"`},
		{"identity in the header of dry runs", func(c *Config) { c.IdentityHeaders.Plan = "x-tollgate-dry-run" },
			`identityHeaders.plan: "x-tollgate-dry-run" must not be the header of dry runs`},
		{"relative cacheFile", func(c *Config) { c.Sync.CacheFile = "x" }, `sync.cacheFile: "x" ` + file},
		{"cacheFile that is a folder", func(c *Config) { c.Sync.CacheFile = "/tmp/" }, `sync.cacheFile: "/tmp/" ` + file},
		{"root as cacheFile", func(c *Config) { c.Sync.CacheFile = "/" }, `sync.cacheFile: "/" ` + file},
		{"cacheFile in the folder above", func(c *Config) { c.Sync.CacheFile = "/tmp/../x" }, `sync.cacheFile: "/tmp/../x" ` + file},
		{"cacheFile on two lines", func(c *Config) { c.Sync.CacheFile = "/x\n" }, `sync.cacheFile: "/x\n" ` + file},
		{"publicKey", func(c *Config) { c.Sync.PublicKey = []string{"x"} }, `sync.publicKey: is no base64, ` + publicKey},
		{"empty publicKey", func(c *Config) { c.Sync.PublicKey = []string{""} }, `sync.publicKey: has 0 bytes, ` + publicKey},
		{"private key as publicKey", func(c *Config) { c.Sync.PublicKey = []string{keyOf(64)} }, `sync.publicKey: has 64 bytes, ` + publicKey},
		{"second publicKey", func(c *Config) { c.Sync.PublicKey = []string{keyOf(32), keyOf(31)} }, `sync.publicKey[1]: has 31 bytes, ` + publicKey},
		{"publicKey without padding", func(c *Config) { c.Sync.PublicKey = []string{strings.TrimRight(keyOf(32), "=")} },
			`sync.publicKey: is no base64, ` + publicKey},
		{"nine publicKeys", func(c *Config) { c.Sync.PublicKey = make([]string, 9) }, `sync.publicKey: has 9 keys, must have at most 8`},
	} {
		c := testConfig("apps/weather-api")
		test.wrong(c)
		_, err := newSettings(c)
		if err == nil {
			t.Errorf("%s: accepted", test.name)
			continue
		}
		if got, want := err.Error(), "invalid configuration: "+test.want; got != want {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, want)
		}
	}
}

func TestAllConfigErrorsAtOnce(t *testing.T) {
	c := CreateConfig()
	c.Sync.Interval = "soon"
	c.Sync.TLS.Cert = "x"
	c.IdentityHeaders.AppID = "a b"
	c.ErrorBody = "json"
	_, err := newSettings(c)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, field := range []string{"api: ", "sync.endpoint: ", "sync.interval: ", "sync.tls: ", "identityHeaders.appId: ", "errorBody: "} {
		if strings.Count(err.Error(), field) != 1 {
			t.Errorf("%s is not told once in: %v", field, err)
		}
	}
	if got := strings.Count(err.Error(), ";") + 1; got != 6 {
		t.Errorf("%d problems are told, want 6: %v", got, err)
	}
}

func TestConfigErrorsShowNoSecrets(t *testing.T) {
	_, key := testCertificate(t)
	for _, endpoint := range []string{
		"http://user:hunter2@h", "http://hunter2@h/?x", "http://user:hunter2@h:port", "user:hunter2@h", "http:user:hunter2@h", "//user:hunter2@h",
		"http://h/?token=hunter2", "http://h/#hunter2", "ftp://user:hunter2@h", "https://user:hunter2@", "user:hunter2@h:7070/x", "http:///user:hunter2@h",
		" http://user:hunter2@h", "http://user:hunter2@h\n", "http://user:hun%ter2@h",
	} {
		c := testConfig("apps/weather-api")
		c.Sync.Endpoint = []string{endpoint}
		c.Sync.Token = "hunter2\r\n"
		c.Sync.PublicKey = []string{"hunter2"}
		c.Sync.TLS = types.ClientTLS{Cert: "hunter2", Key: key}
		_, err := newSettings(c)
		if err == nil {
			t.Fatalf("%q: accepted", endpoint)
		}
		for _, secret := range []string{"hunter2", "hun%ter2", "PRIVATE KEY", strings.Split(key, "\n")[1]} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%q: %q is shown in: %v", endpoint, secret, err)
			}
		}
	}
}

func TestConfigDefaults(t *testing.T) {
	c := CreateConfig()
	c.API = "apps/weather-api"
	c.Sync.Endpoint = []string{"https://sync.example.com/base//"}
	s, err := newSettings(c)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.sync, (syncSettings{
		endpoints: []string{"https://sync.example.com/base"},
		interval:  10 * time.Second, timeout: 5 * time.Second, wait: 30 * time.Second, maxBytes: 1 << 30,
	}); !reflect.DeepEqual(got, want) {
		t.Errorf("got sync %+v, want %+v", got, want)
	}
	if got, want := *s.keySource, *newKeySource("Authorization", "Bearer", "api_key", ""); got.header != want.header || got.prefix != want.prefix || got.query != want.query || got.cookie != want.cookie {
		t.Errorf("got key source %+v, want %+v", got, want)
	}
	if got, want := s.identity, (identityNames{"X-App-Id", "X-Subscription", "X-Api-Plan", "X-Api-Key-Title", ""}); got != want {
		t.Errorf("got identity headers %+v, want %+v", got, want)
	}
	if s.api != "apps/weather-api" || s.maxStaleness != 0 || !s.hideCredentials || !s.problemBody {
		t.Errorf("got %+v", s)
	}
}

func TestConfigsThatAreRight(t *testing.T) {
	certificate, key := testCertificate(t)
	file := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(file, []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		set  func(*Config)
	}{
		{"a number means seconds", func(c *Config) { c.Sync.Interval = "3600" }},
		{"least maxStaleness", func(c *Config) { c.Sync.MaxStaleness = "90s" }},
		{"least maxStaleness without waiting", func(c *Config) { c.Sync.MaxStaleness, c.Sync.Wait = "30s", "0s" }},
		{"least wait", func(c *Config) { c.Sync.Wait = "2s" }},
		{"longest wait", func(c *Config) { c.Sync.Wait = "1m" }},
		{"several endpoints", func(c *Config) { c.Sync.Endpoint = []string{"https://a.example", " https://b.example/base/"} }},
		{"a cache file", func(c *Config) { c.Sync.CacheFile = "/tmp/table.cache" }},
		{"public keys", func(c *Config) {
			key := base64.StdEncoding.EncodeToString(make([]byte, 32))
			c.Sync.PublicKey = []string{key, " " + key}
		}},
		{"an address of IPv6", func(c *Config) { c.Sync.Endpoint = []string{"http://[::1]:7070"} }},
		{"an @ in the path", func(c *Config) { c.Sync.Endpoint = []string{"http://h/@base"} }},
		{"a cookie alone", func(c *Config) { c.KeySource = KeySource{Cookie: "key"} }},
		{"a query name with brackets", func(c *Config) { c.KeySource = KeySource{Query: "keys[]"} }},
		{"no identity headers", func(c *Config) { c.IdentityHeaders = IdentityHeaders{} }},
		{"empty bodies", func(c *Config) { c.ErrorBody = "empty" }},
		{"TLS as PEM", func(c *Config) { c.Sync.TLS = types.ClientTLS{CA: certificate, Cert: certificate, Key: key} }},
		{"TLS with a file", func(c *Config) { c.Sync.TLS = types.ClientTLS{Cert: certificate, Key: file} }},
		{"TLS unchecked", func(c *Config) { c.Sync.TLS.InsecureSkipVerify = true }},
	} {
		c := testConfig("apps/weather-api")
		test.set(c)
		if _, err := newSettings(c); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// testCertificate returns a certificate and its key as PEM.
func testCertificate(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: encoded}))
}

// Whatever the texts are, a configuration is refused with a reason on one line,
// or gives settings that can be used.
func FuzzConfig(f *testing.F) {
	f.Add("apps/weather-api", "http://127.0.0.1:7070/", "10s", "0s", "X-API-Key", "", "key", "key", "X-App-Id", "token")
	f.Add("", "user:secret@h", "1d", "-1", "", "Bearer", "a&b", "", "Connection", "a\nb")
	f.Add("a/b", "http://[::1%25en0]:1/%zz", "9999999999999", "1e9h", "a b", "x", "%", ";", "\x00", "")
	f.Fuzz(func(t *testing.T, api, endpoint, interval, staleness, header, scheme, query, cookie, identity, token string) {
		c := CreateConfig()
		c.API, c.Sync.Endpoint, c.Sync.Interval, c.Sync.Timeout, c.Sync.MaxStaleness = api, []string{endpoint, "http://h"}, interval, interval, staleness
		c.Sync.Token = token
		c.KeySource = KeySource{Header: header, HeaderAuthScheme: scheme, Query: query, Cookie: cookie}
		c.IdentityHeaders = IdentityHeaders{AppID: identity, Plan: identity + "-Plan"}
		s, err := newSettings(c)
		if err != nil {
			if strings.ContainsAny(err.Error(), "\r\n\x00") {
				t.Errorf("the error is not one line of text: %q", err)
			}
			return
		}
		if s.sync.interval < minInterval || s.sync.timeout < minInterval || s.maxStaleness < 0 || s.maxStaleness > 0 && s.maxStaleness < 2*(s.sync.interval+s.sync.wait)+s.sync.timeout {
			t.Errorf("accepted %q and %q as %s and %s", interval, staleness, s.sync.interval, s.maxStaleness)
		}
		if got := s.sync.endpoints[0]; strings.HasSuffix(got, "/") || strings.Contains(got, "?") || !strings.HasPrefix(strings.ToLower(got), "http") {
			t.Errorf("accepted the endpoint %q as %q", endpoint, got)
		}
		newAnswers(s)
	})
}
