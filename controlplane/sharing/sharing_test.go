package sharing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/table"
	"github.com/tollgate-apim/tollgate/usage"
)

var start = time.Date(2026, 11, 22, 1, 0, 0, 0, time.UTC)

const second = int64(time.Second)

// clock is one that tests set.
type clock struct{ time.Time }

func (c *clock) now() time.Time { return c.Time }

func (c *clock) pass(d time.Duration) { c.Time = c.Add(d) }

var plans = map[string]table.Plan{
	"apps/quota":   {Quota: &table.Quota{Limit: 1000, Period: "1h"}},
	"apps/rate":    {RateLimit: &table.RateLimit{Limit: 100, Period: "1s"}},
	"apps/slow":    {RateLimit: &table.RateLimit{Limit: 1, Period: "1m", Burst: 30}},
	"apps/none":    {},
	"apps/nothing": {Quota: &table.Quota{Limit: 0, Period: "1h"}},
	"apps/free":    {RateLimit: &table.RateLimit{Limit: 0, Period: "1s"}},
}

// newSharing returns a Sharing that does not wait.
func newSharing(s store.Store, c *clock, log *bytes.Buffer) *Sharing {
	logger := slog.New(slog.DiscardHandler)
	if log != nil {
		logger = slog.New(slog.NewTextHandler(log, nil))
	}
	sharing := New(Options{Store: s, Log: logger, Now: c.now})
	sharing.pause = func(context.Context, time.Duration) {}
	sharing.UsePlans(plans)
	return sharing
}

func instance(n int) string { return fmt.Sprintf("%032x", n) }

// end is a gateway's side.
type end struct {
	t        *testing.T
	instance string
	tenure   int64
	sequence int64
}

func (e *end) report(entries ...usage.Entry) *usage.Report {
	e.sequence++
	return &usage.Report{Instance: e.instance, Sequence: e.sequence, Sharing: true, Tenure: e.tenure, Entries: entries}
}

// begin returns a gateway that has a tenure.
func begin(t *testing.T, s *Sharing, n int) *end {
	t.Helper()
	e := &end{t: t, instance: instance(n)}
	told, given, err := s.Settle(t.Context(), e.report())
	if err != nil || told == nil || len(given) != 0 {
		t.Fatalf("got %+v, %+v, %v, want a tenure", told, given, err)
	}
	e.tenure = told.Number
	return e
}

// ask settles one entry and returns its share.
func (e *end) ask(s *Sharing, entry usage.Entry) usage.Share {
	e.t.Helper()
	_, given, err := s.Settle(e.t.Context(), e.report(entry))
	if err != nil || len(given) != 1 {
		e.t.Fatalf("got %+v, %v, want a share", given, err)
	}
	return given[0]
}

// wants is an entry that wants so many units of a quota.
func wants(n int64) usage.Entry {
	return usage.Entry{Kind: usage.KindQuota, Bucket: "b", Plan: "apps/quota", Account: 1, Wanted: n, Over: second}
}

