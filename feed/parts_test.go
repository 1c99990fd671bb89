package feed

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/table"
)

// digest returns the n-th of some digests; they are spread over all parts.
func digest(n int) string {
	return fmt.Sprintf("%02x%0126x", n*37%256, n)
}

// rowsOf returns a table of so many keys, each of an application of its own.
func rowsOf(revision int64, keys int) *table.Table {
	t := &table.Table{
		Revision: revision, IssuedAt: time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC),
		Plans: map[string]table.Plan{"apps/plan": {}}, APIs: map[string]table.API{"apps/api": {}},
		Subscriptions: map[string]table.Subscription{"apps/sub": {Plan: "apps/plan"}},
		Applications:  map[string]table.Application{},
		Keys:          map[string][]table.Holder{},
	}
	for i := 0; i < keys; i++ {
		name := fmt.Sprint("apps/a", i)
		t.Applications[name] = table.Application{AppID: name, Grants: map[string]string{"apps/api": "apps/sub"}}
		t.Keys[digest(i)] = []table.Holder{{Application: name}}
	}
	return t
}

// shelf serves tables in parts.
type shelf struct {
	mu    sync.Mutex
	index []byte
	tag   string
	parts map[string][]byte // by path
	// wrong answers in place of what is at a path.
	wrong map[string]http.HandlerFunc
	sign  []byte // keys
}

// publish puts a table in n parts on the shelf, in place of what was there, and
// returns their paths.
func (s *shelf) publish(t testing.TB, rows *table.Table, n int) []string {
	t.Helper()
	index, parts := table.Split(rows, n)
	body, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.index = body
	s.tag = `"` + table.PartSum(body)[:8] + `"`
	s.parts = map[string][]byte{}
	s.wrong = map[string]http.HandlerFunc{}
	var paths []string
	for i, part := range parts {
		path := table.PartPath(index.Parts[i])
		s.parts[path] = part
		paths = append(paths, path)
	}
	return paths
}

func (s *shelf) spoil(path string, handle http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wrong[path] = handle
}

func (s *shelf) handler() http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		index, tag, part, wrong := s.index, s.tag, s.parts[r.URL.Path], s.wrong[r.URL.Path]
		s.mu.Unlock()
		if wrong != nil {
			wrong(w, r)
			return
		}
		if r.URL.Path == table.Path {
			w.Header().Set("Content-Type", "application/vnd.tollgate.index+json")
			if s.sign != nil {
				w.Header().Set("Tollgate-Signature", signed(string(index), s.sign...))
			}
			serve(tag, string(index))(w, r)
			return
		}
		if part == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write(part)
	}
}

// onShelf starts a feed of a table in n parts.
func onShelf(t *testing.T, rows *table.Table, n int, change func(*Config)) (*rig, *shelf, []string) {
	t.Helper()
	s := &shelf{}
	paths := s.publish(t, rows, n)
	return newRig(t, s.handler(), nil, change), s, paths
}

// partsAsked returns the parts that were asked for since it was last called, or
// since asked was, in order.
func (s *site) partsAsked() []string {
	var paths []string
	for _, r := range s.asked() {
		if r.URL.Path != table.Path {
			paths = append(paths, r.URL.Path)
		}
	}
	return paths
}

// wantKeys checks which keys the table in force has.
func (g *rig) wantKeys(revision int64, keys int) {
	g.t.Helper()
	g.wantRevision(revision)
	rows := Current(g.feed).Table
	for i := 0; i <= keys; i++ {
		holders := table.Holders(rows, digest(i))
		if want := i < keys; (len(holders) == 1) != want {
			g.t.Errorf("key %d of revision %d: got holders %v, want some: %t", i, revision, holders, want)
		}
	}
	if _, ok := table.FindApplication(rows, "apps/a0"); !ok {
		g.t.Error("an application is missing")
	}
}

