package sharing

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/shares"
	"github.com/tollgate-apim/tollgate/controlplane/store"
	"github.com/tollgate-apim/tollgate/usage"
)

const (
	// registryKey is where the store has the registry of tenures.
	registryKey = "tenures"
	// renewal is how long a tenure must have left at least to be believed without
	// looking into the registry. One that has less is extended by then.
	renewal = 4 * time.Minute
)

// registryTTL is for how long the registry matters when nobody changes it any more:
// until the last rank is free again.
var registryTTL = shares.Horizons[len(shares.Horizons)-1] + 2*shares.TenureLife

// tenure is one that the registry has.
type tenure struct {
	number int64
	ranks  [len(shares.Horizons)]int64
	// ends is when its standing credits end, in nanoseconds of the store's time. It
	// is alive for somewhat longer.
	ends int64
}

// tenures are those that were read from the registry lately. Nobody takes them away
// there before they have ended, so they need not be read again with each report.
type tenures struct {
	of map[shares.Instance]tenure
	// alive is how many gateways had one when the registry was last read.
	alive int64

	seen   int64     // the store's time when it was last asked
	seenAt time.Time // and ours
}

func newTenures() tenures { return tenures{of: map[shares.Instance]tenure{}} }

// estimate returns about what time it is in the store.
func (t *tenures) estimate(now time.Time) int64 {
	return t.seen + int64(max(0, now.Sub(t.seenAt)))
}

// at returns the tenure as package shares has it, at a time of the store's.
func (t *tenure) at(now int64) shares.Tenure {
	return shares.Tenure{Number: t.number, Ranks: t.ranks, Lasts: t.ends - now}
}

// told returns what a gateway is told of its tenure at a time of the store's.
func (t *tenures) told(of *tenure, now int64) *usage.Tenure {
	return &usage.Tenure{Number: of.number, Ranks: of.ranks[:], Lasts: of.ends - now, Gateways: t.alive}
}

// register gives each job its tenure, new ones if need be. Jobs without one have an
// error afterwards; register fails if that is for the store.
func (s *Sharing) register(ctx context.Context, jobs []*job) error {
	var open []*job
	now := s.tenures.estimate(s.now())
	for _, j := range jobs {
		j.tenure = s.tenures.of[j.instance]
		j.registered = j.tenure.ends > now
		if !j.registered || j.tenure.ends-now <= int64(renewal) {
			open = append(open, j)
		}
	}
	if len(open) == 0 {
		return nil
	}
	for attempt := 0; ; attempt++ {
		done, err := s.registerOnce(ctx, open)
		switch {
		case done:
			return err
		case !s.again(ctx, attempt):
			if err == nil {
				err = errors.New("others change the registry all the time")
			}
			return s.unregistered(open, fmt.Errorf("%w: %w", ErrStore, err))
		}
	}
}

// unregistered notes why jobs have no tenure, and returns that if there are any. Those
// whose tenure could not be extended still have it.
func (s *Sharing) unregistered(open []*job, why error) error {
	var failed error
	for _, j := range open {
		if !j.registered {
			j.err, failed = why, why
		}
	}
	return failed
}

// registerOnce tries to give jobs their tenures, and reports whether that is done. It
// fails if the store does.
func (s *Sharing) registerOnce(ctx context.Context, open []*job) (done bool, err error) {
	values, at, err := s.store.Get(ctx, registryKey)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrStore, err)
		return true, s.unregistered(open, err)
	}
	s.saw(at)
	now := at.UnixNano()
	registry, err := decodeRegistry(&values[0])
	s.noteRecord(registryKey, err)
	if err != nil {
		_ = s.unregistered(open, fmt.Errorf("%s: %w", registryKey, err)) // The jobs have it.
		return true, nil
	}
	given, changed := make([]tenure, len(open)), false
	for i, j := range open {
		t, more, err := registry.Register(j.instance, now)
		if err != nil {
			j.err = err
			continue
		}
		given[i] = tenure{number: t.Number, ranks: t.Ranks, ends: now + t.Lasts}
		changed = changed || more
	}
	if changed {
		made, err := s.store.Swap(ctx, store.Change{Key: registryKey, Version: values[0].Version, Data: registry.Encode(), TTL: registryTTL})
		if err != nil || made[0] == 0 {
			return false, err
		}
	}
	full := false
	for i, j := range open {
		if j.registered = given[i].number > 0; j.registered {
			j.tenure, j.err = given[i], nil
			s.tenures.of[j.instance] = given[i]
		}
		full = full || !j.registered
	}
	s.tenures.alive = int64(registry.Alive(now))
	s.noteFull(full)
	for instance, t := range s.tenures.of {
		if t.ends <= now {
			delete(s.tenures.of, instance)
		}
	}
	return true, nil
}

func decodeRegistry(v *store.Value) (*shares.Registry, error) {
	if v.Err != nil {
		return nil, v.Err
	}
	return shares.DecodeRegistry(v.Data)
}

// saw notes what time it is in the store.
func (s *Sharing) saw(at time.Time) {
	s.tenures.seen, s.tenures.seenAt = at.UnixNano(), s.now()
}
