package server_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/table"
)

const indexType = "application/vnd.tollgate.index+json"

// dividing returns a server that serves all tables but the smallest in parts.
func dividing() *server.Server {
	return server.New(server.Options{Log: slog.New(slog.DiscardHandler), PartsAbove: 1})
}

func digest(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return strings.Repeat(hex.EncodeToString(sum[:]), 2)
}

// tableOf returns a table of so many applications, with a key and a subscription
// each.
func tableOf(applications int) *table.Table {
	t := newTable("Standard")
	for n := range applications {
		name := fmt.Sprintf("apps/app-%d", n)
		t.Subscriptions[name+"-sub"] = table.Subscription{Plan: "apps/plan", OperationFilter: &table.OperationFilter{Include: []string{}}}
		t.Applications[name] = table.Application{AppID: fmt.Sprint("<", n, ">"), Grants: map[string]string{"apps/api": name + "-sub"}}
		t.Keys[digest(n)] = []table.Holder{{Application: name, Title: "a key"}}
	}
	return t
}

// fetched is what a gateway knows of a table in parts.
type fetched struct {
	index []byte
	etag  string
	table *table.Table
	parts map[string]*table.Part
}

// fetch fetches the table as a gateway does that has the parts of last.
func fetch(t *testing.T, s *server.Server, last *fetched) *fetched {
	t.Helper()
	res := get(s, "GET", table.Path, "Accept", indexType)
	f := &fetched{index: []byte(body(t, res)), etag: res.Header.Get("ETag"), parts: map[string]*table.Part{}}
	if got := res.Header.Get("Content-Type"); got != indexType {
		t.Fatalf("got %d of type %q, want an index", res.StatusCode, got)
	}
	index, err := table.Decode(f.index)
	if err != nil {
		t.Fatal(err)
	}
	var parts []*table.Part
	for _, sum := range index.Parts {
		part := f.parts[sum]
		if part == nil && last != nil {
			part = last.parts[sum]
		}
		if part == nil {
			res := get(s, "GET", table.PartPath(sum))
			if part, err = table.ParsePart(sum, []byte(body(t, res))); err != nil {
				t.Fatalf("%d: %v", res.StatusCode, err)
			}
		}
		f.parts[sum] = part
		parts = append(parts, part)
	}
	if f.table, err = table.Assemble(index, parts); err != nil {
		t.Fatal(err)
	}
	return f
}

// expectRows checks that a gateway finds all rows of a table, and no others.
func (f *fetched) expectRows(t *testing.T, want *table.Table) {
	t.Helper()
	rows := 0
	for sum := range f.parts {
		rows += strings.Count(f.parts[sum].Text(), "\n") - 4
	}
	if n := len(want.Subscriptions) + len(want.Applications) + len(want.Keys); rows != n {
		t.Errorf("has %d rows, want %d", rows, n)
	}
	for name, row := range want.Subscriptions {
		if got, ok := table.FindSubscription(f.table, name); !ok || !cmp.Equal(got, row) {
			t.Fatalf("subscription %s: got %+v, want %+v", name, got, row)
		}
	}
	for name, row := range want.Applications {
		if got, ok := table.FindApplication(f.table, name); !ok || !cmp.Equal(got, row) {
			t.Fatalf("application %s: got %+v, want %+v", name, got, row)
		}
	}
	for name, row := range want.Keys {
		if got := table.Holders(f.table, name); !cmp.Equal(got, row) {
			t.Fatalf("key %s: got %+v, want %+v", name, got, row)
		}
	}
}