func TestSettle(t *testing.T) {
	c := &clock{start}
	s := newSharing(store.NewMemory(c.now), c, nil)
	if told, given, err := s.Settle(t.Context(), &usage.Report{Instance: instance(9), Sequence: 1}); told != nil || given != nil || err != nil {
		t.Errorf("one that does not share limits: got %v, %v, %v", told, given, err)
	}
	e := begin(t, s, 1)
	told, given, err := s.Settle(t.Context(), e.report(
		wants(10),
		usage.Entry{Kind: usage.KindRate, Bucket: "b", Plan: "apps/rate", Account: 2, Wanted: 50, Over: second},
		usage.Entry{Kind: usage.KindRate, Bucket: "b", Plan: "apps/quota", Account: 3, Wanted: 50, Over: second},
		usage.Entry{Kind: usage.KindQuota, Bucket: "c", Plan: "apps/none", Account: 4, Wanted: 50, Over: second},
		usage.Entry{Kind: usage.KindRate, Bucket: "d", Plan: "apps/free", Account: 5, Wanted: 50, Over: second},
		usage.Entry{Kind: usage.KindQuota, Bucket: "e", Plan: "apps/nothing", Account: 6, Wanted: 50, Over: second},
		usage.Entry{Kind: usage.KindQuota, Bucket: "f", Plan: "apps/unheard-of", Account: 7, Wanted: 50, Over: second},
	))
	if err != nil || told == nil || told.Number != e.tenure || told.Gateways != 1 || told.Lasts != int64(shares.TenureLife) {
		t.Fatalf("got %+v, %v", told, err)
	}
	if len(given) != 3 {
		t.Fatalf("got %+v, want 3 shares", given)
	}
	if g := given[0]; g.Kind != usage.KindQuota || g.Bucket != "b" || g.Account != 1 || g.Granted != 20 || g.Lasts != int64(shares.Life) {
		t.Errorf("quota: got %+v", g)
	}
	if g := given[1]; g.Kind != usage.KindRate || g.Bucket != "b" || g.Account != 2 || g.Part != 1 || g.Interval == 0 || g.Capacity == 0 {
		t.Errorf("rate limit: got %+v", g)
	}
	if g := given[2]; g.Bucket != "e" || g.Granted != 0 {
		t.Errorf("a quota of nothing: got %+v", g)
	}
	if got, want := s.Entries(), (Entries{Settled: 3, Unknown: 4}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	buckets := s.Buckets()
	if len(buckets) != 3 || s.Busiest(1)[0].Name != "e" {
		t.Fatalf("got %+v", buckets)
	}
	for _, b := range buckets {
		if b.Kind == usage.KindQuota && b.Name == "b" && (b.Remaining != 980 || b.Used != .02 || b.Plan != "apps/quota" || b.Limit != 1000 || !b.SettledAt.Equal(start)) {
			t.Errorf("got %+v", b)
		}
		if b.Kind == usage.KindRate && (b.Used < .4 || b.Used > .7) {
			t.Errorf("got %+v", b)
		}
	}
	c.pass(forgetAfter)
	if got := s.Buckets(); len(got) != 0 {
		t.Errorf("later: got %+v", got)
	}
}

// TestOtherTenure has entries that are of a tenure that is over.
func TestOtherTenure(t *testing.T) {
	c := &clock{start}
	s := newSharing(store.NewMemory(c.now), c, nil)
	e := begin(t, s, 1)
	e.ask(s, wants(10))
	before := e.tenure
	c.pass(2 * shares.TenureLife)
	told, given, err := s.Settle(t.Context(), e.report(wants(10)))
	if err != nil || told == nil || told.Number == before || len(given) != 0 {
		t.Errorf("got %+v, %+v, %v, want another tenure alone", told, given, err)
	}
}

// TestRepeat has a report arrive twice, at both control planes.
func TestRepeat(t *testing.T) {
	c := &clock{start}
	m := store.NewMemory(c.now)
	a, b := newSharing(m, c, nil), newSharing(m, c, nil)
	e := begin(t, a, 1)
	r := e.report(wants(100))
	for _, s := range []*Sharing{a, a, b, a} {
		_, given, err := s.Settle(t.Context(), r)
		if err != nil || len(given) != 1 || given[0].Granted != 200 {
			t.Errorf("got %+v, %v, want 200 units granted in all", given, err)
		}
	}
	spent := wants(0)
	spent.Granted, spent.Used = 200, 150
	e.ask(b, spent)
	e.ask(a, spent)
	other := begin(t, b, 2)
	if got := other.ask(b, wants(10_000)); got.Granted != 1000-31-200 {
		t.Errorf("got %+v, want what is left", got)
	}
}

// TestTwice has two entries of one bucket in a report.
func TestTwice(t *testing.T) {
	c := &clock{start}
	s := newSharing(store.NewMemory(c.now), c, nil)
	e := begin(t, s, 1)
	_, given, err := s.Settle(t.Context(), e.report(wants(10), wants(10)))
	if err != nil || len(given) != 2 || given[0].Granted != 20 || given[1].Granted != 20 {
		t.Errorf("got %+v, %v", given, err)
	}
}

// faulty is a store that does not always answer.
type faulty struct {
	store.Store
	get, swap func() error // before; nil lets it be
	after     func() error // what is said of a swap that was made
	between   func()       // what happens before a swap
}

var errAway = errors.New("away")

func (f *faulty) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	if f.get != nil {
		if err := f.get(); err != nil {
			return nil, time.Time{}, err
		}
	}
	return f.Store.Get(ctx, keys...)
}

