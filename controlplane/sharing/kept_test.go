package sharing

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/controlplane/store"
)

// reading is a store that notes what data is read of a bucket.
type reading struct {
	store.Store
	data []string
}

func (r *reading) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	values, now, err := r.Store.GetChanged(ctx, known...)
	for i := range values {
		if known[i].Key == "share/quota/b" {
			r.data = append(r.data, string(values[i].Data))
		}
	}
	return values, now, err
}

// TestKept has records read only when somebody else has changed them.
func TestKept(t *testing.T) {
	c := &clock{start}
	m := store.NewMemory(c.now)
	first, second := &reading{Store: m}, &reading{Store: m}
	f := &faulty{Store: first}
	a, b := newSharing(f, c, nil), newSharing(second, c, nil)
	e, other := begin(t, a, 1), begin(t, b, 2)
	reads := func(r *reading, want int, when string) {
		t.Helper()
		got := 0
		for _, data := range r.data {
			if data != "" {
				got++
			}
		}
		r.data = nil
		if got != want {
			t.Errorf("%s: the record was read %d times, want %d", when, got, want)
		}
	}
	for range 5 {
		e.ask(a, wants(10))
	}
	if reads(first, 0, "alone"); len(first.data) != 0 {
		t.Fatal("nothing was asked for")
	}
	other.ask(b, wants(10))
	reads(second, 1, "what another has written")
	if got := e.ask(a, wants(10)); got.Left != 1000-31-20-20 {
		t.Errorf("after another: got %+v", got)
	}
	reads(first, 1, "after another")
	e.ask(a, wants(10))
	reads(first, 0, "alone again")

	// What may not have been written is not kept.
	f.after = times(1)
	e.ask(a, wants(12))
	reads(first, 1, "after an answer that was lost")
	f.between = func() {
		f.between = nil
		other.ask(b, wants(20))
	}
	if got := e.ask(a, wants(12)); got.Left != 1000-31-24-40 {
		t.Errorf("after a lost race: got %+v", got)
	}
	reads(first, 1, "after a lost race")
	put(t, m, "share/quota/b", "{}")
	if _, given, err := a.Settle(t.Context(), e.report(wants(10))); err == nil || len(given) != 0 {
		t.Errorf("a record that is none: got %+v", given)
	}
}

func TestKeptIsBounded(t *testing.T) {
	k := newKept()
	k.most = 10_000
	now := start
	for i := range 50 {
		k.put(fmt.Sprint("key", i), int64(i+1), record{quota: &shares.QuotaRecord{}}, now)
		k.put("often", int64(100+i), record{quota: &shares.QuotaRecord{}}, now)
	}
	if k.size > k.most || len(k.by) != k.order.Len() || len(k.by) < 8 || len(k.by) > 20 {
		t.Errorf("%d records of %d bytes are kept, of %d that there may be", len(k.by), k.size, k.most)
	}
	if k.known("key0").Version != 0 || k.known("key49").Version != 50 || k.known("often").Version != 149 {
		t.Error("not those are kept that were put last")
	}
	if _, ok := k.take("key49", 51); ok || k.known("key49").Version != 0 {
		t.Error("a version was taken for another, or is kept after that")
	}
	if _, ok := k.take("often", 149); !ok || k.known("often").Version != 0 {
		t.Error("was not taken")
	}
	// One by itself that is too large.
	k.most = 100
	if k.put("large", 1, record{quota: &shares.QuotaRecord{}}, now); k.size != 0 || len(k.by) != 0 {
		t.Errorf("%d bytes are kept, of 100 that there may be", k.size)
	}
	k.most = 10_000
	k.put("old", 1, record{quota: &shares.QuotaRecord{}}, now)
	k.put("new", 2, record{quota: &shares.QuotaRecord{}}, now.Add(forgetAfter))
	if k.known("old").Version != 0 || k.known("new").Version != 2 {
		t.Error("what nobody asks for is kept, or what is new is not")
	}
}

// TestKeptSize holds what records say of their size against what encoding makes of them.
func TestKeptSize(t *testing.T) {
	r := &shares.RateRecord{}
	empty := r.Size()
	for i := range int64(500) {
		r.Settle(shares.Rate{Limit: 1000, Burst: 1000, Period: time.Second}, shares.Tenure{Number: i + 1}, shares.Entry{Account: 1, Wanted: 1, Over: second}, 1000*second)
	}
	if got := r.Size() - empty; got < 500*136 || got > 1000*160 {
		t.Errorf("500 accounts are said to take %d bytes", got)
	}
}
