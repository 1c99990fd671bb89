package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/bench/record"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// TestMeasure measures everything once, on a small scale.
func TestMeasure(t *testing.T) {
	r, err := measure(t.Context(), options{
		quick: true, gateways: 3, changes: 4, waiting: 5, window: 100 * time.Millisecond, keys: 12_000, keyChanges: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	if v := r.Revocation; v == nil || len(v.Milliseconds) != 4 {
		t.Errorf("revocation: got %+v", v)
	}
	if len(r.Waiting) != 2 || r.Waiting[0].TLS || !r.Waiting[1].TLS || r.Waiting[1].Gateways != 5 {
		t.Errorf("waiting: got %+v", r.Waiting)
	}
	c := r.Change
	if c == nil || len(c.Milliseconds) != 2 {
		t.Fatalf("change: got %+v", c)
	}
	// The table is in 16 parts, of which a change moves one.
	if c.One.Bytes == 0 || c.One.Bytes > c.Whole.Bytes/8 {
		t.Errorf("a change of one key moves %d of %d bytes", c.One.Bytes, c.Whole.Bytes)
	}
	path := filepath.Join(t.TempDir(), "sync.json")
	if err := record.Save(path, r); err != nil {
		t.Fatal(err)
	}
	again := &results{}
	if err := record.Load(path, again); err != nil {
		t.Fatal(err)
	}
	if markdown(again) != markdown(r) {
		t.Errorf("read again, the results are\n%s\nwant\n%s", markdown(again), markdown(r))
	}
}

func TestPercentile(t *testing.T) {
	values := make([]float64, 200)
	for i := range values {
		values[i] = float64(200 - i)
	}
	for p, want := range map[float64]float64{50: 100, 90: 180, 99: 198, 100: 200, 0: 1} {
		if got := percentile(values, p); got != want {
			t.Errorf("%g %%: got %g, want %g", p, got, want)
		}
	}
	if got := percentile([]float64{7}, 99); got != 7 {
		t.Errorf("of one: got %g, want 7", got)
	}
}

// TestPage checks that the page tells what the results say.
func TestPage(t *testing.T) {
	root, err := stack.Root()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	r := &results{}
	err = record.Load(filepath.Join(root, "bench", "sync.json"), r)
	if errors.Is(err, os.ErrNotExist) {
		t.Fatal("bench/sync.json is missing: run make bench-sync")
	}
	if err != nil {
		t.Fatal(err)
	}
	if filled, err := record.Fill(string(page), place, markdown(r)); err != nil || filled != string(page) {
		t.Errorf("docs/performance.md is not what bench/sync.json says (%v): run make bench-sync ARGS=-render", err)
	}
}

// TestManifests checks that all keys are there, each once, and one suspended.
func TestManifests(t *testing.T) {
	const keys, suspended = 2345, 1999
	text := ""
	for file := range 3 {
		text += string(manifestOf(file, keys, suspended))
	}
	for key := range keys {
		if got := strings.Count(text, `"`+digest(key)+`"`); got != 1 {
			t.Fatalf("key %d stands there %d times", key, got)
		}
	}
	if got := strings.Count(text, digest(suspended)+`", suspended: true}`); got != 1 || strings.Count(text, "suspended") != 1 {
		t.Errorf("the key is suspended %d times", got)
	}
	if got := strings.Count(text, "kind: ManagedApplication"); got != 235 {
		t.Errorf("got %d applications, want 235", got)
	}
}

// TestAwaitFails tells what a gateway said when it gives up.
func TestAwaitFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := &plane{ControlPlane: &stack.ControlPlane{URL: "http://127.0.0.1:1"}}
	if _, err := startFleet(ctx, p, 1); err == nil {
		t.Error("got no error")
	}
}