func TestParts(t *testing.T) {
	g, s, paths := onShelf(t, rowsOf(42, 20), 8, nil)
	g.time.poll(t)
	g.wantKeys(42, 20)
	g.wantLine("+", "revision 42 is in force")
	requests := g.asked()
	if len(requests) != 9 {
		t.Fatalf("got %d requests, want one for the index and 8 for parts", len(requests))
	}
	for i, path := range paths {
		r := requests[i+1]
		if r.URL.Path != path || r.Header.Get("Authorization") != "Bearer "+testToken || r.Header.Get("Accept") != "application/json" ||
			r.Header.Get("Accept-Encoding") != "gzip" || r.Header.Get("If-None-Match") != "" || r.Header.Get("Prefer") != "" {
			t.Errorf("request %d was for %s with %v, want a plain one for %s", i+1, r.URL.Path, r.Header, path)
		}
	}

	// The same index confirms.
	before := Current(g.feed)
	g.time.poll(t)
	if parts := g.partsAsked(); len(parts) != 0 || Current(g.feed).Table != before.Table || Current(g.feed).Confirmed.Equal(before.Confirmed) {
		t.Errorf("a 304 had %d parts fetched, or did not confirm", len(parts))
	}

	// One key more is one part.
	rows := rowsOf(43, 20)
	rows.Keys[digest(20)] = []table.Holder{{Application: "apps/a0"}}
	paths = s.publish(t, rows, 8)
	g.time.poll(t)
	g.wantKeys(43, 21)
	if got := g.partsAsked(); len(got) != 1 || got[0] != paths[table.PartOfKey(digest(20), 8)] {
		t.Errorf("one key more had %q fetched, want its part", got)
	}
	if before.Table.Revision != 42 || len(table.Holders(before.Table, digest(20))) != 0 {
		t.Error("the snapshot taken before was changed")
	}

	// Another number of parts is another table.
	s.publish(t, rowsOf(44, 20), 16)
	g.time.poll(t)
	g.wantKeys(44, 20)
	if got := g.partsAsked(); len(got) != 16 {
		t.Errorf("16 parts in place of 8 had %d fetched", len(got))
	}
}

// What is equal is fetched once: parts without rows, most of all.
func TestEqualParts(t *testing.T) {
	rows := rowsOf(42, 0)
	rows.Applications["apps/a0"] = table.Application{AppID: "a0"}
	g, _, paths := onShelf(t, rows, 64, nil)
	g.time.poll(t)
	g.wantKeys(42, 0)
	distinct := map[string]bool{}
	for _, path := range paths {
		distinct[path] = true
	}
	if got := g.partsAsked(); len(got) != len(distinct) || len(got) > 3 {
		t.Errorf("got %d parts fetched, want %d", len(got), len(distinct))
	}
}

// One document may follow an index, and the other way round.
func TestPartsAndDocument(t *testing.T) {
	g, s, _ := onShelf(t, rowsOf(42, 5), 4, nil)
	g.time.poll(t)
	whole, err := json.Marshal(rowsOf(43, 6))
	if err != nil {
		t.Fatal(err)
	}
	s.spoil(table.Path, serve(`"43"`, string(whole)))
	g.time.poll(t)
	g.wantKeys(43, 6)
	s.publish(t, rowsOf(44, 7), 4)
	g.asked()
	g.time.poll(t)
	g.wantKeys(44, 7)
	if got := g.partsAsked(); len(got) != 4 {
		t.Errorf("got %d parts fetched after a document, want 4", len(got))
	}
}

