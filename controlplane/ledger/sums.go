package ledger

import (
	"math"

	"github.com/tollgate-apim/tollgate/usage"
)

// Other stands for all names that there was no room for. No object is called so,
// because names have a namespace.
const Other = "other"

// maxOther is how many sets of labels there may be besides: those that tell no
// caller, and those of which the caller is Other.
const maxOther = 1_000

// Labels tell kinds of requests apart. They are those of usage.Row.
type Labels struct {
	API          string
	Application  string
	KeyTitle     string
	Subscription string
	Plan         string
	Code         int
	Reason       string
	DryRun       bool
}

// Requests counts requests of a kind.
type Requests struct {
	Labels
	Count int64
}

// sums counts requests by their labels, of which it tells a bounded number apart.
type sums struct {
	most   int
	counts map[Labels]int64 // of known callers
	others map[Labels]int64
}

func newSums(most int) sums {
	return sums{most: most, counts: map[Labels]int64{}, others: map[Labels]int64{}}
}

func (s *sums) add(rows []usage.Row) {
	for i := range rows {
		counts, labels := s.place(labelsOf(&rows[i]))
		counts[labels] = plus(counts[labels], rows[i].Count)
	}
}

// place returns where requests with labels are counted, and under which labels.
func (s *sums) place(l Labels) (map[Labels]int64, Labels) {
	if l.Application != "" || l.KeyTitle != "" || l.Subscription != "" || l.Plan != "" {
		// Who is called Other, whatever he is, is one of the others.
		if _, ok := s.counts[l]; l.Application != Other && (ok || len(s.counts) < s.most) {
			return s.counts, l
		}
		l.Application, l.KeyTitle, l.Subscription, l.Plan = Other, Other, Other, Other
	}
	if _, ok := s.others[l]; ok || len(s.others) < maxOther {
		return s.others, l
	}
	// Of these there are as many as codes.
	l = Labels{API: Other, Application: Other, KeyTitle: Other, Subscription: Other, Plan: Other, Code: l.Code, Reason: Other, DryRun: l.DryRun}
	return s.others, l
}

func (s *sums) list() []Requests {
	all := make([]Requests, 0, len(s.counts)+len(s.others))
	for _, counts := range []map[Labels]int64{s.counts, s.others} {
		for labels, n := range counts {
			all = append(all, Requests{Labels: labels, Count: n})
		}
	}
	return all
}

func labelsOf(row *usage.Row) Labels {
	return Labels{
		API: row.API, Application: row.Application, KeyTitle: row.KeyTitle, Subscription: row.Subscription, Plan: row.Plan,
		Code: row.Code, Reason: row.Reason, DryRun: row.DryRun,
	}
}

// plus adds counts; what would be too much is as much as there can be.
func plus(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}
