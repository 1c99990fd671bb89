package shares

import (
	"errors"
	"slices"
	"time"
)

// A tenure is one life of a gateway, as far as the control plane knows: it begins with
// a report, is extended by further ones, and ends when there have been none for
// TenureLife. A gateway that comes back after that begins another.
const (
	TenureLife = 5 * time.Minute
	// renewal is how long a tenure may have left for a report to extend it: so the
	// registry changes once a minute for each gateway, not with each report.
	renewal = 4 * time.Minute
)

// MaxTenures is how many tenures may be alive at the same time.
const MaxTenures = 4096

// Tenure is what a gateway is told of its own.
type Tenure struct {
	// Number tells tenures apart. A gateway that is told another than before gives
	// up all accounts, and opens new ones.
	Number int64
	// Ranks are those for standing credits, by Horizons; 0 has none.
	Ranks [len(Horizons)]int64
	// Lasts is for how long the standing credits may be used, in nanoseconds from
	// when the gateway sent the report.
	Lasts int64
}

// ErrFull says that MaxTenures gateways are alive.
var ErrFull = errors.New("as many gateways as can be are alive")

// Registry is what the store keeps of all tenures. The zero value knows none. One
// goroutine at a time may use it.
type Registry struct {
	at    int64
	last  int64 // the number of the newest tenure
	alive []tenure
	past  []pastRank
}

type tenure struct {
	instance Instance
	number   int64
	ranks    [len(Horizons)]int64
	until    int64
}

// pastRank is a rank that nobody may have until the horizon is over.
type pastRank struct {
	horizon, rank, until int64
}

// Instance is what a gateway calls one life of itself: 128 bits.
type Instance [4]uint32

// Register returns the tenure of a gateway's instance at the store's time now, a new
// one if it has none, and whether the registry was changed: then it has to be stored
// before the gateway is told.
func (r *Registry) Register(instance Instance, now int64) (t Tenure, changed bool, err error) {
	now = max(now, r.at)
	life := int64(TenureLife)
	place := slices.IndexFunc(r.alive, func(t tenure) bool { return t.instance == instance })
	if place >= 0 && r.alive[place].until-margin(TenureLife)-now > int64(renewal) {
		return r.alive[place].told(now), false, nil
	}
	if place >= 0 && r.alive[place].until > now {
		r.alive[place].until = now + life + margin(TenureLife)
		r.end(now)
		place = slices.IndexFunc(r.alive, func(t tenure) bool { return t.instance == instance })
		return r.alive[place].told(now), true, nil
	}
	r.end(now)
	if len(r.alive) >= MaxTenures {
		return Tenure{}, false, ErrFull
	}
	// No number comes again after the store has lost some, or all.
	r.last = max(r.last+1, now/int64(time.Millisecond))
	next := tenure{instance: instance, number: r.last, until: now + life + margin(TenureLife)}
	for horizon := range Horizons {
		next.ranks[horizon] = r.rank(horizon)
	}
	r.alive = append(r.alive, next)
	return next.told(now), true, nil
}

func (t *tenure) told(now int64) Tenure {
	return Tenure{Number: t.number, Ranks: t.ranks, Lasts: t.until - margin(TenureLife) - now}
}

// rank returns the lowest rank that nobody has whose tenure is alive, or ended within
// the horizon; 0 if there is none.
func (r *Registry) rank(horizon int) int64 {
	var taken [MaxRank + 1]bool
	for i := range r.alive {
		taken[r.alive[i].ranks[horizon]] = true
	}
	for _, past := range r.past {
		if past.horizon == int64(horizon) {
			taken[past.rank] = true
		}
	}
	for rank := int64(1); rank <= MaxRank; rank++ {
		if !taken[rank] {
			return rank
		}
	}
	return 0
}

// end ends the tenures that nobody has extended, and lets go the ranks whose horizons
// are over.
func (r *Registry) end(now int64) {
	r.at = now
	r.alive = slices.DeleteFunc(r.alive, func(t tenure) bool {
		if t.until > now {
			return false
		}
		for horizon, rank := range t.ranks {
			if rank > 0 {
				r.past = append(r.past, pastRank{int64(horizon), rank, t.until + int64(Horizons[horizon])})
			}
		}
		return true
	})
	r.past = slices.DeleteFunc(r.past, func(p pastRank) bool { return p.until <= now })
}

// Alive returns how many tenures are alive at the time now.
func (r *Registry) Alive(now int64) int {
	count := 0
	for i := range r.alive {
		if r.alive[i].until > now {
			count++
		}
	}
	return count
}
