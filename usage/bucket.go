package usage

import (
	"fmt"
	"math"
	"time"
)

// Limits that gateways share ride on reports. A gateway tells of each bucket that it
// holds something of, or wants something of, with an Entry; the answer has a Share
// for each Entry that can be answered.

// MaxEntries is how many entries a report has at most. A gateway with more of them
// tells the others with the next reports.
const MaxEntries = 1 << 12

// Kinds of buckets.
const (
	KindRate  = "rate"
	KindQuota = "quota"
)

// maxBucket is how many bytes the name of a bucket has at most: it is made of three
// names.
const maxBucket = 4 * maxText

// horizons is how many ranks a tenure has at most.
const horizons = 16

// What a gateway believes of a share. What was granted leaves room for what is spent
// on credit, and so many tokens can be reckoned with in nanotokens. The times bound
// what an answer that was wrong does after it was mended.
const (
	maxGranted = MaxCount / 2
	maxTokens  = 1_000_000_000
	maxLasts   = int64(time.Hour)
)

// Entry tells of one bucket. Totals count from when the gateway opened the account, so
// that whatever was lost on the way is in the next one, and one that comes twice tells
// nothing new.
type Entry struct {
	// Kind is KindRate or KindQuota, Bucket the name of the counter, as the gateway
	// finds it in its table, and Plan the namespace/name of the plan that limits it.
	Kind   string `json:"kind"`
	Bucket string `json:"bucket"`
	Plan   string `json:"plan"`

	// Account numbers what the gateway has opened for this bucket, one after the
	// other: a later one has a higher number.
	Account int64 `json:"account"`
	// Granted is the highest Share.Granted that the gateway has seen, Used what it has
	// spent or given back, Returned what it has given back, and Told the Used of the
	// last entry that was answered.
	Granted  int64 `json:"granted"`
	Used     int64 `json:"used"`
	Returned int64 `json:"returned,omitempty"`
	Told     int64 `json:"told,omitempty"`
	// Wanted is how many requests have asked, those that were refused included, in
	// the time Over before the report, in nanoseconds.
	Wanted int64 `json:"wanted,omitempty"`
	Over   int64 `json:"over"`
	// Spare is how many units the gateway would like to hold though it is idle.
	Spare int64 `json:"spare,omitempty"`
	// Part is the number of the part of a rate limit that the gateway acts on. Dropped
	// says that, as from this report, it acts on none any more, and Tokens how many
	// that part then held.
	Part    int64 `json:"part,omitempty"`
	Dropped bool  `json:"dropped,omitempty"`
	Tokens  int64 `json:"tokens,omitempty"`
}

// Share answers an Entry.
type Share struct {
	Kind   string `json:"kind"`
	Bucket string `json:"bucket"`
	// Account is that of the entry.
	Account int64 `json:"account"`
	// Granted is how many units the gateway was ever given for this account.
	Granted int64 `json:"granted"`
	// Keep is how many unspent units it may go on holding. What is above it is to be
	// given back with the next report, because others wait for it.
	Keep int64 `json:"keep"`
	// Lasts is for how long all this lasts, in nanoseconds from when the gateway sent
	// the report.
	Lasts int64 `json:"lasts"`
	// Part numbers the gateway's part of a rate limit: a token bucket of its own that
	// holds Capacity tokens and makes one in each Interval nanoseconds. A part that is
	// new to the gateway takes the place of the last one, keeps the tokens of that and
	// gets Fill more, up to its capacity. Interval 0 is no part.
	Part     int64 `json:"part,omitempty"`
	Interval int64 `json:"interval,omitempty"`
	Capacity int64 `json:"capacity,omitempty"`
	Fill     int64 `json:"fill,omitempty"`
	// Left is how much the plan has left besides what gateways hold, for nobody in
	// particular, and Reset in how many nanoseconds that will next grow.
	Left  int64 `json:"left"`
	Reset int64 `json:"reset"`
	// Tell is how many nanoseconds are to pass, from when the gateway sent the report,
	// until it tells what it has used since; 0 is until its next usual report.
	Tell int64 `json:"tell,omitempty"`
	// After is in how many nanoseconds the last of the units may be used that are new to
	// the gateway; 0 is at once.
	After int64 `json:"after,omitempty"`
}

