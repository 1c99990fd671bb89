package store_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

func TestAddresses(t *testing.T) {
	for _, test := range []struct{ text, kind, want string }{
		{"memory", "memory", "memory"},
		{"redis://localhost", "redis", "redis://localhost:6379"},
		{"redis://localhost:6380/", "redis", "redis://localhost:6380"},
		{"redis://10.0.0.1/3", "redis", "redis://10.0.0.1:6379/3"},
		{"redis://[::1]", "redis", "redis://[::1]:6379"},
		{"redis://[fe80::1%25eth0]:1", "", "characters"},
		{"redis://:secret@host", "redis", "redis://host:6379"},
		{"redis://us%40er:se%2Fcr%40et@host/1?timeout=500ms&prefix=a.b-c_d:e", "redis", "redis://us%40er@host:6379/1?prefix=a.b-c_d%3Ae&timeout=500ms"},
		{"redis://user@host", "redis", "redis://user@host:6379"},
		{"rediss://host", "redis", "rediss://host:6379"},
		{"redis-sentinel://a,b:1,[::1]:2/master", "redis-sentinel", "redis-sentinel://a:26379,b:1,[::1]:2/master"},
		{"rediss-sentinel://:p@a/my%20master?", "", "the name that the sentinels have"},
		{"rediss-sentinel://:p@a/m?db=2&sentinel-auth=true", "redis-sentinel", "rediss-sentinel://a:26379/m?db=2&sentinel-auth=true"},
		{"redis-cluster://a,b:7000", "redis-cluster", "redis-cluster://a:6379,b:7000"},
		{"rediss-cluster://u:p@a?timeout=1m", "redis-cluster", "rediss-cluster://u@a:6379?timeout=1m0s"},

		{"", "", "must be memory, or a URL that begins with redis://, redis-cluster://, redis-sentinel://, rediss://, rediss-cluster://, rediss-sentinel://"},
		{"Memory", "", "must be memory"},
		{"localhost:6379", "", "must be memory"},
		{"http://secret@localhost", "", "must be memory"},
		{"redis:secret@host", "", "must be memory"},
		{"redis://", "", "the host is missing"},
		{"redis://:6379", "", "the host is missing"},
		{"redis://:secret", "", "has no good port"},
		{"redis://a,b", "", "names several hosts"},
		{"redis://host:0", "", "has no good port"},
		{"redis://host:65536", "", "has no good port"},
		{"redis://::1", "", "must be NAME"},
		{"redis://[secret]:1", "", "no IPv6 address"},
		{"redis://ho st", "", "has characters"},
		{"redis://u:se%cret@host", "", `write "%" as %25`},
		{"redis://u:sec/ret@host", "", `write "/" as %2F`},
		{"redis://u:sec?ret@host", "", `"?" as %3F`},
		{"redis://u:sec#ret@host", "", `"#" as %23`},
		{"redis://host#1", "", "has a fragment"},
		{"redis://host/one", "", `path /"one", must be the number of a database`},
		{"redis://host/-1", "", "must be the number of a database"},
		{"redis://host/1/2", "", "must be the number of a database"},
		{"redis://host?db=1", "", `there is no parameter "db", only timeout and prefix`},
		{"redis://host?timeout=1s&timeout=2s", "", "timeout: is there 2 times, must be once"},
		{"redis://host?timeout=5", "", `timeout: "5", must be a duration from 100ms to 1m0s`},
		{"redis://host?timeout=99ms", "", "from 100ms"},
		{"redis://host?prefix={x}", "", "prefix:"},
		{"redis://host?prefix=", "", "prefix:"},
		{"redis://host?prefix=%zz", "", "must be NAME=VALUE"},
		{"redis-cluster://host/1", "", "a cluster has one database"},
		{"redis-cluster://a,,b", "", "host 2 of 3 is missing"},
		{"redis-cluster://" + strings.Repeat("a,", 100) + "a", "", "names 101 hosts"},
		{"redis-sentinel://host", "", "must be /NAME"},
		{"redis-sentinel://host/a/b", "", "must be /NAME"},
		{"redis-sentinel://host/m?db=x", "", `db: "x", must be the number`},
		{"redis-sentinel://host/m?sentinel-auth=yes", "", "must be true or false"},
		{"redis://host/x?timeout=x", "", `timeout: "x"`}, // all at once
	} {
		a, err := store.ParseAddress(test.text)
		if test.kind == "" {
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: got %v, want %q in it", test.text, err, test.want)
			} else if strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: the error tells the secret: %v", test.text, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.text, err)
			continue
		}
		if a.Kind() != test.kind || a.String() != test.want {
			t.Errorf("%s: got %s, %s, want %s, %s", test.text, a.Kind(), a, test.kind, test.want)
		}
		if a.TLS() != strings.HasPrefix(test.text, "rediss") {
			t.Errorf("%s: TLS is %v", test.text, a.TLS())
		}
	}
}

// FuzzAddress checks that no password shows, wherever it stands, and that an
// address says the same when it is read again.
func FuzzAddress(f *testing.F) {
	for _, seed := range [][2]string{
		{"redis://user:", "@host:6379/1?timeout=1s"},
		{"redis://:", "@host"},
		{"rediss-cluster://u:%2F", "x@a,b:1,[::1]:3?prefix=p"},
		{"redis-sentinel://", "@a,b/master?db=1&sentinel-auth=1"},
		{"redis://", ""},
		{"redis://:", ":1"},
		{"redis://[", "]:1"},
		{"", "://host"},
	} {
		f.Add(seed[0], seed[1])
	}
	const secret = "sEcReT"
	f.Fuzz(func(t *testing.T, before, after string) {
		text := before + secret + after
		a, err := store.ParseAddress(text)
		authority, _, _ := strings.Cut(text[strings.Index(text, "://")+1:], "@")
		hidden := strings.Contains(authority, secret) && strings.Contains(text, "@") && strings.Contains(authority, ":")
		if err != nil {
			if hidden && strings.Contains(err.Error(), secret) {
				t.Errorf("%q: the error tells the secret: %v", text, err)
			}
			return
		}
		if again, err := store.ParseAddress(a.String()); err != nil || again.String() != a.String() || again.Kind() != a.Kind() {
			t.Errorf("%q: %s is read as %s, %v", text, a, again, err)
		}
		u, err := url.Parse(strings.ReplaceAll(text, ",", "-"))
		if err != nil || u.User == nil {
			return
		}
		if password, _ := u.User.Password(); strings.Contains(password, secret) && !strings.Contains(before, secret) && !strings.Contains(after, secret) &&
			strings.Contains(a.String(), secret) {
			t.Errorf("%q: shows the secret: %s", text, a)
		}
	})
}