// A table may be written down in another way under the same revision, as long as it
// is the same.
func TestSameTableInOtherForm(t *testing.T) {
	g, s, _ := onShelf(t, rowsOf(42, 20), 8, cached(cachePath(t)))
	publish := func(rows *table.Table, tag string) {
		t.Helper()
		whole, err := json.Marshal(rows)
		if err != nil {
			t.Fatal(err)
		}
		s.spoil(table.Path, serve(tag, string(whole)))
	}
	g.time.poll(t)
	g.wantLine("+", "revision 42 is in force")
	for round := 1; round <= 2; round++ {
		publish(rowsOf(42, 21), `"other"`)
		g.time.poll(t)
		g.wantLine("!", "revision 42 came again with other content")
		publish(rowsOf(42, 20), `"whole"`)
		g.time.poll(t)
		g.wantLine("+", "answers again; the table of revision 42 is in force")
		g.wantKeys(42, 20)
		if table.LoadedParts(Current(g.feed).Table) != nil {
			t.Error("the table is still in parts")
		}
		s.publish(t, rowsOf(42, 21), 8)
		g.time.poll(t)
		g.wantLine("!", "revision 42 came again with other content")
		s.publish(t, rowsOf(42, 20), 8)
		g.time.poll(t)
		g.wantLine("+", "answers again; the table of revision 42 is in force")
		g.wantKeys(42, 20)
		if table.LoadedParts(Current(g.feed).Table) == nil {
			t.Error("the table is not in parts")
		}
	}
	again := g.after(g.feed.cfg.Cache.path, nil)
	again.wantKeys(42, 20)
}

// An endpoint that moves on while a feed fetches parts is asked for its new
// index, and nobody hears of it.
func TestPartsThatAreGone(t *testing.T) {
	g, s, paths := onShelf(t, rowsOf(42, 20), 8, nil)
	want := append([]string{}, paths[:4]...) // the fourth is gone
	s.spoil(paths[3], func(w http.ResponseWriter, _ *http.Request) {
		// The first three are not all the same, but some of them are.
		for i, path := range s.publish(t, rowsOf(43, 21), 8) {
			if i > 2 || path != paths[i] {
				want = append(want, path)
			}
		}
		w.WriteHeader(http.StatusNotFound)
	})
	g.time.poll(t)
	g.wantKeys(43, 21)
	g.wantLine("+", "revision 43 is in force")
	if got := g.partsAsked(); strings.Join(got, " ") != strings.Join(want, " ") || len(want) == 4+8 {
		t.Errorf("got %d parts fetched, want %d: those that are still the same are kept", len(got), len(want))
	}
}

func TestPartsThatAreNeverThere(t *testing.T) {
	g, s, _ := onShelf(t, rowsOf(42, 20), 8, nil)
	g.time.poll(t)
	g.said()
	before := Current(g.feed)
	rows := rowsOf(43, 20)
	rows.Keys[digest(20)] = []table.Holder{{Application: "apps/a0"}}
	missing := s.publish(t, rows, 8)[table.PartOfKey(digest(20), 8)]
	s.spoil(missing, status(http.StatusNotFound))
	g.asked()
	g.time.poll(t)
	if got := g.asked(); len(got) != 2*maxTries {
		t.Errorf("got %d requests, want the index and its part %d times", len(got), maxTries)
	}
	g.wantLine("!", "a part that the index lists is not there: status 404 Not Found, expected status 200 with a part", "revision 42) stays in force")
	if Current(g.feed) != before {
		t.Error("half a table came in force")
	}
}