func (f *faulty) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	if f.get != nil {
		if err := f.get(); err != nil {
			return nil, time.Time{}, err
		}
	}
	return f.Store.GetChanged(ctx, known...)
}

func (f *faulty) Swap(ctx context.Context, changes ...store.Change) ([]int64, error) {
	if f.between != nil {
		f.between()
	}
	if f.swap != nil {
		if err := f.swap(); err != nil {
			return nil, err
		}
	}
	made, err := f.Store.Swap(ctx, changes...)
	if f.after != nil {
		if err := f.after(); err != nil {
			return nil, err
		}
	}
	return made, err
}

// times fails so many times.
func times(n int) func() error {
	return func() error {
		if n == 0 {
			return nil
		}
		n--
		return errAway
	}
}

const always = 1 << 30

func TestStoreFails(t *testing.T) {
	for _, test := range []struct {
		name    string
		fail    func(f *faulty)
		refused bool // there is no share
		granted bool // though the store has one
	}{
		{"reading", func(f *faulty) { f.get = times(always) }, true, false},
		{"reading once", func(f *faulty) { f.get = times(1) }, false, false},
		{"before writing", func(f *faulty) { f.swap = times(always) }, true, false},
		{"before writing once", func(f *faulty) { f.swap = times(1) }, false, false},
		{"after writing", func(f *faulty) { f.after = times(always) }, true, true},
		{"after writing once", func(f *faulty) { f.after = times(1) }, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, log := &clock{start}, &bytes.Buffer{}
			f := &faulty{Store: store.NewMemory(c.now)}
			a, b := newSharing(f, c, log), newSharing(f.Store, c, nil)
			e, other := begin(t, a, 1), begin(t, b, 2)
			test.fail(f)
			_, given, err := a.Settle(t.Context(), e.report(wants(400)))
			if test.refused != errors.Is(err, ErrStore) || test.refused != (len(given) == 0) {
				t.Fatalf("got %+v, %v", given, err)
			}
			if test.refused != strings.Contains(log.String(), "no shares of limits can be given") {
				t.Errorf("logged %s", log)
			}
			if got := a.Entries().Failed > 0; got != test.refused {
				t.Errorf("got %+v", a.Entries())
			}
			// What the gateway may have got counts for others.
			want := int64(1000 - 31)
			if !test.refused || test.granted {
				want -= 800
			}
			entry := wants(10_000)
			if got := other.ask(b, entry); got.Granted != want {
				t.Errorf("another got %d, want %d", got.Granted, want)
			}
			f.get, f.swap, f.after = nil, nil, nil
			if got := e.ask(a, wants(400)); got.Granted != 969-want {
				t.Errorf("then got %d, want %d", got.Granted, 969-want)
			}
			if test.refused && !strings.Contains(log.String(), "given again") {
				t.Errorf("logged %s", log)
			}
		})
	}
}

// TestRegistryFails has the store fail when a gateway begins.
func TestRegistryFails(t *testing.T) {
	for _, test := range []struct {
		name string
		fail func(f *faulty)
		none bool
	}{
		{"reading", func(f *faulty) { f.get = times(always) }, true},
		{"before writing", func(f *faulty) { f.swap = times(always) }, true},
		{"before writing once", func(f *faulty) { f.swap = times(1) }, false},
		{"after writing", func(f *faulty) { f.after = times(always) }, false}, // It is read again.
		{"after writing once", func(f *faulty) { f.after = times(1) }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := &clock{start}
			f := &faulty{Store: store.NewMemory(c.now)}
			a, b := newSharing(f, c, nil), newSharing(f.Store, c, nil)
			test.fail(f)
			told, _, err := a.Settle(t.Context(), (&end{instance: instance(1)}).report())
			if test.none != (told == nil) || test.none != errors.Is(err, ErrStore) {
				t.Fatalf("got %+v, %v", told, err)
			}
			f.get, f.swap, f.after = nil, nil, nil
			first, again, other := begin(t, a, 1), begin(t, b, 1), begin(t, b, 2)
			if first.tenure != again.tenure || first.tenure == other.tenure {
				t.Errorf("got the tenures %d, %d and %d", first.tenure, again.tenure, other.tenure)
			}
		})
	}
}

