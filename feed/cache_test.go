package feed

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// hashTag returns a tag that names the hash of a body, as tollgate serve's do.
func hashTag(body string) string {
	sum := sha256.Sum256([]byte(body))
	return `"` + hex.EncodeToString(sum[:16]) + `"`
}

// cachePath returns the path of a cache file that does not exist.
func cachePath(t testing.TB) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "table.cache")
}

// cached makes a feed keep its table in a file.
func cached(path string) func(*Config) {
	return func(c *Config) { c.Cache = NewCache(path) }
}

// after returns a feed of the same endpoint after a restart. Change may be nil.
func (g *rig) after(path string, change func(*Config)) *rig {
	g.t.Helper()
	g.feed.Stop()
	again := newRig(g.t, nil, nil, func(c *Config) {
		c.Endpoints = []string{g.server.URL}
		c.Cache = NewCache(path)
		if change != nil {
			change(c)
		}
	})
	// Another process, but the same clock.
	again.time.clock = g.time.clock
	return again
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// filesIn returns the names of what is in a folder.
func filesIn(t testing.TB, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return strings.Join(names, " ")
}

func TestCacheSurvivesARestart(t *testing.T) {
	path := cachePath(t)
	body := tableBody(42, "kept")
	g := newRig(t, serve(hashTag(body), body), nil, cached(path))
	g.wantSilence() // there is no file yet
	g.time.poll(t)
	g.wantLine("+", "revision 42 is in force")

	file := readFile(t, path)
	line, kept, _ := strings.Cut(file, "\n")
	if kept != body {
		t.Errorf("the file has %q, want the body to the byte", kept)
	}
	sum := sha256.Sum256([]byte(body))
	tag, _ := json.Marshal(hashTag(body))
	if want := fmt.Sprintf(`{"confirmed":"2026-11-21T17:00:00Z","format":"tollgate table cache 1","endpoint":%q,"etag":%s,"revision":42,"bytes":%d,"sha256":"%x"}`,
		g.server.URL, tag, len(body), sum); line != want {
		t.Errorf("got a first line\n%s, want\n%s", line, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got mode %v (%v), want 0600", info.Mode(), err)
	}
	if got := filesIn(t, filepath.Dir(path)); got != "table.cache" {
		t.Errorf("got files %s, want the cache alone", got)
	}

	// The table is in force before anybody is asked, with its age.
	g.answer(status(500))
	g.asked()
	g.time.pass(time.Hour)
	again := newRig(t, nil, nil, nil)
	again.feed.Stop()
	again = g.after(path, nil)
	again.wantRevision(42)
	if got := Current(again.feed).Table.Plans["apps/plan"].Title; got != "kept" {
		t.Errorf("got a plan with title %q", got)
	}
	lines := again.said()
	if len(lines) != 1 || !strings.Contains(lines[0], "+ cache file "+path+": the table of revision 42 is in force, which "+g.server.URL+" confirmed ") {
		t.Errorf("got lines %q", lines)
	}
	if g.requestCount() != 0 {
		t.Error("somebody was asked")
	}
	again.time.poll(t)
	again.wantLine("!", "status 500", "revision 42) stays in force")

	// And it is confirmed by its tag, and not rolled back.
	g.answer(serve(hashTag(body), body))
	again.time.poll(t)
	again.wantLine("+", "answers again")
	if got := g.lastRequest().Header.Get("If-None-Match"); got != hashTag(body) {
		t.Errorf("got If-None-Match %q, want the tag of the kept table", got)
	}
	g.answer(serve(`"old"`, tableBody(41, "")))
	again.time.poll(t)
	again.wantLine("!", "revision 41 came after revision 42")
}

// restoreAt returns what a file gives at a time of the wall, with what it takes to
// tell ages.
func restoreAt(t *testing.T, path, endpoint string, now time.Time) (*Snapshot, time.Duration) {
	t.Helper()
	s, _, err := readCache(path, Config{Endpoints: []string{endpoint}, MaxBytes: 1 << 20}, 0, now)
	if err != nil || s == nil {
		t.Fatalf("got %v and error %v", s, err)
	}
	return s, now.Sub(s.Confirmed)
}

// A file tells when its table was last confirmed, and no later time than now: a
// clock that was set back far makes the age unknown, which is old.
func TestCacheTellsTheAge(t *testing.T) {
	path := cachePath(t)
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, cached(path))
	began := g.time.clock
	g.time.poll(t)
	for _, row := range []struct{ passed, age time.Duration }{
		{0, 0}, {time.Minute, time.Minute}, {10000 * time.Hour, 10000 * time.Hour},
		{-time.Second, 0}, {-time.Minute, 0}, {-time.Minute - time.Second, math.MaxInt64}, {-time.Hour, math.MaxInt64},
	} {
		if _, age := restoreAt(t, path, g.server.URL, began.Add(row.passed)); age != row.age {
			t.Errorf("after %s: the table is %s old, want %s", row.passed, age, row.age)
		}
	}

	// Confirmations are noted once a minute, and nothing else is touched.
	before := readFile(t, path)
	for i := 0; i < 5; i++ {
		g.time.poll(t)
	}
	if got := readFile(t, path); got != before {
		t.Error("the file was written within a minute")
	}
	g.time.poll(t)
	if got, want := readFile(t, path), strings.Replace(before, "17:00:00Z", "17:01:00Z", 1); got != want {
		t.Errorf("after a minute: got\n%s\nwant\n%s", got, want)
	}
	if _, age := restoreAt(t, path, g.server.URL, began.Add(time.Hour)); age != 59*time.Minute {
		t.Errorf("got an age of %s, want 59m", age)
	}
	for i := 0; i < 6; i++ {
		g.time.poll(t)
	}
	if got, want := readFile(t, path), strings.Replace(before, "17:00:00Z", "17:02:00Z", 1); got != want {
		t.Errorf("after two minutes: got\n%s\nwant\n%s", got, want)
	}
}

// A table whose age is not known is in force, and told of. The first confirmation
// makes the age known, also in the file.
func TestCacheFromTheFuture(t *testing.T) {
	path := cachePath(t)
	body := tableBody(42, "")
	g := newRig(t, serve(hashTag(body), body), nil, cached(path))
	g.time.pass(time.Hour)
	g.time.poll(t)
	g.feed.Stop()
	again := newRig(t, nil, nil, func(c *Config) { // an hour earlier
		c.Endpoints = []string{g.server.URL}
		c.Cache = NewCache(path)
	})
	again.wantRevision(42)
	if got := Current(again.feed).Confirmed; !got.IsZero() {
		t.Errorf("confirmed at %s, want a time that is not known", got)
	}
	if lines := again.said(); len(lines) != 1 || !strings.HasPrefix(lines[0], "! ") || !strings.Contains(lines[0], "its age is not known") {
		t.Errorf("got lines %q", lines)
	}
	again.time.poll(t)
	if got := again.time.clock.Sub(Current(again.feed).Confirmed); got != 0 {
		t.Errorf("after a confirmation it is %s old", got)
	}
	if _, age := restoreAt(t, path, g.server.URL, again.time.clock); age != 0 {
		t.Errorf("after a confirmation the file's table is %s old", age)
	}
}

// A clock of the wall that jumps changes no age while a feed runs: what counts
// from a file is its age at the start.
func TestConfirmedIsMonotonic(t *testing.T) {
	path := cachePath(t)
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, cached(path))
	g.time.poll(t)
	now := time.Now()
	s, _ := restoreAt(t, path, g.server.URL, now)
	if text := s.Confirmed.String(); !strings.Contains(text, "m=") {
		t.Errorf("confirmed at %s, want a time with a monotonic reading", text)
	}
}