func TestParts(t *testing.T) {
	s := dividing()
	want := tableOf(1000)
	publish(t, s, want)
	f := fetch(t, s, nil)
	f.expectRows(t, want)
	if got := len(f.table.Parts); got != 4 {
		t.Errorf("3000 rows make %d parts, want 4", got)
	}
	if !cmp.Equal(f.table.Plans, want.Plans) || f.table.Revision != want.Revision || !f.table.IssuedAt.Equal(want.IssuedAt) {
		t.Errorf("the index says %s", f.index)
	}
	index, parts := table.Split(want, 4)
	if !slices.Equal(f.table.Parts, index.Parts) {
		t.Errorf("the parts are %v, want those of table.Split: %v", f.table.Parts, index.Parts)
	}

	sum, text := index.Parts[0], string(parts[0])
	for _, test := range []struct {
		name, method, encoding, match string
		status                        int
		etag                          string
	}{
		{"plain", "GET", "", "", 200, `"` + sum + `"`},
		{"gzip", "GET", "gzip", "", 200, `"` + sum + `-gzip"`},
		{"HEAD", "HEAD", "", "", 200, `"` + sum + `"`},
		{"HEAD gzip", "HEAD", "gzip", "", 200, `"` + sum + `-gzip"`},
		{"known", "GET", "", `"` + sum + `"`, 304, `"` + sum + `"`},
		{"known, gzip", "GET", "gzip", `W/"` + sum + `-gzip"`, 304, `"` + sum + `-gzip"`},
		{"known plain, for gzip", "GET", "gzip", `"` + sum + `"`, 200, `"` + sum + `-gzip"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			res := get(s, test.method, table.PartPath(sum), "Accept-Encoding", test.encoding, "If-None-Match", test.match,
				"Prefer", "wait=30") // says nothing here
			want := http.Header{
				"Cache-Control": {"public, max-age=31536000, immutable"},
				"Vary":          {"Accept-Encoding"},
				"Etag":          {test.etag},
			}
			got := body(t, res)
			if test.status == 200 {
				want["Content-Type"] = []string{"application/json"}
				want["Content-Length"] = res.Header["Content-Length"]
				if length := res.Header.Get("Content-Length"); test.method == "GET" && length != fmt.Sprint(len(got)) {
					t.Errorf("Content-Length is %q, want %d", length, len(got))
				}
				if test.encoding != "" {
					want["Content-Encoding"] = []string{"gzip"}
				}
			}
			if diff := cmp.Diff(want, res.Header); diff != "" || res.StatusCode != test.status {
				t.Errorf("got %d, want %d, header (-want +got):\n%s", res.StatusCode, test.status, diff)
			}
			if test.method == "GET" && test.status == 200 {
				if test.encoding == "gzip" {
					z, err := gzip.NewReader(strings.NewReader(got))
					if err != nil {
						t.Fatal(err)
					}
					unzipped, err := io.ReadAll(z)
					if err != nil {
						t.Fatal(err)
					}
					got = string(unzipped)
				}
				if got != text {
					t.Errorf("got %.100s…, want %.100s…", got, text)
				}
			} else if got != "" {
				t.Errorf("got the body %.100s…, want none", got)
			}
		})
	}

	s.AdmitTokens([]string{"a-token"})
	if res := get(s, "GET", table.PartPath(sum)); res.StatusCode != 401 {
		t.Errorf("without the token: got %d, want 401", res.StatusCode)
	}
	res := get(s, "GET", table.PartPath(sum), "Authorization", "Bearer a-token")
	if got := res.Header.Get("Cache-Control") + "; " + res.Header.Get("Vary"); got != "private, max-age=31536000, immutable; Accept-Encoding, Authorization" {
		t.Errorf("with the token: got Cache-Control and Vary %q", got)
	}
	s.AdmitTokens(nil)
	for _, test := range []struct {
		method, sum string
		want        int
	}{
		{"GET", digest(1)[:64], 404}, {"GET", "", 404}, {"GET", sum + "/", 404}, {"GET", strings.ToUpper(sum), 404}, {"POST", sum, 405},
	} {
		res := get(s, test.method, table.PartPath(test.sum))
		if res.StatusCode != test.want || res.Header.Get("Cache-Control") != "no-store" || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %q: got %d, %v, want %d", test.method, test.sum, res.StatusCode, res.Header, test.want)
		}
	}
}

// TestAccept asks for a table in parts and one that is not, with different fields
// Accept.
func TestAccept(t *testing.T) {
	whole, inParts := quietServer(), dividing()
	publish(t, whole, tableOf(10))
	publish(t, inParts, tableOf(10))
	for accept, want := range map[string]int{
		indexType + ", application/json":         200,
		"application/json":                       406,
		"":                                       406,
		"text/html":                              406,
		"*/*":                                    200,
		"application/*":                          200,
		"text/html, */*;q=0.1":                   200,
		"*/*;q=0":                                406,
		"*/*, application/*;q=0":                 406,
		"application/*;q=0, " + indexType:        200,
		indexType + ";q=0, */*":                  406,
		indexType + ";v=1;q=0.5":                 200,
		strings.ToUpper(indexType):               200,
		`application/json;x="` + indexType + `,`: 406,
	} {
		t.Run(accept, func(t *testing.T) {
			res := get(inParts, "GET", table.Path, "Accept", accept)
			text := body(t, res)
			if res.StatusCode != want || want == 406 && (!strings.Contains(text, indexType) || res.Header.Get("Cache-Control") != "no-store") {
				t.Errorf("in parts: got %d, %s, want %d", res.StatusCode, text, want)
			}
			if got := get(inParts, "HEAD", table.Path, "Accept", accept).StatusCode; got != want {
				t.Errorf("in parts, HEAD: got %d, want %d", got, want)
			}
			res = get(whole, "GET", table.Path, "Accept", accept)
			if res.StatusCode != 200 || res.Header.Get("Content-Type") != "application/json" {
				t.Errorf("whole: got %d, %q, want 200", res.StatusCode, res.Header.Get("Content-Type"))
			}
		})
	}
	if got := get(inParts, "GET", table.Path).StatusCode; got != 200 {
		t.Errorf("without Accept: got %d, want 200", got)
	}
}

// TestBecomesParts makes a table large while a gateway waits that cannot read
// parts, and one that can.
func TestBecomesParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := server.New(server.Options{Log: slog.New(slog.DiscardHandler), PartsAbove: 30})
		defer s.Release()
		publish(t, s, tableOf(10))
		known := tag(s)
		old := ask(t.Context(), s, "GET", "Accept", "application/json", "If-None-Match", known, "Prefer", "wait=30")
		new := ask(t.Context(), s, "GET", "Accept", indexType, "If-None-Match", known, "Prefer", "wait=30")
		synctest.Wait()
		large := tableOf(11)
		large.Revision++
		publish(t, s, large)
		if got := (<-old).StatusCode; got != 406 {
			t.Errorf("the old one got %d, want 406", got)
		}
		if res := <-new; res.StatusCode != 200 || res.Header.Get("Content-Type") != indexType {
			t.Errorf("the new one got %d, %q, want an index", res.StatusCode, res.Header.Get("Content-Type"))
		}
		small := tableOf(10)
		small.Revision += 2
		publish(t, s, small)
		if res := get(s, "GET", table.Path, "Accept", "application/json"); res.StatusCode != 200 {
			t.Errorf("small again: got %d, want 200", res.StatusCode)
		}
	})
}