// TestTenureOutlivesStore has a tenure that cannot be extended for a while.
func TestTenureOutlivesStore(t *testing.T) {
	c := &clock{start}
	f := &faulty{Store: store.NewMemory(c.now)}
	s := newSharing(f, c, nil)
	e := begin(t, s, 1)
	c.pass(2 * time.Minute)
	f.swap = func() error { return errAway }
	if told, _, err := s.Settle(t.Context(), e.report()); err != nil || told == nil || told.Number != e.tenure || told.Lasts != int64(3*time.Minute) {
		t.Errorf("got %+v, %v", told, err)
	}
	c.pass(3 * time.Minute)
	if told, _, err := s.Settle(t.Context(), e.report()); err == nil || told != nil {
		t.Errorf("got %+v, %v, want none", told, err)
	}
	f.swap = nil
	if told, _, err := s.Settle(t.Context(), e.report()); err != nil || told == nil || told.Lasts != int64(shares.TenureLife) {
		t.Errorf("got %+v, %v", told, err)
	}
}

// TestRegistryIsSpared has reports that need not look into the registry.
func TestRegistryIsSpared(t *testing.T) {
	c := &clock{start}
	f := &faulty{Store: store.NewMemory(c.now)}
	s := newSharing(f, c, nil)
	e := begin(t, s, 1)
	f.between = func() { t.Error("the registry is written") }
	for range 59 {
		c.pass(time.Second)
		if told, _, err := s.Settle(t.Context(), e.report()); err != nil || told.Number != e.tenure {
			t.Fatalf("got %+v, %v", told, err)
		}
	}
	written := 0
	f.between = func() { written++ }
	for range 600 {
		c.pass(time.Second)
		if told, _, err := s.Settle(t.Context(), e.report()); err != nil || told.Number != e.tenure {
			t.Fatalf("got %+v, %v", told, err)
		}
	}
	if written < 9 || written > 11 {
		t.Errorf("written %d times in ten minutes", written)
	}
}

// TestRace has another control plane settle between reading and writing.
func TestRace(t *testing.T) {
	c := &clock{start}
	m := store.NewMemory(c.now)
	f := &faulty{Store: m}
	a, b := newSharing(f, c, nil), newSharing(m, c, nil)
	e, other := begin(t, a, 1), begin(t, b, 2)
	races := 0
	entry := wants(100)
	f.between = func() {
		if races++; races < 4 {
			entry.Wanted++ // Anything: each changes the record.
			other.ask(b, entry)
		}
	}
	rate := usage.Entry{Kind: usage.KindRate, Bucket: "b", Plan: "apps/rate", Account: 2, Wanted: 50, Over: second}
	_, given, err := a.Settle(t.Context(), e.report(wants(100), rate))
	if err != nil || len(given) != 2 || races != 4 {
		t.Fatalf("after %d races: got %+v, %v", races, given, err)
	}
	if got := other.ask(b, entry).Granted + given[1].Granted; got > 969 {
		t.Errorf("granted %d in all", got)
	}

	f.between = func() { entry.Wanted++; other.ask(b, entry) }
	told, given, err := a.Settle(t.Context(), e.report(wants(100), rate))
	if told == nil || len(given) != 1 || given[0].Kind != usage.KindRate || !errors.Is(err, ErrStore) {
		t.Errorf("without end: got %+v, %+v, %v", told, given, err)
	}
	if got := a.Entries(); got.Raced != 1 || got.Failed != 0 {
		t.Errorf("got %+v", got)
	}
}