// badFiles are files that must not be trusted.
func badFiles(t testing.TB, good, endpoint string) map[string]struct {
	put  func(path string)
	want string
} {
	line, body, _ := strings.Cut(good, "\n")
	write := func(content string) func(string) {
		return func(path string) { writeFile(t, path, content) }
	}
	change := func(old, young string) func(string) {
		if !strings.Contains(line, old) {
			t.Fatalf("no %q in %s", old, line)
		}
		return write(strings.Replace(line, old, young, 1) + "\n" + body)
	}
	return map[string]struct {
		put  func(path string)
		want string
	}{
		"empty":            {write(""), "is torn or no cache of a table"},
		"a table alone":    {write(body), "is torn or no cache of a table"},
		"the first line":   {write(line), "is torn or no cache of a table"},
		"cut off":          {write(good[:len(good)-1]), "is torn: it has"},
		"too long":         {write(good + " "), "is torn: it has"},
		"zeros":            {write(strings.Repeat("\x00", len(good))), "is torn or no cache of a table"},
		"half zeros":       {write(good[:len(good)-20] + strings.Repeat("\x00", 20)), "was changed: its table does not have the SHA-256"},
		"an edited table":  {write(strings.Replace(good, "kept", "KEPT", 1)), "was changed: its table does not have the SHA-256"},
		"a later format":   {change("cache 1", "cache 2"), `expected a first line with the format "tollgate table cache 1"`},
		"another endpoint": {change(endpoint, "http://elsewhere.example"), "has a table from http://elsewhere.example, which is not in sync.endpoint"},
		"another revision": {change(`"revision":42`, `"revision":43`), "was changed: its table has revision 42, expected 43"},
		"no time":          {change("2026-11-21T17", "2026-11-21 17"), "does not say when its table was confirmed"},
		"unchecked":        {change(`"etag"`, `"unchecked":true,"etag"`), "insecureSkipVerify"},
		"a wrong table": {func(path string) {
			wrong := readTable(t, "bad/plans_null.json")
			sum := sha256.Sum256([]byte(wrong))
			var l cacheLine
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			l.Bytes = int64(len(wrong))
			l.SHA256 = hex.EncodeToString(sum[:])
			head, err := json.Marshal(l)
			if err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, string(head)+"\n"+wrong)
		}, "plans: missing"},
		"too large":      {write(line + "\n" + strings.Repeat("x", 2<<20)), "expected 1114112 at most (sync.maxBytes)"},
		"a signed table": {change(`"revision"`, `"signatures":"`+signed(body, 1)+`","revision"`), "the table is signed, but no key is set"},
		"readable by others": {func(path string) {
			writeFile(t, path, good)
			if err := os.Chmod(path, 0o640); err != nil {
				t.Fatal(err)
			}
		}, "its mode is 0640, expected 0600"},
		"a symbolic link": {func(path string) {
			writeFile(t, path+".real", good)
			if err := os.Symlink(path+".real", path); err != nil {
				t.Fatal(err)
			}
		}, "is a symbolic link"},
		"a loop": {func(path string) {
			if err := os.Symlink(path, path); err != nil {
				t.Fatal(err)
			}
		}, "is a symbolic link"},
	}
}