// edit makes changes to t, and tells which.
func edit(t *table.Table, random *rand.Rand) *compile.Change {
	change := &compile.Change{}
	for range random.IntN(4) {
		n := random.IntN(1000)
		name := fmt.Sprintf("apps/app-%d", n)
		switch random.IntN(7) {
		case 0:
			t.Keys[digest(n)] = []table.Holder{{Application: name, Suspended: random.IntN(2) == 0}}
			change.Keys = append(change.Keys, digest(n))
		case 1:
			delete(t.Keys, digest(n))
			change.Keys = append(change.Keys, digest(n))
		case 2:
			t.Applications[name] = table.Application{AppID: "é\u2028&\\", Grants: map[string]string{`a"b`: "c"}}
			change.Applications = append(change.Applications, name)
		case 3:
			delete(t.Applications, name)
			change.Applications = append(change.Applications, name)
		case 4:
			t.Subscriptions[name] = table.Subscription{OperationFilter: &table.OperationFilter{}}
			change.Subscriptions = append(change.Subscriptions, name)
		case 5:
			delete(t.Subscriptions, name)
			change.Subscriptions = append(change.Subscriptions, name)
		case 6:
			t.Plans["apps/plan"] = table.Plan{Title: name}
			change.Plans = true
		}
	}
	t.Revision++
	return change
}

