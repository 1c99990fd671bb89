package store_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

// BenchmarkFile changes records of 500 bytes in a store with a file, one at a time by
// each of some goroutines.
func BenchmarkFile(b *testing.B) {
	for _, goroutines := range []int{1, 10, 100, 500} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			m, err := store.OpenMemory(filepath.Join(b.TempDir(), "state"), nil, slog.New(slog.DiscardHandler))
			if err != nil {
				b.Fatal(err)
			}
			var changing sync.WaitGroup
			b.ResetTimer()
			for i := range goroutines {
				changing.Go(func() {
					key := fmt.Sprint("key", i)
					for range b.N/goroutines + 1 {
						values, _, err := m.Get(b.Context(), key)
						if err != nil {
							b.Error(err)
							return
						}
						made, err := m.Swap(b.Context(), store.Change{Key: key, Version: values[0].Version, Data: bytes.Repeat([]byte("x"), 500)})
						if err != nil || made[0] == 0 {
							b.Error(made, err)
							return
						}
					}
				})
			}
			changing.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "swaps/s")
			if err := m.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