// Whatever is wrong with a file is told once. Requests are refused until the first
// sync, which puts a good file in its place.
func TestBadCacheFiles(t *testing.T) {
	body := tableBody(42, "kept")
	first := cachePath(t)
	g := newRig(t, serve(hashTag(body), body), nil, cached(first))
	g.time.poll(t)
	good := readFile(t, first)
	for name, row := range badFiles(t, good, g.server.URL) {
		row := row
		t.Run(name, func(t *testing.T) {
			path := cachePath(t)
			row.put(path)
			again := newRig(t, nil, nil, func(c *Config) {
				c.Endpoints = []string{g.server.URL}
				c.Cache = NewCache(path)
				c.MaxBytes = 1 << 20
			})
			if got := Current(again.feed); got != nil {
				t.Errorf("got %+v in force", got)
			}
			lines := again.said()
			if len(lines) != 1 || !strings.Contains(lines[0], "! cache file "+path+": ") || !strings.Contains(lines[0], row.want) || !strings.HasSuffix(lines[0], "; it is ignored") {
				t.Errorf("got lines %q, want one with %q", lines, row.want)
			}
			again.time.poll(t)
			again.wantRevision(42)
			again.wantLine("+", "revision 42 is in force")
			if got := readFile(t, path); got != good {
				t.Errorf("got a file\n%s\nwant\n%s", got, good)
			}
		})
	}
}

// Whoever allows tables of any size has a file too.
func TestCacheOfAnySize(t *testing.T) {
	path := cachePath(t)
	anySize := func(c *Config) {
		c.MaxBytes = math.MaxInt64
		c.Cache = NewCache(path)
	}
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, anySize)
	g.time.poll(t)
	g.after(path, anySize).wantRevision(42)
}

// No beginning of a file, and none with one byte changed, passes for another table.
func TestTornCacheFiles(t *testing.T) {
	body := tableBody(42, "kept")
	path := cachePath(t)
	g := newRig(t, serve(hashTag(body), body), nil, cached(path))
	g.time.poll(t)
	good := readFile(t, path)
	cfg := Config{Endpoints: []string{g.server.URL}, MaxBytes: 1 << 20}
	for i := range good {
		writeFile(t, path, good[:i])
		if s, _, err := readCache(path, cfg, 0, g.time.clock); err == nil {
			t.Errorf("the first %d bytes: got %+v and no error", i, s)
		}
		changed := []byte(good)
		changed[i] ^= 1
		writeFile(t, path, string(changed))
		s, _, err := readCache(path, cfg, 0, g.time.clock)
		if err != nil {
			continue
		}
		if s.Table.Revision != 42 || s.Table.Plans["apps/plan"].Title != "kept" || s.Confirmed.After(g.time.clock) || s.etag != "" && s.etag != hashTag(body) {
			t.Errorf("byte %d changed: got %+v", i, s)
		}
	}
}

// What was not signed as expected is not trusted from a file either.
func TestSignedCache(t *testing.T) {
	body := tableBody(42, "")
	path := cachePath(t)
	keys := func(numbers ...byte) func(*Config) {
		return func(c *Config) { c.PublicKeys = publicKeys(numbers...) }
	}
	g := newRig(t, serveSigned(hashTag(body), body, signed(body, 1), signed(body, 2)), nil, func(c *Config) {
		c.Cache = NewCache(path)
		c.PublicKeys = publicKeys(1)
	})
	g.time.poll(t)
	for _, row := range []struct {
		name string
		keys []byte
		want string // empty: taken
	}{
		{"the same key", []byte{1}, ""},
		{"a key that was not known when it came", []byte{2}, ""},
		{"another key", []byte{3}, "signed by none"},
		{"no key", nil, "no key is set"},
	} {
		again := g.after(path, keys(row.keys...))
		lines := strings.Join(again.said(), "\n")
		if taken := Current(again.feed) != nil; taken != (row.want == "") || !strings.Contains(lines, row.want) {
			t.Errorf("%s: taken: %t, got lines %q, want %q", row.name, taken, lines, row.want)
		}
	}
	again := g.after(path, keys(1))
	if got := Current(again.feed).proof.expected; got != joined(publicKeys(1)) {
		t.Error("the table does not say which keys it was checked with")
	}

	// A table that was not signed, in a file of whoever can write there.
	other := newRig(t, serve(hashTag(body), body), nil, cached(path))
	other.time.poll(t)
	writeFile(t, path, strings.Replace(readFile(t, path), other.server.URL, g.server.URL, 1))
	again = g.after(path, keys(1))
	if lines := strings.Join(again.said(), "\n"); Current(again.feed) != nil || !strings.Contains(lines, "the table is not signed") {
		t.Errorf("got lines %q", lines)
	}
}

// New signatures of the same table are kept too, for when keys are taken out.
func TestNewSignaturesAreKept(t *testing.T) {
	body := tableBody(42, "")
	path := cachePath(t)
	g := newRig(t, serveSigned(`"a"`, body, signed(body, 1)), nil, func(c *Config) {
		c.Cache = NewCache(path)
		c.PublicKeys = publicKeys(1, 2)
	})
	g.time.poll(t)
	g.answer(serveSigned(`"b"`, body, signed(body, 2)))
	g.time.poll(t)
	again := g.after(path, func(c *Config) { c.PublicKeys = publicKeys(2) })
	again.wantRevision(42)
}

// The tag in a file is not signed, so it only counts if it names the table.
func TestTagsFromACache(t *testing.T) {
	body := tableBody(42, "")
	for _, row := range []struct{ tag, want string }{
		{hashTag(body), hashTag(body)},
		{"W/" + hashTag(body), "W/" + hashTag(body)},
		{`"a"`, ""},
		{hashTag(body) + `, "a"`, ""},
		{strings.TrimSuffix(hashTag(body), `"`) + `,a"`, ""},
	} {
		path := cachePath(t)
		g := newRig(t, serve(row.tag, body), nil, cached(path))
		g.time.poll(t)
		again := g.after(path, nil)
		again.wantRevision(42)
		again.time.poll(t)
		if got := g.lastRequest().Header.Get("If-None-Match"); got != row.want {
			t.Errorf("tag %s: got If-None-Match %q, want %q", row.tag, got, row.want)
		}
	}
}