func cloned(t *table.Table) *table.Table {
	c := *t
	c.Plans, c.Subscriptions, c.Applications, c.Keys = maps.Clone(t.Plans), maps.Clone(t.Subscriptions), maps.Clone(t.Applications), maps.Clone(t.Keys)
	return &c
}

// TestChangesMakeTheSame makes changes one by one, and compares what is served
// with what another server makes of the table that has never seen another.
func TestChangesMakeTheSame(t *testing.T) {
	const seed = 20261121
	random := rand.New(rand.NewPCG(seed, 0))
	s := dividing()
	tbl := tableOf(700)
	publish(t, s, tbl)
	last := fetch(t, s, nil)
	for step := range 40 {
		before := cloned(tbl)
		change := edit(tbl, random)
		// Now and then nobody says what has changed, or says it wrong.
		switch step % 10 {
		case 7:
			change = nil
		case 8:
			tbl.Keys[digest(10_000+step)] = nil
		}
		if err := s.Publish(tbl, change, nil); err != nil {
			t.Fatal(err)
		}
		next := fetch(t, s, last)
		fresh := dividing()
		publish(t, fresh, tbl)
		res := get(fresh, "GET", table.Path)
		if want := body(t, res); string(next.index) != want || next.etag != res.Header.Get("ETag") {
			t.Fatalf("seed %d, step %d: serves %s, want %s", seed, step, next.index, want)
		}
		changed, fetchedAnew := compile.Diff(before, tbl), 0
		for sum := range next.parts {
			if last.parts[sum] == nil {
				fetchedAnew++
			}
		}
		if rows := len(changed.Keys) + len(changed.Applications) + len(changed.Subscriptions); fetchedAnew > rows && len(next.parts) == len(last.parts) {
			t.Errorf("seed %d, step %d: %d rows changed, and %d parts", seed, step, rows, fetchedAnew)
		}
		last = next
	}
	last.expectRows(t, tbl)
}