// Tenure is what a control plane knows a gateway as, for as long as the two hear of
// each other.
type Tenure struct {
	// Number tells tenures apart. A gateway that is told another than before gives up
	// all its accounts and opens new ones.
	Number int64 `json:"number"`
	// Ranks say which standing credits the gateway has, in order of horizons; 0 has
	// none.
	Ranks []int64 `json:"ranks"`
	// Lasts is for how long the standing credits may be used, in nanoseconds from when
	// the gateway sent the report.
	Lasts int64 `json:"lasts"`
	// Gateways is how many gateways share limits at present, this one included; 0 if
	// that is not known.
	Gateways int64 `json:"gateways,omitempty"`
}

func validateEntry(e *Entry) error {
	if e.Kind != KindRate && e.Kind != KindQuota {
		return fmt.Errorf("kind: %.40q, must be %s or %s", e.Kind, KindRate, KindQuota)
	}
	if e.Bucket == "" || len(e.Bucket) > maxBucket {
		return fmt.Errorf("bucket: has %d bytes, must have from 1 to %d", len(e.Bucket), maxBucket)
	}
	if e.Plan == "" || len(e.Plan) > maxText {
		return fmt.Errorf("plan: has %d bytes, must have from 1 to %d", len(e.Plan), maxText)
	}
	if e.Account < 1 || e.Account > MaxCount {
		return fmt.Errorf("account: %d, must be from 1 to %d", e.Account, int64(MaxCount))
	}
	for _, n := range []struct {
		field       string
		value, most int64
	}{
		{"granted", e.Granted, MaxCount},
		{"used", e.Used, MaxCount},
		{"returned", e.Returned, MaxCount},
		{"told", e.Told, MaxCount},
		{"wanted", e.Wanted, MaxCount},
		{"over", e.Over, math.MaxInt64},
		{"spare", e.Spare, MaxCount},
		{"part", e.Part, MaxCount},
		{"tokens", e.Tokens, MaxCount},
	} {
		if n.value < 0 || n.value > n.most {
			return fmt.Errorf("%s: %d, must be from 0 to %d", n.field, n.value, n.most)
		}
	}
	return nil
}

// validateShare checks the numbers that a gateway reckons with, so that a control plane
// that is out of order cannot make its sums overflow.
func validateShare(s *Share) error {
	const most = math.MaxInt64 / 4
	for _, n := range []struct {
		field       string
		value, most int64
	}{
		{"account", s.Account, MaxCount},
		{"granted", s.Granted, maxGranted},
		{"keep", s.Keep, most},
		{"lasts", s.Lasts, maxLasts},
		{"part", s.Part, MaxCount},
		{"interval", s.Interval, most},
		{"capacity", s.Capacity, maxTokens},
		{"fill", s.Fill, maxTokens},
		{"left", s.Left, most},
		{"reset", s.Reset, math.MaxInt64},
		{"tell", s.Tell, maxLasts},
		{"after", s.After, maxLasts},
	} {
		if n.value < 0 || n.value > n.most {
			return fmt.Errorf("%s: %d, must be from 0 to %d", n.field, n.value, n.most)
		}
	}
	if s.Interval > 0 && s.Capacity > most/s.Interval {
		return fmt.Errorf("capacity: %d, must be at most %d with this interval", s.Capacity, most/s.Interval)
	}
	return nil
}

func validateTenure(t *Tenure) error {
	if t.Number < 1 || t.Number > MaxCount {
		return fmt.Errorf("tenure.number: %d, must be from 1 to %d", t.Number, int64(MaxCount))
	}
	if len(t.Ranks) > horizons {
		return fmt.Errorf("tenure.ranks: %d, must be at most %d", len(t.Ranks), horizons)
	}
	for i, rank := range t.Ranks {
		if rank < 0 || rank > MaxCount {
			return fmt.Errorf("tenure.ranks[%d]: %d, must be from 0 to %d", i, rank, int64(MaxCount))
		}
	}
	if t.Lasts < 0 || t.Lasts > maxLasts {
		return fmt.Errorf("tenure.lasts: %d, must be from 0 to %d", t.Lasts, maxLasts)
	}
	if t.Gateways < 0 || t.Gateways > MaxCount {
		return fmt.Errorf("tenure.gateways: %d, must be from 0 to %d", t.Gateways, int64(MaxCount))
	}
	return nil
}
