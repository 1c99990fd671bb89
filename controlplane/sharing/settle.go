package sharing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

// slack is for how much longer than necessary records are kept.
const slack = time.Second

// bucket is what a round has to settle of one bucket.
type bucket struct {
	key, name string
	rate      bool // else quota
	entries   []pending

	// record is that of the bucket while it is settled.
	record record
	// state is how the bucket was after it was settled.
	state Bucket
}

// pending is an entry that is to be answered.
type pending struct {
	job   *job
	entry *usage.Entry
	limit limit
	share shares.Share
}

// recordKey is where the store has the record of a bucket.
func recordKey(kind, name string) string {
	key := "share/" + kind + "/" + name
	if len(key) > store.MaxKeyBytes {
		sum := sha256.Sum256([]byte(name))
		key = "share/" + kind + "/#" + hex.EncodeToString(sum[:])
	}
	return key
}

// gather returns the buckets that jobs tell of, each once.
func (s *Sharing) gather(jobs []*job) []*bucket {
	known, unknown := s.plans.Load(), int64(0)
	of := map[[2]string]*bucket{}
	var buckets []*bucket
	for _, j := range jobs {
		if !j.registered || j.report.Tenure != j.tenure.number {
			continue // The entries are of accounts that there are none of any more.
		}
		for i := range j.report.Entries {
			e := &j.report.Entries[i]
			limit, ok := known.of(e)
			if !ok || !s.has(e.Bucket, e.Plan, limit.by) {
				unknown++
				continue
			}
			id := [2]string{e.Kind, e.Bucket}
			b := of[id]
			if b == nil {
				b = &bucket{key: recordKey(e.Kind, e.Bucket), name: e.Bucket, rate: e.Kind == usage.KindRate}
				of[id] = b
				buckets = append(buckets, b)
			}
			b.entries = append(b.entries, pending{job: j, entry: e, limit: limit})
		}
	}
	s.recent.count(func(c *Entries) { c.Unknown += unknown })
	return buckets
}

// settle answers the entries of jobs that have a tenure. It fails if the store does;
// what was settled before that stays.
func (s *Sharing) settle(ctx context.Context, jobs []*job) error {
	open := s.gather(jobs)
	if len(open) == 0 && !anyRegistered(jobs) {
		return nil
	}
	for attempt := 0; ; attempt++ {
		left, err := s.settleOnce(ctx, jobs, open)
		if len(left) == 0 && err == nil {
			return nil
		}
		if open = left; !s.again(ctx, attempt) {
			return s.unsettled(jobs, open, err)
		}
	}
}

func anyRegistered(jobs []*job) bool {
	for _, j := range jobs {
		if j.registered {
			return true
		}
	}
	return false
}

// settleOnce tries to settle buckets, and returns those that are left: another control
// plane was faster, or, with an error, nobody knows.
func (s *Sharing) settleOnce(ctx context.Context, jobs []*job, open []*bucket) (left []*bucket, err error) {
	known := make([]store.Known, len(open))
	for i, b := range open {
		known[i] = s.kept.known(b.key)
	}
	values, at, err := s.store.GetChanged(ctx, known...)
	if err != nil {
		return open, err
	}
	s.saw(at)
	now := at.UnixNano()
	for _, j := range jobs {
		if j.registered && j.tenure.ends > now {
			j.told = s.tenures.told(&j.tenure, now)
		}
	}
	changes, settled := make([]store.Change, 0, len(open)), make([]*bucket, 0, len(open))
	for i, b := range open {
		err := s.recall(b, &values[i])
		s.noteRecord(b.key, err)
		if err != nil {
			s.unreadable(b, err)
			continue
		}
		data, keep := b.settle(now)
		settled = append(settled, b)
		changes = append(changes, store.Change{Key: b.key, Version: values[i].Version, Data: data, TTL: keep + slack})
	}
	if len(changes) == 0 {
		return nil, nil
	}
	made, err := s.store.Swap(ctx, changes...)
	if err != nil {
		return settled, err
	}
	for i, b := range settled {
		if made[i] != 0 {
			s.kept.put(b.key, made[i], b.record, s.now())
			s.answer(b)
		} else {
			left = append(left, b)
		}
	}
	return left, nil
}

// recall makes the bucket's record the one that the store has.
func (s *Sharing) recall(b *bucket, v *store.Value) (err error) {
	if v.Err != nil {
		return v.Err
	}
	var ok bool
	if b.record, ok = s.kept.take(b.key, v.Version); !ok {
		b.record, err = decode(b.rate, v.Data)
	}
	return err
}