// Only what is newer than the table in force comes from a file.
func TestCacheIsNeverOlder(t *testing.T) {
	path := cachePath(t)
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, cached(path))
	g.time.poll(t)
	for _, row := range []struct{ held, want int64 }{{41, 42}, {42, 42}, {43, 43}} {
		last := &Snapshot{Table: &table.Table{Revision: row.held}, Confirmed: g.time.clock}
		again := newRig(t, nil, last, func(c *Config) {
			c.Endpoints = []string{g.server.URL}
			c.Cache = NewCache(path)
		})
		again.wantRevision(row.want)
		if fromFile := Current(again.feed) != last; fromFile != (row.held < 42) {
			t.Errorf("revision %d in force: the file's was taken: %t", row.held, fromFile)
		}
	}
}

// full is a disk on which nothing can be written. It is called in place of
// os.CreateTemp.
func full(dir, _ string) (*os.File, error) {
	link := filepath.Join(dir, ".new-full")
	if err := os.Symlink("/dev/full", link); err != nil {
		return nil, err
	}
	return os.OpenFile(link, os.O_WRONLY, 0)
}

// A file that cannot be written is told of once, and tried again every minute.
// The table in force does not suffer.
func TestCacheCannotBeWritten(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full here")
	}
	for _, row := range []struct {
		name     string
		spoil    func(c *Cache, path string)
		mend     func(c *Cache, path string)
		wantHere string
	}{
		{"disk full",
			func(c *Cache, _ string) { c.create = full },
			func(c *Cache, _ string) { c.create = os.CreateTemp },
			"no space left on device"},
		{"no folder",
			func(_ *Cache, path string) { _ = os.Remove(filepath.Dir(path)) },
			func(_ *Cache, path string) { _ = os.Mkdir(filepath.Dir(path), 0o700) },
			"no such file or directory"},
		{"a folder in its place",
			func(_ *Cache, path string) { _ = os.MkdirAll(filepath.Join(path, "x"), 0o700) },
			func(_ *Cache, path string) { _ = os.RemoveAll(path) },
			"is no file, and is left as it is"},
		{"a socket in its place",
			func(_ *Cache, path string) {
				if listener, err := net.Listen("unix", path); err == nil {
					t.Cleanup(func() { _ = listener.Close() })
				}
			},
			func(_ *Cache, path string) { _ = os.Remove(path) },
			"is no file, and is left as it is"},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "folder", "table.cache")
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			cache := NewCache(path)
			g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) { c.Cache = cache })
			row.spoil(cache, path)
			g.time.poll(t)
			g.wantRevision(42)
			lines := g.said()
			if len(lines) != 2 {
				t.Fatalf("got lines %q, want two", lines)
			}
			// The table comes in force before anything is written.
			want := "! cache file " + path + ": the table of revision 42 could not be kept: "
			i := 0
			if !strings.HasPrefix(lines[0], "!") {
				i = 1
			}
			if !strings.HasPrefix(lines[i], want) || !strings.Contains(lines[i], row.wantHere) {
				t.Errorf("got line %q, want %q", lines[i], want+row.wantHere)
			}
			for i := 0; i < 7; i++ {
				g.time.poll(t)
			}
			g.wantSilence()
			if got := g.lastRequest().Header.Get("If-None-Match"); got != `"a"` {
				t.Error("the table was fetched again for the file's sake")
			}
			row.mend(cache, path)
			for i := 0; i < 6; i++ {
				g.time.poll(t)
			}
			if got := strings.Join(g.said(), "\n"); got != "+ cache file "+path+": the table of revision 42 is kept again" {
				t.Errorf("got lines %q", got)
			}
			if _, age := restoreAt(t, path, g.server.URL, g.time.clock); age > time.Minute {
				t.Errorf("the file's table is %s old, want what was confirmed last", age)
			}
			if got := filesIn(t, filepath.Dir(path)); got != "table.cache" {
				t.Errorf("got files %s, want the cache alone", got)
			}
		})
	}
}

// A file that is gone, or that somebody else has written, is written anew.
func TestCacheIsReplaced(t *testing.T) {
	for _, spoil := range []func(path string){
		func(path string) { _ = os.Remove(path) },
		func(path string) { _ = os.WriteFile(path, []byte("something else"), 0o600) },
	} {
		path := cachePath(t)
		g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, cached(path))
		g.time.poll(t)
		g.said()
		spoil(path)
		for i := 0; i < 8; i++ {
			g.time.poll(t)
		}
		if got := strings.Join(g.said(), "\n"); got != "! cache file "+path+": is not as it was left; it is written again\n"+
			"+ cache file "+path+": the table of revision 42 is kept again" {
			t.Errorf("got lines %q", got)
		}
		restoreAt(t, path, g.server.URL, g.time.clock)
	}
}

// Of the feeds of one file the youngest writes, and an older one when that has
// ended.
func TestCacheOfSeveralFeeds(t *testing.T) {
	path := cachePath(t)
	cache := NewCache(path)
	first := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) { c.Cache = cache })
	first.time.poll(t)
	last := Current(first.feed)
	second := newRig(t, nil, last, func(c *Config) {
		c.Endpoints = []string{first.server.URL}
		c.Cache = cache
	})
	revision := func() int64 {
		s, _ := restoreAt(t, path, first.server.URL, first.time.clock)
		return s.Table.Revision
	}
	first.answer(serve(`"b"`, tableBody(43, "")))
	first.time.poll(t)
	if got := revision(); got != 42 {
		t.Errorf("the older feed wrote revision %d", got)
	}
	second.time.poll(t)
	if got := revision(); got != 43 {
		t.Errorf("the younger feed left revision %d", got)
	}
	second.feed.Stop()
	first.answer(serve(`"c"`, tableBody(44, "")))
	first.time.poll(t)
	if got := revision(); got != 44 {
		t.Errorf("the older feed, on its own again, left revision %d", got)
	}
	if lines := strings.Join(append(first.said(), second.said()...), "\n"); strings.Contains(lines, "!") {
		t.Errorf("got lines %q", lines)
	}
}