// Whatever is wrong with a part, all of the table that it belongs to stays out.
// What was fetched before is not fetched again.
func TestBadParts(t *testing.T) {
	body := func(text string) http.HandlerFunc { return serve("", text) }
	tooLarge := func(c *Config) { c.MaxBytes = 1 << 20 }
	hurried := func(c *Config) { c.Timeout = 200 * time.Millisecond }
	for _, row := range []struct {
		name   string
		handle http.HandlerFunc
		change func(*Config)
		want   string
	}{
		{"empty", body(""), nil, "SHA-256"},
		{"another part", body(`{"applications":{` + "\n},\"keys\":{\n},\"subscriptions\":{\n}}\n"), nil, "SHA-256"},
		{"500", status(500), nil, "status 500 Internal Server Error, expected status 200 with a part"},
		{"206", status(206), nil, "status 206"},
		{"304", status(304), nil, "304"},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/v1/parts/elsewhere", http.StatusFound)
		}, nil, "redirects are not followed"},
		{"truncated", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte("{"))
		}, nil, "unexpected EOF"},
		{"hang up", hangUp(), nil, "EOF"},
		{"a bomb", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = zip.Write([]byte(strings.Repeat(" ", 1<<22)))
			_ = zip.Close()
		}, tooLarge, "table is larger than allowed: over 1048576 bytes with its parts"},
		{"endless", func(w http.ResponseWriter, _ *http.Request) {
			block := []byte(strings.Repeat(" ", 1<<16))
			for {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}, tooLarge, "larger than allowed"},
		{"larger than any part", func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(make([]byte, table.MaxPartBytes+1))
		}, nil, "table is larger than allowed: over 16777216 bytes"},
		{"never", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, hurried, "no complete answer within 200ms"},
		{"byte by byte", func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				w.(http.Flusher).Flush()
			}
		}, hurried, "no complete answer within 200ms"},
	} {
		row := row
		t.Run(row.name, func(t *testing.T) {
			g, s, _ := onShelf(t, rowsOf(42, 20), 8, nil)
			g.time.poll(t)
			g.said()
			before := Current(g.feed)
			patient := g.feed.cfg
			if row.change != nil {
				row.change(&g.feed.cfg)
			}
			paths := s.publish(t, rowsOf(43, 40), 8)
			s.spoil(paths[5], row.handle)
			g.asked()
			g.time.poll(t)
			g.wantLine("!", "of revision 43: ", row.want, "the last good table (revision 42) stays in force")
			if Current(g.feed) != before {
				t.Error("half a table came in force")
			}
			s.spoil(paths[5], nil)
			s.spoil(paths[6], row.handle)
			g.asked()
			g.time.poll(t)
			g.wantSilence()
			if got := g.partsAsked(); len(got) < 2 || got[0] != paths[5] || got[1] != paths[6] {
				t.Errorf("then %q were fetched, want what was still missing", got)
			}
			g.feed.cfg = patient
			s.spoil(paths[6], nil)
			g.asked()
			g.time.poll(t)
			g.wantKeys(43, 40)
			g.wantLine("+", "answers again")
			if got := g.partsAsked(); len(got) != 2 {
				t.Errorf("at last %d parts were fetched, want 2", len(got))
			}
			if g.feed.fetched != nil {
				t.Error("what was fetched is kept beside the table")
			}
		})
	}
}

// The cap is for the index and all parts together, those in force included.
func TestPartsWithinMaxBytes(t *testing.T) {
	size := func(s *shelf) int64 {
		total := len(s.index)
		for _, part := range s.parts {
			total += len(part)
		}
		return int64(total)
	}
	reference := &shelf{}
	reference.publish(t, rowsOf(42, 200), 8)
	for _, spare := range []int64{0, -1} {
		spare := spare
		g, s, _ := onShelf(t, rowsOf(42, 200), 8, func(c *Config) { c.MaxBytes = size(reference) + spare })
		g.time.poll(t)
		if spare < 0 {
			g.wantLine("!", "larger than allowed: over", "with its parts")
			continue
		}
		g.wantKeys(42, 200)
		rows := rowsOf(43, 200)
		rows.Keys[digest(200)] = []table.Holder{{Application: "apps/a0"}}
		s.publish(t, rows, 8)
		g.said()
		g.time.poll(t)
		g.wantLine("!", "larger than allowed: over", "with its parts", "revision 42) stays")
		// As many bytes as before, in other parts.
		s.publish(t, rowsOf(44, 200), 8)
		g.time.poll(t)
		g.wantKeys(44, 200)
	}
}

// Only an index that would come in force has its parts fetched.
func TestPartsOfARefusedIndex(t *testing.T) {
	g, s, _ := onShelf(t, rowsOf(42, 20), 8, func(c *Config) { c.PublicKeys = publicKeys(1) })
	s.sign = []byte{1}
	g.time.poll(t)
	g.wantKeys(42, 20)
	g.said()
	g.asked()
	s.publish(t, rowsOf(41, 40), 8)
	g.time.poll(t)
	g.wantLine("!", "revision 41 came after revision 42")
	s.publish(t, rowsOf(42, 40), 8)
	g.time.poll(t)
	g.wantLine("!", "revision 42 came again with other content")
	s.sign = []byte{2}
	s.publish(t, rowsOf(43, 40), 8)
	g.time.poll(t)
	g.wantLine("!", "signed by none")
	if got := g.partsAsked(); len(got) != 0 {
		t.Errorf("%d parts were fetched for nothing", len(got))
	}
}

