package store_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

func TestWithin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		short, end := store.Within(parent, time.Second)
		defer end()
		long, end := store.Within(parent, time.Hour)
		defer end()
		cancel()
		before := time.Now()
		if short.Err() != nil || long.Err() != nil {
			t.Error("they end with the one that they were made of")
		}
		<-short.Done()
		if got := time.Since(before); got != time.Second {
			t.Errorf("got %s, want a second", got)
		}
		<-long.Done()
		if got := time.Since(before); got != 3*time.Second || !errors.Is(long.Err(), context.DeadlineExceeded) {
			t.Errorf("got %s, %v, want the other's deadline", got, long.Err())
		}
	})
}