// A file that a feed with other settings would not trust after a restart is written
// anew when such a feed takes it over.
func TestCacheOfOtherSettings(t *testing.T) {
	body := tableBody(42, "")
	for name, change := range map[string]func(c *Config, gone string){
		"an endpoint that is gone": func(c *Config, gone string) { c.Endpoints = []string{gone, c.Endpoints[0]} },
		"anybody was an endpoint":  func(c *Config, _ string) { c.Unchecked = true },
	} {
		path := cachePath(t)
		cache := NewCache(path)
		gone := newSite(t, serve(hashTag(body), body))
		first := newRig(t, serve(hashTag(body), body), nil, func(c *Config) {
			c.Cache = cache
			change(c, gone.server.URL)
		})
		first.time.poll(t)
		second := newRig(t, nil, Current(first.feed), func(c *Config) {
			c.Cache = cache
			c.Endpoints = []string{first.server.URL}
		})
		first.feed.Stop()
		second.time.poll(t)
		second.wantSilence()
		again := second.after(path, func(c *Config) { c.Endpoints = []string{first.server.URL} })
		if Current(again.feed) == nil {
			t.Errorf("%s: got lines %q after a restart, want the table in force", name, again.said())
		}
	}
}

// The same goes for a feed that takes the file over just when it was written.
func TestCacheTakenOverWhileWritten(t *testing.T) {
	path, body := cachePath(t), tableBody(42, "")
	cache := NewCache(path)
	cache.create = func(_, _ string) (*os.File, error) { return nil, os.ErrPermission }
	gone := newSite(t, serve(hashTag(body), body))
	site := newSite(t, serve(hashTag(body), body))
	var first, second *rig
	first = newRig(t, nil, nil, func(c *Config) {
		c.Cache = cache
		c.Endpoints = []string{gone.server.URL, site.server.URL}
		c.Report = func(line string, _ bool) {
			if strings.HasSuffix(line, "is kept again") {
				second = newRig(t, nil, Current(first.feed), func(c *Config) {
					c.Cache = cache
					c.Endpoints = []string{site.server.URL}
				})
			}
		}
	})
	first.time.poll(t)
	cache.create = os.CreateTemp
	for i := 0; i < 10 && second == nil; i++ {
		first.time.poll(t)
	}
	if second == nil {
		t.Fatal("the table was not kept")
	}
	first.feed.Stop()
	second.time.clock = first.time.clock
	second.time.poll(t)
	restoreAt(t, path, site.server.URL, second.time.clock)
}

// What is being written is neither fetched nor written once more, however long that
// takes.
func TestCacheWritesOnce(t *testing.T) {
	path := cachePath(t)
	cache := NewCache(path)
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) { c.Cache = cache })
	var work func()
	g.feed.timing.background = func(run func()) { work = run }
	written := 0
	cache.create = func(dir, pattern string) (*os.File, error) {
		written++
		if written == 1 {
			g.time.poll(t)
			g.time.poll(t)
		}
		return os.CreateTemp(dir, pattern)
	}
	g.time.poll(t)
	work()
	g.time.poll(t)
	for i, r := range g.asked() {
		if got := r.Header.Get("If-None-Match"); (got == "") != (i == 0) {
			t.Errorf("request %d: got If-None-Match %q", i+1, got)
		}
	}
	if written != 1 {
		t.Errorf("the file was written %d times, want once", written)
	}
}

// A table that could not be kept is let go with its feed.
func TestStoppedFeedLeavesNothingToKeep(t *testing.T) {
	cache := NewCache(filepath.Join(t.TempDir(), "folder", "table.cache"))
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) { c.Cache = cache })
	g.time.poll(t)
	if cache.pending == nil {
		t.Fatal("nothing is left to be kept, so this shows nothing")
	}
	g.feed.Stop()
	if cache.pending != nil {
		t.Error("the cache holds a table that nobody is going to keep")
	}
}

// Nothing else is written before a failure was told.
func TestCacheTellsBeforeItGoesOn(t *testing.T) {
	cache := NewCache(filepath.Join(t.TempDir(), "folder", "table.cache"))
	told := false
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) {
		c.Cache = cache
		c.Report = func(line string, failed bool) {
			cache.mu.Lock()
			defer cache.mu.Unlock()
			told = told || failed
			if failed && !cache.busy {
				t.Errorf("another write may have begun before %q was told", line)
			}
		}
	})
	g.time.poll(t)
	if !told {
		t.Error("no failure was told")
	}
	if cache.busy {
		t.Error("the cache is busy for ever")
	}
}

// A feed that begins with another's table has the file get it, though it was
// confirmed by its tag only.
func TestCacheOfAnInheritedTable(t *testing.T) {
	first := newRig(t, serve(`"a"`, tableBody(42, "")), nil, nil)
	first.time.poll(t)
	path := cachePath(t)
	second := newRig(t, nil, Current(first.feed), func(c *Config) {
		c.Endpoints = []string{first.server.URL}
		c.Cache = NewCache(path)
	})
	second.time.poll(t)
	second.wantSilence()
	restoreAt(t, path, first.server.URL, first.time.clock)
	second.time.poll(t)
	if got := first.lastRequest().Header.Get("If-None-Match"); got != `"a"` {
		t.Errorf("got If-None-Match %q once it is kept, want the tag", got)
	}
}