func TestStopWhilePartsAreFetched(t *testing.T) {
	asked := make(chan bool)
	g, s, paths := onShelf(t, rowsOf(42, 20), 8, nil)
	s.spoil(paths[2], func(_ http.ResponseWriter, r *http.Request) {
		asked <- true
		<-r.Context().Done()
	})
	done := make(chan bool)
	timer := g.time.take(t)
	go func() {
		defer func() { done <- recover() == nil }()
		timer.run()
	}()
	<-asked
	g.feed.Stop()
	if !<-done {
		t.Error("the poll panicked")
	}
	if got := len(g.partsAsked()); got != 3 {
		t.Errorf("got %d parts asked for, want none after Stop", got)
	}
	g.wantSilence()
}

// A held request ends with a new index; its parts are fetched without waiting.
func TestPartsAfterAWait(t *testing.T) {
	g, s, _ := onShelf(t, rowsOf(42, 20), 8, waiting)
	handler := s.handler()
	g.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == table.Path {
			handler = g.held(9*time.Second, s.handler())
		}
		handler(w, r)
	})
	g.wantDelay(0, "after the first table")
	s.publish(t, rowsOf(43, 21), 8)
	g.asked()
	g.wantDelay(0, "after the second")
	g.wantKeys(43, 21)
	if preferences := g.preferences(); !strings.HasPrefix(preferences, "wait=27 -") || strings.Count(preferences, "wait") != 1 {
		t.Errorf("the requests preferred %s, want a wait for the index alone", preferences)
	}
}

// Of two replicas behind one address, one waits with an index of which the other,
// which does not wait, has no parts yet. They are not asked in a busy loop.
func TestPartsOfAnotherReplica(t *testing.T) {
	g, s, _ := onShelf(t, rowsOf(42, 20), 8, waiting)
	ahead := &shelf{}
	ahead.publish(t, rowsOf(43, 21), 8)
	behind, index := s.handler(), ahead.handler()
	g.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Prefer") != "" {
			w.Header().Set("Preference-Applied", "wait=27")
			index(w, r)
			return
		}
		behind(w, r)
	})
	g.time.poll(t)
	began := g.time.clock
	for i := 0; i < 20; i++ {
		g.time.poll(t)
	}
	g.wantRevision(42)
	if took := g.time.clock.Sub(began); took < time.Minute {
		t.Errorf("they were asked 20 times within %s", took)
	}
}

// inParallel gives a feed real goroutines. Call what it returns after a poll: it
// waits for their end.
func inParallel(f *Feed) (wait func()) {
	started, ended := 0, make(chan bool, AtOnce)
	f.timing.background = func(run func()) {
		started++
		go func() {
			defer func() { ended <- recover() == nil }()
			run()
		}()
	}
	return func() {
		for ; started > 0; started-- {
			<-ended
		}
	}
}

// crowd is a handler of parts that answers when so many requests have come.
type crowd struct {
	mu      sync.Mutex
	now     int
	most    int // at a time
	all     int
	reached chan bool // closed when there are enough
}

// gather makes a crowd of n. Then has what is to be done with each request as soon
// as they are all there.
func gather(n int, then http.HandlerFunc) (*crowd, http.HandlerFunc) {
	c := &crowd{reached: make(chan bool)}
	return c, func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.now++
		c.all++
		if c.now > c.most {
			c.most = c.now
		}
		if c.all == n {
			close(c.reached)
		}
		c.mu.Unlock()
		<-c.reached
		then(w, r)
		c.mu.Lock()
		c.now--
		c.mu.Unlock()
	}
}

