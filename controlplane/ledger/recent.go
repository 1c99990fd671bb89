package ledger

import (
	"cmp"
	"slices"
	"time"

	"github.com/tollgate-apim/tollgate/usage"
)

// The last minute, in slots.
const (
	slotLength = 5 * time.Second
	slots      = 12
)

// Busy counts the requests of an application, or for an API.
type Busy struct {
	Name string
	// Requests is how many were reported, Refused how many of these were refused.
	Requests, Refused int64
}

// Busiest is what most was reported about in the last minute, the most first.
type Busiest struct {
	// All is everything that was reported.
	All          Busy
	Applications []Busy
	APIs         []Busy
}

// recent counts what was reported in the last minute. A report may be about more
// than that, if its gateway could not report for a while.
type recent struct {
	most  int // names in a slot, of a kind
	start time.Time
	slots [slots]slot
}

// slot counts what was reported in one span of time.
type slot struct {
	number             int64 // of slotLength since start
	all                Busy
	applications, apis map[string]Busy
}

func newRecent(most int, start time.Time) recent {
	r := recent{most: most, start: start}
	for i := range r.slots {
		r.slots[i].number = -1
	}
	return r
}

// number returns which slot a time is in, beginning with 0.
func (r *recent) number(now time.Time) int64 { return max(0, int64(now.Sub(r.start)/slotLength)) }

func (r *recent) add(rows []usage.Row, now time.Time) {
	number := r.number(now)
	s := &r.slots[number%slots]
	if s.number != number {
		*s = slot{number: number, applications: map[string]Busy{}, apis: map[string]Busy{}}
	}
	for i := range rows {
		row := &rows[i]
		s.all = s.all.with(row)
		r.addTo(s.apis, row.API, row)
		if row.Application != "" {
			r.addTo(s.applications, row.Application, row)
		}
	}
}

func (r *recent) addTo(counts map[string]Busy, name string, row *usage.Row) {
	b, ok := counts[name]
	if !ok && len(counts) >= r.most {
		name = Other
		b = counts[name]
	}
	b.Name = name
	counts[name] = b.with(row)
}

// with returns b and what a row counts.
func (b Busy) with(row *usage.Row) Busy {
	b.Requests = plus(b.Requests, row.Count)
	if row.Code != 0 {
		b.Refused = plus(b.Refused, row.Count)
	}
	return b
}

func (r *recent) busiest(most int, now time.Time) Busiest {
	oldest := r.number(now) - slots + 1
	var all Busy
	applications, apis := map[string]Busy{}, map[string]Busy{}
	for i := range r.slots {
		s := &r.slots[i]
		if s.number < 0 || s.number < oldest {
			continue
		}
		all = all.and(s.all)
		merge(applications, s.applications)
		merge(apis, s.apis)
	}
	return Busiest{All: all, Applications: top(applications, most), APIs: top(apis, most)}
}

func (b Busy) and(other Busy) Busy {
	b.Requests, b.Refused = plus(b.Requests, other.Requests), plus(b.Refused, other.Refused)
	return b
}

func merge(into, from map[string]Busy) {
	for name, b := range from {
		into[name] = b.and(into[name])
	}
}

func top(counts map[string]Busy, most int) []Busy {
	busy := make([]Busy, 0, len(counts))
	for _, b := range counts {
		busy = append(busy, b)
	}
	slices.SortFunc(busy, func(a, b Busy) int {
		return cmp.Or(cmp.Compare(b.Requests, a.Requests), cmp.Compare(a.Name, b.Name))
	})
	return busy[:min(len(busy), most)]
}