// What a process that was killed has left is removed.
func TestCacheSweeps(t *testing.T) {
	path := cachePath(t)
	writeFile(t, filepath.Join(filepath.Dir(path), ".table.cache.new-123"), "half")
	writeFile(t, filepath.Join(filepath.Dir(path), ".other.new-123"), "not mine")
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, cached(path))
	g.time.poll(t)
	if got := filesIn(t, filepath.Dir(path)); got != ".other.new-123 table.cache" {
		t.Errorf("got files %s", got)
	}
}

func TestCacheOfParts(t *testing.T) {
	path := cachePath(t)
	s := &shelf{}
	s.publish(t, rowsOf(42, 20), 8)
	cache := NewCache(path)
	created := 0
	cache.create = func(dir, pattern string) (*os.File, error) {
		created++
		return os.CreateTemp(dir, pattern)
	}
	g := newRig(t, s.handler(), nil, func(c *Config) { c.Cache = cache })
	g.time.poll(t)
	if created != 8+1 {
		t.Errorf("got %d files written, want 8 parts and the index", created)
	}
	again := g.after(path, nil)
	again.wantKeys(42, 20)
	if got, want := Current(again.feed).partBytes, Current(g.feed).partBytes; got != want || want == 0 {
		t.Errorf("got parts of %d bytes, want %d", got, want)
	}

	// What is there is not written again, and what is no longer needed goes.
	counted := NewCache(path)
	created = 0
	counted.create = cache.create
	again = g.after(path, func(c *Config) { c.Cache = counted })
	rows := rowsOf(43, 20)
	rows.Keys[digest(20)] = []table.Holder{{Application: "apps/a0"}}
	s.publish(t, rows, 8)
	again.time.poll(t)
	again.wantKeys(43, 21)
	if created != 1+1 {
		t.Errorf("got %d files written, want one part and the index", created)
	}
	if got := strings.Fields(filesIn(t, path+".parts")); len(got) != 8 {
		t.Errorf("got %d parts in the folder, want 8", len(got))
	}
	if got := g.after(path, nil); Current(got.feed) == nil {
		t.Errorf("got lines %q", got.said())
	}

	// Without its folder, everything is written.
	if err := os.RemoveAll(path + ".parts"); err != nil {
		t.Fatal(err)
	}
	s.publish(t, rowsOf(44, 20), 8)
	again = g.after(path, nil)
	if lines := strings.Join(again.said(), ""); !strings.Contains(lines, "part 1 of 8") || Current(again.feed) != nil {
		t.Errorf("without its parts: got lines %q", lines)
	}
	again.time.poll(t)
	g.after(path, nil).wantKeys(44, 20)

	// One document needs no folder.
	again = g.after(path, nil)
	s.spoil(table.Path, serve(`"x"`, tableBody(45, "")))
	again.time.poll(t)
	if got := filesIn(t, filepath.Dir(path)); got != "table.cache" {
		t.Errorf("got files %s, want the cache alone", got)
	}
	g.after(path, nil).wantRevision(45)
}

// A part whose file somebody has removed, or cut off, is written anew with the next
// table.
func TestMissingPartsAreWrittenAgain(t *testing.T) {
	path := cachePath(t)
	g, s, paths := onShelf(t, rowsOf(42, 20), 8, cached(path))
	g.time.poll(t)
	file := func(n int) string { return filepath.Join(path+".parts", filepath.Base(paths[n])) }
	if err := os.Remove(file(2)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file(5), 3); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file(6)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file(7), file(6)); err != nil {
		t.Fatal(err)
	}
	rows := rowsOf(43, 20)
	rows.Keys[digest(20)] = []table.Holder{{Application: "apps/a0"}}
	s.publish(t, rows, 8)
	g.time.poll(t)
	again := g.after(path, nil)
	if Current(again.feed) == nil {
		t.Fatalf("got lines %q after a restart, want the table in force", again.said())
	}
	again.wantKeys(43, 21)
}

func TestBadPartsInACache(t *testing.T) {
	for _, row := range []struct {
		name  string
		spoil func(part string)
		want  string
	}{
		{"missing", func(part string) { _ = os.Remove(part) }, "no such file"},
		{"empty", func(part string) { _ = os.WriteFile(part, nil, 0o600) }, "SHA-256"},
		{"changed", func(part string) { _ = os.WriteFile(part, []byte("{}"), 0o600) }, "SHA-256"},
		{"a link", func(part string) {
			_ = os.Rename(part, part+"x")
			_ = os.Symlink(part+"x", part)
		}, "is a symbolic link"},
		{"a folder", func(part string) {
			_ = os.Remove(part)
			_ = os.Mkdir(part, 0o700)
		}, "is no file"},
		{"large", func(part string) { _ = os.WriteFile(part, make([]byte, 1<<21), 0o600) }, "sync.maxBytes"},
	} {
		path := cachePath(t)
		g, s, paths := onShelf(t, rowsOf(42, 20), 8, cached(path))
		g.time.poll(t)
		row.spoil(filepath.Join(path+".parts", filepath.Base(paths[5])))
		again := g.after(path, func(c *Config) { c.MaxBytes = 1 << 20 })
		lines := again.said()
		if len(lines) != 1 || !strings.Contains(lines[0], row.want) || Current(again.feed) != nil {
			t.Errorf("%s: got lines %q, want one with %q", row.name, lines, row.want)
		}
		again.time.poll(t)
		again.wantKeys(42, 20)
		if row.name == "a folder" {
			continue // which stays in the way, and is told of
		}
		healed := g.after(path, nil)
		healed.wantKeys(42, 20)
		_ = s
	}
}