// Parts come several at a time, and never more than those.
func TestPartsAtOnce(t *testing.T) {
	g, s, _ := onShelf(t, rowsOf(42, 200), 64, nil)
	wait := inParallel(g.feed)
	here := s.handler()
	c, handle := gather(AtOnce, here)
	g.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == table.Path {
			here(w, r)
			return
		}
		handle(w, r)
	})
	g.time.poll(t)
	wait()
	g.wantKeys(42, 200)
	g.wantLine("+", "revision 42 is in force")
	if c.most != AtOnce {
		t.Errorf("got %d requests for parts at a time, want %d", c.most, AtOnce)
	}
	if got := len(g.partsAsked()); got != 64 {
		t.Errorf("got %d parts fetched, want each of 64 once", got)
	}
}

// The first thing that goes wrong ends all that is under way, and is told.
func TestOneBadPartEndsTheOthers(t *testing.T) {
	g, s, paths := onShelf(t, rowsOf(42, 200), 64, nil)
	wait := inParallel(g.feed)
	here := s.handler()
	ended := make(chan bool, 64)
	_, handle := gather(AtOnce, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == paths[3] {
			w.WriteHeader(http.StatusTeapot)
			return
		}
		<-r.Context().Done()
		ended <- true
	})
	g.answer(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == table.Path {
			here(w, r)
			return
		}
		handle(w, r)
	})
	g.time.poll(t)
	wait()
	for i := 1; i < AtOnce; i++ {
		<-ended
	}
	g.wantLine("!", "part 4 of 64 of revision 42: status 418")
	if Current(g.feed) != nil {
		t.Error("half a table came in force")
	}
	if got := len(g.partsAsked()); got != AtOnce {
		t.Errorf("got %d parts asked for, want none after the failure", got)
	}

	// What had come by then stays.
	g.answer(here)
	g.time.poll(t)
	wait()
	g.wantKeys(42, 200)
}

// A panic in a goroutine ends neither the process nor the feed.
func TestPanicWhilePartsAreFetched(t *testing.T) {
	var mu sync.Mutex
	panics := true
	transport := &http.Transport{Proxy: func(r *http.Request) (*url.URL, error) {
		mu.Lock()
		defer mu.Unlock()
		if panics && r.URL.Path != table.Path {
			panic("no way")
		}
		return nil, nil
	}}
	g, _, _ := onShelf(t, rowsOf(42, 20), 8, func(c *Config) { c.Client = client(transport) })
	wait := inParallel(g.feed)
	g.time.poll(t)
	wait()
	g.wantLine("!", "of revision 42: fetching panicked: no way")
	mu.Lock()
	panics = false
	mu.Unlock()
	g.time.poll(t)
	wait()
	g.wantKeys(42, 20)
}

// What may come at a time fits into what is left of sync.maxBytes.
func TestPartsAtOnceWithinMaxBytes(t *testing.T) {
	index, parts := table.Split(rowsOf(42, 20), 8)
	f := &Feed{cfg: Config{MaxBytes: 1}}
	c := &crew{feed: f, index: index, times: map[string]int64{}, fetched: map[string]*table.Part{}, left: 5 * table.MaxPartBytes / 2}
	for i, sum := range index.Parts {
		c.places = append(c.places, i)
		c.times[sum] = 1
	}
	first, ok := c.next()
	second, also := c.next()
	if !ok || !also || first.last || second.last || first.atMost != table.MaxPartBytes {
		t.Fatalf("got %+v (%t) and %+v (%t), want two parts of any size", first, ok, second, also)
	}
	if third, ok := c.next(); ok {
		t.Fatalf("got %+v where half a part is left, want to wait for the others", third)
	}
	part, err := table.ParsePart(first.sum, parts[first.place])
	if err != nil {
		t.Fatal(err)
	}
	c.done(first, catch{part: part})
	if want := int64(3*table.MaxPartBytes/2 - len(parts[first.place])); c.left != want {
		t.Errorf("%d bytes are left, want %d", c.left, want)
	}
	c.left = 10
	if third, ok := c.next(); ok {
		t.Fatalf("got %+v where 10 bytes are left, want to wait for the other", third)
	}
	c.left = 10 - table.MaxPartBytes
	if part, err = table.ParsePart(second.sum, parts[second.place]); err != nil {
		t.Fatal(err)
	}
	c.left += int64(len(part.Text()))
	c.done(second, catch{part: part})
	if third, ok := c.next(); !ok || !third.last || third.atMost != 10 {
		t.Errorf("got %+v (%t), want the last 10 bytes for one part", third, ok)
	}
}

