package store_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
	"github.com/tollgate-apim/tollgate/controlplane/store/storetest"
)

func TestMemorySuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, test func(*testing.T, storetest.Clients)) {
		synctest.Test(t, func(t *testing.T) {
			test(t, func(t *testing.T, number int) []store.Store {
				return clientsOf(t, number, store.NewMemory(nil))
			})
		})
	})
}

func TestFileSuite(t *testing.T) {
	storetest.Run(t, func(t *testing.T, test func(*testing.T, storetest.Clients)) {
		path := filepath.Join(t.TempDir(), "state")
		synctest.Test(t, func(t *testing.T) {
			test(t, func(t *testing.T, number int) []store.Store {
				m, err := store.OpenMemory(path, nil, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				return clientsOf(t, number, m)
			})
		})
	})
}

// clientsOf is one store several times.
func clientsOf(t *testing.T, number int, s store.Store) []store.Store {
	t.Helper()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	stores := make([]store.Store, number)
	for i := range stores {
		stores[i] = s
	}
	return stores
}

func TestRedisSuite(t *testing.T) {
	server := redistest.Start(t)
	addUser(t, server)
	runOn(t, "redis://tollgate:secret@"+server.Address+"/3?")
}

func TestCluster(t *testing.T) {
	nodes := redistest.StartCluster(t, 0)
	addUser(t, nodes...)
	address := "redis-cluster://tollgate:secret@" + addresses(nodes)
	t.Run("suite", func(t *testing.T) { runOn(t, address+"?") })
	t.Run("ends", func(t *testing.T) { ends(t, address) })
	t.Run("moves", func(t *testing.T) { moves(t, nodes) })
}

func TestSentinelSuite(t *testing.T) {
	server := redistest.Start(t)
	sentinel := redistest.StartSentinel(t, "limits", server)
	runOn(t, "redis-sentinel://"+sentinel.Address+"/limits?")
}

// addUser gives servers the user that docs/serve.md shows.
func addUser(t *testing.T, servers ...*redistest.Server) {
	t.Helper()
	for _, s := range servers {
		args := []any{"acl", "setuser", "tollgate", "reset", "on", ">secret"}
		for _, right := range rights(t) {
			args = append(args, right)
		}
		if err := s.Client().Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func addresses(servers []*redistest.Server) string {
	list := make([]string, len(servers))
	for i, s := range servers {
		list[i] = s.Address
	}
	return strings.Join(list, ",")
}

// runOn runs the suite at an address that goes on with parameters.
func runOn(t *testing.T, address string) {
	t.Helper()
	var tests atomic.Int64
	storetest.Run(t, func(t *testing.T, test func(*testing.T, storetest.Clients)) {
		test(t, func(t *testing.T, number int) []store.Store {
			prefix := fmt.Sprintf("prefix=tollgate:test%d", tests.Add(1))
			stores := make([]store.Store, number)
			for i := range stores {
				stores[i] = open(t, address+prefix, store.Options{})
			}
			return stores
		})
	})
}

// open returns the store at an address, which is closed when the test ends.
func open(t *testing.T, address string, o store.Options) store.Store {
	t.Helper()
	a, err := store.ParseAddress(address)
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s, err := store.Open(a, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