// A Report that panics beside a write ends neither the process nor the writing.
func TestPanicWhileKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "folder", "table.cache")
	panics := true
	g := newRig(t, serve(`"a"`, tableBody(42, "")), nil, func(c *Config) {
		c.Cache = NewCache(path)
		c.Report = func(_ string, failed bool) {
			if failed && panics {
				panic("no paper")
			}
		}
	})
	g.time.poll(t)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < 7; i++ {
		g.time.poll(t)
	}
	restoreAt(t, path, g.server.URL, g.time.clock)
}

// slowDisk is one on which nothing is read or written until it is let go.
type slowDisk struct {
	*Cache
	path  string
	time  *fakeTime
	busy  chan bool // what waits
	free  chan bool // closed to let it go
	ended chan bool // what has run on other goroutines
}

// newSlowDisk returns a disk with a file that has the table of a revision, from an
// endpoint.
func newSlowDisk(t *testing.T, endpoint string, revision int) *slowDisk {
	t.Helper()
	d := &slowDisk{
		path: cachePath(t), time: newFakeTime(),
		busy: make(chan bool, 10), free: make(chan bool), ended: make(chan bool, 10),
	}
	body := tableBody(revision, "kept")
	s := &Snapshot{Table: &table.Table{Revision: int64(revision)}, Confirmed: d.time.clock, From: endpoint, etag: hashTag(body)}
	sum := sha256.Sum256([]byte(body))
	s.sum = string(sum[:])
	line, err := newCacheLine(s, []byte(body), false)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, d.path, string(line)+body)
	d.time.background = func(run func()) {
		go func() {
			defer func() { d.ended <- recover() == nil }()
			run()
		}()
	}
	d.Cache = NewCache(d.path)
	d.patience = 0
	d.Cache.read = func(path string, cfg Config, newerThan int64, now time.Time) (*Snapshot, []byte, error) {
		d.busy <- true
		<-d.free
		return readCache(path, cfg, newerThan, now)
	}
	return d
}

// A disk that does not answer keeps nobody from starting. What is on it comes into
// force when it does, if it is still newer.
func TestSlowDisk(t *testing.T) {
	for _, row := range []struct {
		name                  string
		endpoint, file, wants int64 // revisions; 0 for an endpoint that is down
		between               string
	}{
		{"an endpoint that is down", 0, 42, 42, "there is no table yet"},
		{"an older table", 41, 42, 42, "revision 41 is in force"},
		{"the same table", 42, 42, 42, "revision 42 is in force"},
		{"a newer table", 43, 42, 43, "revision 43 is in force"},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			site := newSite(t, status(500))
			if row.endpoint > 0 {
				site.answer(serve("", tableBody(int(row.endpoint), "kept")))
			}
			disk := newSlowDisk(t, site.server.URL, int(row.file))
			var activated []int64
			g := newRigAt(t, disk.time, nil, nil, func(c *Config) {
				c.Endpoints = []string{site.server.URL}
				c.Cache = disk.Cache
				c.Activated = func(s *Snapshot) { activated = append(activated, s.Table.Revision) }
			})
			if got := Current(g.feed); got != nil {
				t.Errorf("got %+v in force, though nothing was read", got)
			}
			if got := strings.Join(g.said(), "\n"); got != "! cache file "+disk.path+": could not be read within 0s; what is in it comes in force later, if it is still newer then" {
				t.Errorf("got lines %q", got)
			}
			g.time.poll(t)
			if got := strings.Join(g.said(), "\n"); !strings.Contains(got, row.between) {
				t.Errorf("got lines %q while the disk is slow, want %q", got, row.between)
			}
			close(disk.free)
			<-disk.ended
			g.wantRevision(row.wants)
			lines, fromFile := strings.Join(g.said(), "\n"), row.endpoint < row.file
			if got := strings.Contains(lines, "+ cache file "+disk.path+": the table of revision 42 is in force"); got != fromFile {
				t.Errorf("got lines %q", lines)
			}
			if got := activated[len(activated)-1]; got != row.wants {
				t.Errorf("told of the tables %d, want %d at last", activated, row.wants)
			}
			if s, _ := restoreAt(t, disk.path, site.server.URL, g.time.clock); s.Table.Revision != row.wants {
				t.Errorf("the file has revision %d at last, want %d", s.Table.Revision, row.wants)
			}
		})
	}
}

// A file that is read while a poll is under way is not rolled back by that.
func TestSlowDiskDuringAPoll(t *testing.T) {
	for _, row := range []struct{ endpoint, want int64 }{{41, 42}, {42, 42}, {43, 43}} {
		site := newSite(t, nil)
		disk := newSlowDisk(t, site.server.URL, 42)
		site.answer(func(w http.ResponseWriter, r *http.Request) {
			close(disk.free)
			<-disk.ended
			serve("", tableBody(int(row.endpoint), "kept"))(w, r)
		})
		g := newRigAt(t, disk.time, nil, nil, func(c *Config) {
			c.Endpoints = []string{site.server.URL}
			c.Cache = disk.Cache
		})
		g.time.poll(t)
		g.wantRevision(row.want)
		lines := strings.Join(g.said(), "\n")
		if refused := strings.Contains(lines, "revision 41 came after revision 42"); refused != (row.endpoint == 41) {
			t.Errorf("revision %d: got lines %q", row.endpoint, lines)
		}
	}
}