// TestChangeIsCheap counts what a change of one key allocates, in proportion to
// the table.
func TestChangeIsCheap(t *testing.T) {
	cost := func(applications int) uint64 {
		s := dividing()
		tbl := tableOf(applications)
		publish(t, s, tbl)
		return allocated(func() {
			for n := range 10 {
				tbl.Keys[digest(n)] = []table.Holder{{Application: "apps/app", Suspended: true}}
				tbl.Revision++
				if err := s.Publish(tbl, &compile.Change{Keys: []string{digest(n)}}, nil); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	small, large := cost(1000), cost(8000)
	if large > 2*small {
		t.Errorf("ten changes allocate %d bytes with 3,000 rows, and %d with 24,000", small, large)
	}
}

// TestLeftoverParts looks for how long parts can be fetched that are no longer in
// force.
func TestLeftoverParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := dividing()
		defer s.Release()
		there := func(f *fetched) int {
			found := 0
			for sum := range f.parts {
				if get(s, "HEAD", table.PartPath(sum)).StatusCode == 200 {
					found++
				}
			}
			return found
		}
		tbl := tableOf(1000)
		publish(t, s, tbl)
		first := fetch(t, s, nil)
		time.Sleep(time.Hour)
		if got := there(first); got != len(first.parts) {
			t.Errorf("in force for an hour: %d of %d parts are there", got, len(first.parts))
		}
		old := cloned(tbl)
		tbl.Keys[digest(1)], tbl.Revision = nil, tbl.Revision+1
		publish(t, s, tbl)
		second := fetch(t, s, nil)
		time.Sleep(4 * time.Minute)
		if got := there(first); got != len(first.parts) {
			t.Errorf("four minutes later: %d of %d parts are there", got, len(first.parts))
		}
		tbl.Keys[digest(2)], tbl.Revision = nil, tbl.Revision+1
		publish(t, s, tbl)
		time.Sleep(2 * time.Minute)
		if got, want := there(first), len(first.parts)-1; got > want {
			t.Errorf("six minutes later: %d parts are there, want at most %d", got, want)
		}
		if got := there(second); got != len(second.parts) {
			t.Errorf("two minutes later: %d of %d parts are there", got, len(second.parts))
		}
		time.Sleep(4 * time.Minute)
		if there(second) == len(second.parts) {
			t.Error("six minutes later: all parts are there, want what changed away")
		}
		// What comes back into force stays.
		old.Revision = tbl.Revision + 1
		publish(t, s, old)
		tbl.Revision += 2
		publish(t, s, tbl)
		old.Revision = tbl.Revision + 1
		publish(t, s, old)
		time.Sleep(time.Hour)
		if got := there(first); got != len(first.parts) {
			t.Errorf("in force again: %d of %d parts are there", got, len(first.parts))
		}
	})
}

// TestLargeRows has rows of which a usual number would be too large for a part.
func TestLargeRows(t *testing.T) {
	parts := func(s *server.Server) []string {
		t.Helper()
		res := get(s, "GET", table.Path)
		if res.Header.Get("Content-Type") != indexType {
			return nil
		}
		index, err := table.Decode([]byte(body(t, res)))
		if err != nil {
			t.Fatal(err)
		}
		for _, sum := range index.Parts {
			text := body(t, get(s, "GET", table.PartPath(sum)))
			if len(text) > table.MaxPartBytes || table.PartSum([]byte(text)) != sum {
				t.Errorf("part %s has %d bytes", sum, len(text))
			}
		}
		return index.Parts
	}
	large := func(name string) table.Application { return table.Application{AppID: strings.Repeat(name, 6<<20)} }
	s := dividing()
	tbl := tableOf(0)
	tbl.Applications["apps/a"], tbl.Applications["apps/b"], tbl.Applications["apps/c"] = large("a"), large("b"), large("c")
	publish(t, s, tbl)
	if got := len(parts(s)); got != 2 {
		t.Errorf("18 MB are in %d parts, want 2", got)
	}
	tbl.Keys[digest(1)], tbl.Revision = nil, tbl.Revision+1
	if err := s.Publish(tbl, &compile.Change{Keys: []string{digest(1)}}, nil); err != nil {
		t.Fatal(err)
	}
	if got := len(parts(s)); got != 2 {
		t.Errorf("then in %d parts, want 2", got)
	}

	var log bytes.Buffer
	s = server.New(server.Options{Log: slog.New(slog.NewTextHandler(&log, nil)), PartsAbove: 1})
	tbl = tableOf(1)
	tbl.Applications["apps/a"] = table.Application{AppID: strings.Repeat("a", table.MaxPartBytes)}
	publish(t, s, tbl)
	if got := parts(s); got != nil || !strings.Contains(log.String(), "the table is served as one document") {
		t.Errorf("a row of 16 MB is in %d parts, and the log says %q, want one document", len(got), &log)
	}
}

// TestPartsWhilePublishing fetches tables while others come.
func TestPartsWhilePublishing(t *testing.T) {
	s := dividing()
	tbl := tableOf(500)
	publish(t, s, tbl)
	done := make(chan struct{})
	var gateways sync.WaitGroup
	for range 2 {
		gateways.Go(func() {
			for last := fetch(t, s, nil); ; last = fetch(t, s, last) {
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	random := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		if err := s.Publish(tbl, edit(tbl, random), nil); err != nil {
			t.Error(err)
		}
	}
	close(done)
	gateways.Wait()
}
