package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

var start = time.Date(2026, 11, 21, 17, 0, 0, 0, time.UTC)

func TestMemory(t *testing.T) {
	now := start
	m := store.NewMemory(func() time.Time { return now })
	get := func(key string) store.Value {
		t.Helper()
		values, _, err := m.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return values[0]
	}
	swap := func(key, data string, version int64, ttl time.Duration) bool {
		t.Helper()
		c := store.Change{Key: key, Version: version, TTL: ttl}
		if data != "" {
			c.Data = []byte(data)
		}
		made, err := m.Swap(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		return made[0] != 0
	}
	if v := get("k"); v.Version != 0 || v.Data != nil {
		t.Errorf("nothing: got %+v", v)
	}
	if !swap("k", "one", 0, time.Minute) || swap("k", "two", 0, time.Minute) {
		t.Error("a key was made twice, or not once")
	}
	one := get("k")
	if string(one.Data) != "one" || one.Version == 0 {
		t.Errorf("got %+v", one)
	}
	if !swap("k", "two", one.Version, time.Minute) || swap("k", "three", one.Version, time.Minute) {
		t.Error("a version was changed twice, or not once")
	}
	now = now.Add(-time.Hour) // the store's time stands still
	if _, told, _ := m.Get(t.Context()); !told.Equal(start) {
		t.Errorf("the time went back to %v", told)
	}
	now = now.Add(time.Minute - 1) // and goes on
	two := get("k")
	if string(two.Data) != "two" || two.Version == one.Version {
		t.Errorf("before it expires: got %+v after %+v", two, one)
	}
	now = now.Add(1)
	if v := get("k"); v.Version != 0 {
		t.Errorf("expired: got %+v", v)
	}
	if swap("k", "three", two.Version, 0) || !swap("k", "three", 0, 0) {
		t.Error("an expired value is not as good as none")
	}
	three := get("k")
	if three.Version == one.Version || three.Version == two.Version {
		t.Error("a version came again")
	}
	now = now.Add(10000 * time.Hour)
	if v := get("k"); v.Version != three.Version {
		t.Errorf("for ever: got %+v", v)
	}
	if !swap("k", "", three.Version, 0) || get("k").Version != 0 {
		t.Error("is still there")
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := m.Swap(ended, store.Change{Key: "k", Data: []byte("x")}); !errors.Is(err, context.Canceled) {
		t.Errorf("after its context: got %v", err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Get(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: got %v", err)
	}
}