// Nobody waits for a disk that another feed waits for already, and nothing is lost
// by that.
func TestSlowDiskOfSeveralFeeds(t *testing.T) {
	site := newSite(t, status(500))
	disk := newSlowDisk(t, site.server.URL, 42)
	settings := func(c *Config) {
		c.Endpoints = []string{site.server.URL}
		c.Cache = disk.Cache
	}
	first := newRigAt(t, disk.time, nil, nil, settings)
	<-disk.busy
	disk.patience = time.Hour
	stopped := newRigAt(t, newFakeTime(), nil, nil, settings)
	stopped.feed.Stop()
	second := newRigAt(t, newFakeTime(), nil, nil, settings)
	second.wantSilence()
	first.feed.Stop()
	first.said()
	close(disk.free)
	<-disk.ended
	second.wantRevision(42)
	if lines := second.said(); len(lines) != 1 || !strings.Contains(lines[0], "the table of revision 42 is in force") {
		t.Errorf("got lines %q", lines)
	}
	if Current(first.feed) != nil || Current(stopped.feed) != nil {
		t.Error("a table came into force at a feed that was stopped")
	}
	first.wantSilence()
}

// A file that is read in time is in force from the start, and nobody is told of it
// as of a change.
func TestDiskInTime(t *testing.T) {
	site := newSite(t, status(500))
	disk := newSlowDisk(t, site.server.URL, 42)
	disk.patience = time.Hour
	close(disk.free)
	g := newRigAt(t, disk.time, nil, nil, func(c *Config) {
		c.Endpoints = []string{site.server.URL}
		c.Cache = disk.Cache
		c.Activated = func(_ *Snapshot) { t.Error("told of the first table") }
	})
	g.wantRevision(42)
}

// While a write stands still, polls go on. That is told once, and so is its end.
func TestSlowWrite(t *testing.T) {
	path := cachePath(t)
	cache := NewCache(path)
	free, ended := make(chan bool), make(chan bool, 10)
	cache.create = func(dir, pattern string) (*os.File, error) {
		<-free
		return os.CreateTemp(dir, pattern)
	}
	g := newRig(t, serve("", tableBody(42, "")), nil, func(c *Config) { c.Cache = cache })
	g.time.background = func(run func()) {
		go func() {
			defer func() { ended <- recover() == nil }()
			run()
		}()
	}
	g.time.poll(t)
	g.wantLine("+", "revision 42 is in force")
	g.answer(serve("", tableBody(43, "")))
	g.time.poll(t)
	g.wantLine("+", "revision 43 is in force")
	for i := 0; i < 20; i++ {
		g.time.poll(t)
	}
	if got := strings.Join(g.said(), "\n"); got != "! cache file "+path+": reading or writing takes longer than 1m0s; nothing is kept until the disk answers" {
		t.Errorf("got lines %q", got)
	}
	close(free)
	<-ended
	if got := strings.Join(g.said(), "\n"); got != "+ cache file "+path+": the disk answers again" {
		t.Errorf("got lines %q", got)
	}
	if s, _ := restoreAt(t, path, g.server.URL, g.time.clock); s.Table.Revision != 43 {
		t.Errorf("the file has revision %d, want 43", s.Table.Revision)
	}
}

// With real goroutines: the file comes by itself, and so does the end.
func TestCacheInTheBackground(t *testing.T) {
	path := cachePath(t)
	site := newSite(t, serve(`"a"`, tableBody(42, "")))
	cache := NewCache(path)
	f := Start(Config{Endpoints: []string{site.server.URL}, Interval: time.Hour, Timeout: time.Minute, Cache: cache}, nil)
	t.Cleanup(f.Stop)
	late := time.Now().Add(20 * time.Second)
	for {
		cache.mu.Lock()
		idle, have := !cache.busy, cache.have
		cache.mu.Unlock()
		if idle && have != "" {
			break
		}
		if time.Now().After(late) {
			t.Fatal("the file was not written, or its writer does not end")
		}
		runtime.Gosched()
	}
	restoreAt(t, path, site.server.URL, time.Now())
}

// Whatever is in the file, nothing comes from it but a whole table that the
// endpoint's key has signed.
func FuzzCacheFile(f *testing.F) {
	path := cachePath(f)
	body := tableBody(42, "kept")
	now := time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)
	s := &Snapshot{Table: &table.Table{Revision: 42}, Confirmed: now, From: "http://h", etag: hashTag(body), proof: proof{signatures: signed(body, 1)}}
	sum := sha256.Sum256([]byte(body))
	s.sum = string(sum[:])
	line, err := newCacheLine(s, []byte(body), false)
	if err != nil {
		f.Fatal(err)
	}
	good := string(line) + body
	for _, row := range badFiles(f, good, "http://h") {
		row.put(path)
		if data, err := os.ReadFile(path); err == nil && len(data) < 1<<16 {
			f.Add(data)
		}
		_ = os.Remove(path)
	}
	f.Add([]byte(good))
	cfg := Config{Endpoints: []string{"http://h"}, MaxBytes: 1 << 20, PublicKeys: []ed25519.PublicKey{publicKey(1)}}
	f.Fuzz(func(t *testing.T, data []byte) {
		writeFile(t, path, string(data))
		s, line, err := readCache(path, cfg, 0, now)
		if err != nil {
			if s != nil {
				t.Fatalf("got a snapshot beside the error %v", err)
			}
			return
		}
		if s == nil {
			t.Fatal("got neither a snapshot nor an error")
		}
		body := data[len(line):]
		if !strings.Contains(s.proof.signatures, strings.TrimPrefix(signed(string(body), 1), "ed25519=")) {
			t.Fatal("a table that was not signed came in force")
		}
		if err := table.Validate(s.Table); err != nil || s.Confirmed.After(now) || s.From != "http://h" {
			t.Fatalf("got %+v (%v)", s, err)
		}
	})
}