// All parts together have to come in a time that grows with their number.
func TestPartsTimeout(t *testing.T) {
	for _, row := range []struct {
		missing int
		want    time.Duration
	}{{1, 10 * time.Second}, {16, 10 * time.Second}, {17, 15 * time.Second}, {1024, 325 * time.Second}} {
		if got := partsTimeout(5*time.Second, row.missing); got != row.want {
			t.Errorf("%d parts: got %s, want %s", row.missing, got, row.want)
		}
	}
	if got := partsTimeout(math.MaxInt64, table.MaxParts); got != math.MaxInt64 {
		t.Errorf("for ever: got %s", got)
	}

	g, s, paths := onShelf(t, rowsOf(42, 200), 64, nil)
	before := newDeadline
	t.Cleanup(func() { newDeadline = before })
	var all *deadline
	newDeadline = func(parent context.Context, step, held time.Duration) *deadline {
		d := before(parent, step, held)
		if step == 5*30*time.Second {
			all = d
		}
		return d
	}
	s.spoil(paths[40], func(_ http.ResponseWriter, r *http.Request) {
		all.late.Store(true)
		all.cancel()
		<-r.Context().Done()
	})
	g.time.poll(t)
	g.wantLine("!", "24 of 64 parts of revision 42 did not come within 2m30s")
	if Current(g.feed) != nil {
		t.Error("half a table came in force")
	}
	s.spoil(paths[40], nil)
	g.asked()
	g.time.poll(t)
	g.wantKeys(42, 200)
	if got := len(g.partsAsked()); got != 24 {
		t.Errorf("then %d parts were fetched, want the 24 that were missing", got)
	}
}

// Whatever index and parts a server has, nothing comes in force but a whole table
// with the parts that its index lists.
func FuzzIndex(f *testing.F) {
	index, parts := table.Split(rowsOf(42, 3), 2)
	body, err := json.Marshal(index)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body, parts[0], parts[1])
	f.Add(body, parts[1], parts[0])
	f.Add(body, parts[0], []byte("{}"))
	f.Add([]byte(strings.Replace(string(body), index.Parts[1], index.Parts[0], 1)), parts[0], parts[0])
	f.Add([]byte(strings.Replace(string(body), `"parts"`, `"keys":{},"parts"`, 1)), parts[0], parts[1])
	f.Add([]byte(strings.ReplaceAll(string(body), index.Parts[1], "../../table")), parts[0], parts[1])
	f.Add([]byte(tableBody(42, "")), []byte(nil), []byte(nil))
	s := &shelf{}
	site := newSite(f, s.handler())
	f.Fuzz(func(t *testing.T, body, first, second []byte) {
		s.mu.Lock()
		s.index = body
		s.parts = map[string][]byte{table.PartPath(table.PartSum(first)): first, table.PartPath(table.PartSum(second)): second}
		s.mu.Unlock()
		clock := newFakeTime()
		feed := start(Config{Endpoints: []string{site.server.URL}, Interval: 1, Timeout: 10e9, MaxBytes: 1 << 20, Client: func() *http.Client { return site.server.Client() }}, nil, clock.timing())
		o := feed.poll()
		feed.Stop()
		if o.err != nil {
			if o.next != nil {
				t.Fatalf("got a snapshot beside the error %v", o.err)
			}
			return
		}
		if err := table.Validate(o.next.Table); err != nil {
			t.Fatalf("an invalid table came in force: %v", err)
		}
		loaded := table.LoadedParts(o.next.Table)
		if len(loaded) != len(o.next.Table.Parts) {
			t.Fatalf("got %d parts, want %d", len(loaded), len(o.next.Table.Parts))
		}
		for i, part := range loaded {
			if part.Sum() != o.next.Table.Parts[i] || table.PartSum([]byte(part.Text())) != part.Sum() {
				t.Fatalf("part %d is not what the index lists", i)
			}
		}
	})
}