// TestRegistryRace has two gateways begin at the same time.
func TestRegistryRace(t *testing.T) {
	c := &clock{start}
	m := store.NewMemory(c.now)
	f := &faulty{Store: m}
	a, b := newSharing(f, c, nil), newSharing(m, c, nil)
	var other *end
	f.between = func() {
		if other == nil {
			other = begin(t, b, 2)
		}
	}
	if e := begin(t, a, 1); e.tenure == other.tenure {
		t.Errorf("both have the tenure %d", e.tenure)
	}
	n := 2
	f.between = func() { n++; begin(t, b, n) }
	told, _, err := a.Settle(t.Context(), (&end{instance: instance(1000)}).report())
	if told != nil || !errors.Is(err, ErrStore) {
		t.Errorf("got %+v, %v", told, err)
	}
}

func put(t *testing.T, s store.Store, key, data string) {
	t.Helper()
	values, _, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := s.Swap(t.Context(), store.Change{Key: key, Version: values[0].Version, Data: []byte(data)})
	if err != nil || made[0] == 0 {
		t.Fatalf("got %v, %v", made, err)
	}
}

func TestUnreadable(t *testing.T) {
	for _, bad := range []string{"", "{}", "[1,1]", "[1,2,3]", "null", "[2,1,0,0,0,0,0]"} {
		c, log := &clock{start}, &bytes.Buffer{}
		m := store.NewMemory(c.now)
		s := newSharing(m, c, log)
		e := begin(t, s, 1)
		if bad == "" {
			continue // That is as good as none.
		}
		put(t, m, "share/quota/b", bad)
		good := wants(10)
		good.Bucket = "good"
		for range 3 {
			told, given, err := s.Settle(t.Context(), e.report(wants(10), good))
			if told == nil || len(given) != 1 || given[0].Bucket != "good" || err == nil || !strings.Contains(err.Error(), "share/quota/b: decoding") {
				t.Errorf("%s: got %+v, %+v, %v", bad, told, given, err)
			}
		}
		if values, _, err := m.Get(t.Context(), "share/quota/b"); err != nil || string(values[0].Data) != bad {
			t.Errorf("%s: the record was changed, %v", bad, err)
		}
		if got := strings.Count(log.String(), "a record that is none"); got != 1 || !strings.Contains(log.String(), "key=share/quota/b") {
			t.Errorf("%s: logged %d times: %s", bad, got, log)
		}
		if got := s.Entries(); got.Unreadable != 3 || got.Settled != 3 {
			t.Errorf("%s: got %+v", bad, got)
		}
	}
}

func TestRegistryUnreadable(t *testing.T) {
	c, log := &clock{start}, &bytes.Buffer{}
	m := store.NewMemory(c.now)
	s := newSharing(m, c, log)
	e := begin(t, s, 1)
	put(t, m, "tenures", "[3,9]")
	if told, _, err := s.Settle(t.Context(), (&end{instance: instance(2)}).report()); told != nil || err == nil {
		t.Errorf("got %+v, %v, want no tenure", told, err)
	}
	e.ask(s, wants(10)) // who has one goes on
	if !strings.Contains(log.String(), "key=tenures") {
		t.Errorf("logged %s", log)
	}
	c.pass(shares.TenureLife)
	if told, given, err := s.Settle(t.Context(), e.report(wants(10))); told != nil || given != nil || err == nil {
		t.Errorf("later: got %+v, %+v, %v", told, given, err)
	}
}

// TestStoreIsEmptied has a store that loses everything while all go on.
func TestStoreIsEmptied(t *testing.T) {
	c := &clock{start}
	f := &faulty{Store: store.NewMemory(c.now)}
	s := newSharing(f, c, nil)
	e, other := begin(t, s, 1), begin(t, s, 2)
	if got := e.ask(s, wants(300)); got.Granted != 600 {
		t.Fatalf("got %+v", got)
	}
	f.Store = store.NewMemory(c.now)
	c.pass(time.Second)
	spent := wants(300)
	spent.Granted, spent.Used, spent.Told = 600, 100, 50
	// What was consumed is lost, what gateways hold is not.
	if got := e.ask(s, spent); got.Granted != 700 {
		t.Errorf("got %+v, want 100 more", got)
	}
	if got := other.ask(s, wants(10_000)); got.Granted != 969-600 {
		t.Errorf("another: got %+v", got)
	}
	// Gateways that begin now have tenures that nobody had.
	third := begin(t, s, 3)
	if third.tenure == e.tenure || third.tenure == other.tenure {
		t.Errorf("the tenure %d is given twice", third.tenure)
	}
	c.pass(90 * time.Second)
	for _, e := range []*end{e, other} {
		told, _, err := s.Settle(t.Context(), e.report())
		if err != nil || told == nil || told.Number == e.tenure {
			t.Errorf("got %+v, %v, want another tenure", told, err)
		}
	}
}

