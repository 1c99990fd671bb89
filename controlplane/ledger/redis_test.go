package ledger

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/controlplane/store/redistest"
)

// TestRedis has gateways report to two control planes on one Redis, which is paused
// and resumed all the while. Each report is sent until it is taken, at one control
// plane after the other.
func TestRedis(t *testing.T) {
	server := redistest.Start(t)
	address, err := store.ParseAddress("redis://" + server.Address + "?timeout=300ms")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	var ledgers []*Ledger
	for range 2 {
		s, err := store.Open(address, store.Options{Log: log})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		ledgers = append(ledgers, New(Options{Store: s, Log: log}))
	}
	const gateways, reports, pauses = 4, 150, 3
	var done sync.WaitGroup
	var taken, failed atomic.Int64
	happened, ended := make(chan struct{}, 1), make(chan struct{})
	count := func(what *atomic.Int64) {
		what.Add(1)
		select {
		case happened <- struct{}{}:
		default:
		}
	}
	// await returns when there are so many, or when all has ended.
	await := func(what *atomic.Int64, number int64) {
		for what.Load() < number {
			select {
			case <-happened:
			case <-ended:
				return
			}
		}
	}
	for g := range gateways {
		done.Go(func() {
			for n := int64(1); n <= reports; n++ {
				for try := 0; ; try++ {
					_, err := ledgers[(g+int(n)+try)%2].Take(t.Context(), report(g, n, n))
					if err == nil {
						break
					}
					if !errors.Is(err, ErrStore) {
						t.Errorf("gateway %d, report %d: %v", g, n, err)
						return
					}
					count(&failed)
				}
				count(&taken)
			}
		})
	}
	go func() {
		done.Wait()
		close(ended)
	}()
	// Redis stands still until somebody has noticed, each time after more reports.
	for pause := range int64(pauses) {
		await(&taken, (pause+1)*gateways*reports/(pauses+1))
		server.Pause()
		await(&failed, failed.Load()+2)
		server.Resume()
	}
	<-ended
	for _, l := range ledgers {
		l.tend(t.Context())
		if got := l.Reports(); l.doubts.count != 0 || got.Lost != 0 {
			t.Errorf("%d doubts, %+v", l.doubts.count, got)
		}
	}
	if got, want := total(ledgers...), int64(gateways*reports*(reports+1)/2); got != want {
		t.Errorf("counted %d requests, want %d", got, want)
	}
	if failed.Load() == 0 {
		t.Error("nothing has failed")
	}
}
