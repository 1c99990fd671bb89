package yaegi

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// TestTablesAreLetGo: of many tables that came one after another, the last one
// stays in memory. Yaegi keeps the frames of a function for as long as anything
// refers to a func value that was made there, so it is easy to keep them all.
func TestTablesAreLetGo(t *testing.T) {
	const tables, size = 20, 4 << 20
	gopath := t.TempDir()
	if _, err := stack.CopyPlugin(gopath, false, nil); err != nil {
		t.Fatal(err)
	}
	var polls atomic.Int64
	title := strings.Repeat("x", size)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"revision":%d,"issuedAt":"2026-11-21T17:00:00Z","plans":{"apps/p":{"title":"%s"}},
			"apis":{},"subscriptions":{},"applications":{},"keys":{}}`, polls.Add(1), title)
	}))
	t.Cleanup(server.Close)
	handler := newHandlerEvery(t, gopath, server.URL, "100ms", http.NotFoundHandler())
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
		return settledHeap().HeapAlloc
	}
	before := after(5)
	grown := int64(after(5+tables)) - int64(before)
	t.Logf("%d tables of %d MB: the heap grew by %d MB", tables, size>>20, grown>>20)
	if grown > tables*size/4 {
		t.Errorf("the heap grew by %d MB through %d tables of %d MB", grown>>20, tables, size>>20)
	}
	runtime.KeepAlive(handler)
}