// TestTTL looks for how long consumption is remembered.
func TestTTL(t *testing.T) {
	c := &clock{start}
	m := store.NewMemory(c.now)
	s := newSharing(m, c, nil)
	e := begin(t, s, 1)
	there := func(key string) bool {
		values, _, err := m.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		return values[0].Version != 0
	}
	e.ask(s, wants(10_000))
	slow := usage.Entry{Kind: usage.KindRate, Bucket: "b", Plan: "apps/slow", Account: 2, Wanted: 100, Over: second}
	if got := e.ask(s, slow); got.Granted != 20 { // a third of 30 is set aside
		t.Errorf("got %+v", got)
	}
	for _, test := range []struct {
		after time.Duration
		key   string
		want  bool
	}{
		// The share ends after 16 seconds, and 20 tokens take 20 minutes and some more.
		{20*time.Minute + 15*time.Second, "share/rate/b", true},
		{22 * time.Minute, "share/rate/b", false},
		// What a share holds that has ended was consumed then, and leaves the window
		// after an hour and a 64th.
		{time.Hour + 72*time.Second, "share/quota/b", true},
		{time.Hour + 74*time.Second, "share/quota/b", false},
	} {
		c.Time = start.Add(test.after)
		if got := there(test.key); got != test.want {
			t.Errorf("%s later %s is there: %v", test.after, test.key, got)
		}
	}
	if !there("tenures") {
		t.Error("the registry is gone")
	}
}

// TestLongNames has buckets whose names are longer than keys may be.
func TestLongNames(t *testing.T) {
	c := &clock{start}
	s := newSharing(store.NewMemory(c.now), c, nil)
	e := begin(t, s, 1)
	for i, name := range []string{strings.Repeat("x", 4000), strings.Repeat("x", 4001)} {
		entry := wants(10_000)
		entry.Bucket, entry.Account = name, int64(i+1)
		if got := e.ask(s, entry); got.Granted != 969 || got.Bucket != name {
			t.Errorf("got %d", got.Granted)
		}
	}
}

// TestBuckets bounds what is remembered for people.
func TestBuckets(t *testing.T) {
	c := &clock{start}
	s := newSharing(store.NewMemory(c.now), c, nil)
	e := begin(t, s, 1)
	entries := make([]usage.Entry, 3000)
	for i := range entries {
		entries[i] = wants(1)
		entries[i].Bucket = fmt.Sprint(i)
	}
	if _, given, err := s.Settle(t.Context(), e.report(entries...)); err != nil || len(given) != 3000 {
		t.Fatalf("got %d shares, %v", len(given), err)
	}
	got := s.Buckets()
	if len(got) != maxBuckets || got[0].Name != "2999" || got[999].Name != "2000" || len(s.recent.by) != maxBuckets {
		t.Errorf("got %d buckets", len(got))
	}
}

// TestFull has more gateways than can share limits: the log tells so once, and that it
// is over when some of them have gone.
func TestFull(t *testing.T) {
	log := &bytes.Buffer{}
	s := newSharing(store.NewMemory(nil), &clock{start}, log)
	for _, step := range []struct {
		full  bool
		alive int64
		lines int
	}{
		{false, 4000, 0}, {true, 4096, 1}, {false, 4096, 1}, {true, 4096, 1}, {false, 4090, 1}, {true, 4096, 1},
		{false, 3000, 2}, {false, 4095, 2}, {true, 4096, 3},
	} {
		s.tenures.alive = step.alive
		s.noteFull(step.full)
		if got := strings.Count(log.String(), "\n"); got != step.lines {
			t.Errorf("%+v: logged %d lines: %s", step, got, log)
		}
	}
}
