package yaegi

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// TestTablesAreLetGo: of many tables that came one after another, the last one
// stays in memory. Yaegi keeps the frames of a function for as long as anything
// refers to a func value that was made there, so it is easy to keep them all.
func TestTablesAreLetGo(t *testing.T) {
	for _, test := range []struct {
		name   string
		handle func(revision int64, w http.ResponseWriter, r *http.Request)
		set    func(sync reflect.Value)
		parts  int // 0 for one document
	}{
		{"plain", func(int64, http.ResponseWriter, *http.Request) {}, func(reflect.Value) {}, 0},
		{"in parts", func(int64, http.ResponseWriter, *http.Request) {}, func(reflect.Value) {}, 32},
		{"failures", func(revision int64, w http.ResponseWriter, _ *http.Request) {
			if revision%2 == 0 {
				w.Header().Set("Tollgate-Signature", "unexpected")
			}
		}, func(reflect.Value) {}, 0},
		{"waiting", func(revision int64, w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", fmt.Sprintf(`"%d"`, revision))
			if prefer := r.Header.Get("Prefer"); prefer != "" {
				w.Header().Set("Preference-Applied", prefer)
			}
		}, func(reflect.Value) {}, 0},
		{"cached", func(int64, http.ResponseWriter, *http.Request) {}, func(sync reflect.Value) {
			sync.FieldByName("CacheFile").SetString(filepath.Join(t.TempDir(), "table.cache"))
		}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !alone(t) {
				return
			}
			letGo(t, test.handle, test.set, test.parts)
		})
	}
}

// letGo has a gateway of some sync settings poll a new table each time, of which
// handle writes the header. If it comes in parts, each of them is a new one too.
func letGo(t *testing.T, handle func(int64, http.ResponseWriter, *http.Request), set func(sync reflect.Value), parts int) {
	t.Helper()
	const tables, size = 12, 4 << 20
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	var arrived, polls atomic.Int64
	var rest sync.RWMutex                       // write-locked while no poll is answered
	var texts atomic.Pointer[map[string][]byte] // of the parts that were listed last
	title := strings.Repeat("x", size)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			stack.TakeReport(w, r, 100*time.Millisecond)
			return
		}
		if sum, ok := strings.CutPrefix(r.URL.Path, "/v1/parts/"); ok {
			_, _ = w.Write((*texts.Load())[sum])
			return
		}
		arrived.Add(1)
		rest.RLock()
		defer rest.RUnlock()
		revision := polls.Add(1)
		handle(revision, w, r)
		head := fmt.Sprintf(`"revision":%d,"issuedAt":"2026-11-21T17:00:00Z","plans":{"apps/p":{"title":"%s"}},"apis":{},"subscriptions":{}`, revision, title)
		if parts == 0 {
			fmt.Fprintf(w, `{%s,"applications":{},"keys":{}}`, head)
			return
		}
		var applications []string
		for n := range 50 * parts {
			applications = append(applications, fmt.Sprintf(`"apps/%d":{"appId":"%d"}`, n, revision))
		}
		index, divided, err := stack.SplitTable(fmt.Appendf(nil, `{%s,"applications":{%s},"keys":{}}`, head, strings.Join(applications, ",")), parts)
		if err != nil || len(divided) != parts {
			t.Errorf("%d parts: %v", len(divided), err)
			return
		}
		texts.Store(&divided)
		_, _ = w.Write(index)
	}))
	t.Cleanup(server.Close)
	handler := newHandlerWith(t, gopath, server.URL, http.NotFoundHandler(), func(sync reflect.Value) {
		sync.FieldByName("Interval").SetString("100ms")
		set(sync)
	})
	after := func(n int64) uint64 {
		err := stack.Until(t.Context(), "polls", time.Minute, func() error {
			if got := polls.Load(); got < n {
				return fmt.Errorf("%d of %d polls", got, n)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// What a poll needs while it lasts is not to be measured: the next one has
		// come, so the one before it is over, and has to wait.
		rest.Lock()
		defer rest.Unlock()
		err = stack.Until(t.Context(), "the next poll", time.Minute, func() error {
			if arrived.Load() <= polls.Load() {
				return errors.New("it has not come")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return settledHeap().HeapAlloc
	}
	before := after(5)
	grown := int64(after(5+tables)) - int64(before)
	t.Logf("%d tables of %d MB: the heap grew by %d MB", tables, size>>20, grown>>20)
	if grown > tables*size/2 {
		t.Errorf("the heap grew by %d MB through %d tables of %d MB", grown>>20, tables, size>>20)
	}
	runtime.KeepAlive(handler)
}

// TestFirstTableIsLetGo: the table that was there when a middleware was made, from
// a cache file, goes when another comes.
func TestFirstTableIsLetGo(t *testing.T) {
	if !alone(t) {
		return
	}
	const size = 64 << 20
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	title := strings.Repeat("x", size)
	body := func(revision int) string {
		return fmt.Sprintf(`{"revision":%d,"issuedAt":"2026-11-21T17:00:00Z","plans":{"apps/p":{"title":"%s"}},
			"apis":{},"subscriptions":{},"applications":{},"keys":{}}`, revision, title)
	}
	var open atomic.Bool
	var polls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			// A table in answer to a report would be measured too.
			stack.TakeReport(w, r, 100*time.Millisecond)
			return
		}
		if !open.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", `"2"`)
		if r.Header.Get("If-None-Match") == `"2"` {
			polls.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(w, body(2))
	}))
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "table.cache")
	writeCacheFile(t, file, server.URL, body(1))
	handler := newHandlerWith(t, gopath, server.URL, http.NotFoundHandler(), func(sync reflect.Value) {
		sync.FieldByName("Interval").SetString("100ms")
		sync.FieldByName("CacheFile").SetString(file)
	})
	err := stack.Until(t.Context(), "the kept table", time.Minute, func() error {
		c := newCall("")
		if c.serve(handler); c.status != http.StatusUnauthorized {
			return fmt.Errorf("got status %d, so it is not in force", c.status)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	before := settledHeap().HeapAlloc
	open.Store(true)
	err = stack.Until(t.Context(), "the second table", time.Minute, func() error {
		if polls.Load() < 3 {
			return errors.New("it is not in force")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	// While the second table is sent, or written to the file, there is more of it.
	err = stack.Until(t.Context(), "the first table's end", 20*time.Second, func() error {
		if after := settledHeap().HeapAlloc; after > before+size/2 {
			return fmt.Errorf("the heap has %d MB with the first table and %d MB with the second", before>>20, after>>20)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	runtime.KeepAlive(handler)
}

// writeCacheFile writes what a gateway keeps of a table of revision 1.
func writeCacheFile(t *testing.T, file, endpoint, body string) {
	t.Helper()
	line := fmt.Sprintf(`{"confirmed":"2026-11-21T17:00:00Z","format":"tollgate table cache 1","endpoint":%q,"etag":"","revision":1,"bytes":%d,"sha256":"%x"}`+"\n",
		endpoint, len(body), sha256.Sum256([]byte(body)))
	if err := os.WriteFile(file, []byte(line+body), 0o600); err != nil {
		t.Fatal(err)
	}
}