// settle settles the bucket's entries at the store's time. It returns what the store
// shall have of the record, and for how long it must be kept.
func (b *bucket) settle(now int64) (data []byte, keep time.Duration) {
	for entries := b.entries; len(entries) > 0; {
		same := 1
		for same < len(entries) && entries[same].limit == entries[0].limit && entries[same].job != entries[same-1].job {
			same++
		}
		if limit := entries[0].limit; b.rate {
			settleAll(b.record.rate, *limit.rate, entries[:same], now)
			keep = max(keep, b.record.rate.Keep(now))
		} else {
			settleAll(b.record.quota, *limit.quota, entries[:same], now)
			keep = max(keep, b.record.quota.Keep(*limit.quota, now))
		}
		entries = entries[same:]
	}
	last := &b.entries[len(b.entries)-1]
	if b.rate {
		b.state = stateOfRate(b.record.rate, *last.limit.rate, now)
	} else {
		b.state = stateOfQuota(b.record.quota, *last.limit.quota, now)
	}
	b.state.Name, b.state.Plan = b.name, last.entry.Plan
	return b.record.encode(), keep
}

// settler is what a record does for the entries of a plan P.
type settler[P any] interface {
	Take(plan P, tenure shares.Tenure, entry shares.Entry, now int64)
	Give(plan P, tenure shares.Tenure, entry shares.Entry) shares.Share
}

// settleAll settles entries by the same plan.
func settleAll[P any](record settler[P], plan P, entries []pending, now int64) {
	for i := range entries {
		if p := &entries[i]; p.alive(now) {
			record.Take(plan, p.job.tenure.at(now), entryOf(p.entry), now)
		}
	}
	for i := range entries {
		if p := &entries[i]; p.alive(now) {
			p.share = record.Give(plan, p.job.tenure.at(now), entryOf(p.entry))
		}
	}
}

// stateOfRate tells how a bucket is.
func stateOfRate(record *shares.RateRecord, plan shares.Rate, now int64) Bucket {
	return Bucket{
		Kind: usage.KindRate, Limit: plan.Limit, Period: plan.Period,
		Used: math.Round(1000*record.Saturation(plan, now)) / 1000,
	}
}

// stateOfQuota is stateOfRate for a quota.
func stateOfQuota(record *shares.QuotaRecord, plan shares.Quota, now int64) Bucket {
	consumed := record.Consumed(plan, now)
	b := Bucket{Kind: usage.KindQuota, Limit: plan.Limit, Period: plan.Period, Remaining: max(0, plan.Limit-consumed), Used: 1}
	if plan.Limit > 0 {
		b.Used = float64(consumed) / float64(plan.Limit)
	}
	return b
}

// alive reports whether the gateway still has its tenure. The entry of one that has
// not is not answered.
func (p *pending) alive(now int64) bool {
	p.share = shares.Share{}
	return p.job.tenure.ends > now
}

// answer gives a bucket's jobs their shares, which are in the store.
func (s *Sharing) answer(b *bucket) {
	var given, full int64
	for i := range b.entries {
		p := &b.entries[i]
		if p.share.Account == 0 {
			full++
			continue
		}
		given++
		p.job.shares = append(p.job.shares, shareOf(p.entry, &p.share))
	}
	b.state.SettledAt = s.now()
	s.recent.settled(b.state, func(c *Entries) { c.Settled += given; c.Full += full })
}

// unreadable notes that a bucket's record cannot be decoded: its entries get no share.
func (s *Sharing) unreadable(b *bucket, why error) {
	for i := range b.entries {
		b.entries[i].job.err = fmt.Errorf("%s: %w", b.key, why)
	}
	s.recent.count(func(c *Entries) { c.Unreadable += int64(len(b.entries)) })
}

// unsettled notes why what is open gets no share, and returns that if it is for the
// store.
func (s *Sharing) unsettled(jobs []*job, open []*bucket, why error) error {
	raced := why == nil
	if raced {
		why = errors.New("other control planes change the same records all the time")
	}
	failed := fmt.Errorf("%w: %w", ErrStore, why)
	entries := int64(0)
	for _, b := range open {
		for i := range b.entries {
			b.entries[i].job.err = failed
			entries++
		}
	}
	if raced {
		s.recent.count(func(c *Entries) { c.Raced += entries })
		return nil
	}
	for _, j := range jobs {
		if j.told == nil {
			j.err = failed
		}
	}
	s.recent.count(func(c *Entries) { c.Failed += entries })
	return failed
}

// entryOf returns an entry as package shares has it.
func entryOf(e *usage.Entry) shares.Entry {
	return shares.Entry{
		Account: e.Account, Granted: e.Granted, Used: e.Used, Returned: e.Returned, Told: e.Told,
		Wanted: e.Wanted, Over: e.Over, Spare: e.Spare, Part: e.Part, Dropped: e.Dropped, Tokens: e.Tokens,
	}
}

// shareOf returns a share as reports are answered with it.
func shareOf(e *usage.Entry, s *shares.Share) usage.Share {
	return usage.Share{
		Kind: e.Kind, Bucket: e.Bucket, Account: s.Account, Granted: s.Granted, Keep: s.Keep, Lasts: s.Lasts,
		Part: s.Part, Interval: s.Interval, Capacity: s.Capacity, Fill: s.Fill, Left: s.Left, Reset: s.Reset,
		Tell: s.Tell, After: s.After,
	}
}
