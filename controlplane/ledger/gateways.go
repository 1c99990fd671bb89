package ledger

import (
	"cmp"
	"container/list"
	"slices"
	"time"

	"github.com/tollgate-apim/tollgate/usage"
)

const (
	// forgetAfter is how long a gateway is known that reports nothing any more.
	forgetAfter = 10 * time.Minute
	// maxGateways is how many are known at most. Those that reported longest ago
	// go first.
	maxGateways = 10_000
	// aliveFor is how long a gateway counts as one that reports: longer than idle
	// ones wait in between.
	aliveFor = 2 * time.Minute
	// maxPerSecond is how many reports a second are wanted at most.
	maxPerSecond = 500
	// minNext and maxNext are what gateways are asked to wait between reports.
	minNext = time.Second
	maxNext = time.Minute
)

// Gateway is one that has reported.
type Gateway struct {
	Instance string
	Host     string
	// Revision is that of its table in force; 0 if it has none.
	Revision int64
	// TableAge is how long ago its table was last confirmed, as far as is known.
	TableAge time.Duration
	// LastSeen is when its last report arrived, whatever became of that.
	LastSeen time.Time
}

// known is a gateway as it was when it reported.
type known struct {
	Gateway
	last int64 // sequence number that was taken here
}

// gateways are those that are known.
type gateways struct {
	by    map[string]*list.Element // of instance; the values are *known
	order *list.List               // the one that reported last is first

	alive   int // as last counted
	counted time.Time
}

func newGateways() gateways { return gateways{by: map[string]*list.Element{}, order: list.New()} }

// seen notes a report, of which the sequence number is 0 if it was not taken.
func (g *gateways) seen(r *usage.Report, sequence int64, now time.Time) {
	element := g.by[r.Instance]
	if element == nil {
		if len(g.by) == maxGateways {
			g.forget(g.order.Back())
		}
		element = g.order.PushFront(&known{})
		g.by[r.Instance] = element
	}
	g.order.MoveToFront(element)
	k := gatewayOf(element)
	k.Gateway = Gateway{
		Instance: r.Instance, Host: r.Host, Revision: r.Revision, TableAge: seconds(r.TableAge), LastSeen: now,
	}
	k.last = max(k.last, sequence)
	g.expire(now)
}

// full reports whether as many are known as can be, all of which still report.
func (g *gateways) full(now time.Time) bool {
	if len(g.by) < maxGateways {
		return false
	}
	since := now.Sub(gatewayOf(g.order.Back()).LastSeen)
	return since >= 0 && since < aliveFor
}

// seconds returns a duration, or the longest that there is.
func seconds(s float64) time.Duration {
	const longest = 1<<63 - 1
	if s >= float64(longest)/float64(time.Second) {
		return longest
	}
	return time.Duration(s * float64(time.Second))
}

func gatewayOf(element *list.Element) *known {
	k, ok := element.Value.(*known)
	if !ok {
		panic("a gateway is none")
	}
	return k
}

func (g *gateways) forget(element *list.Element) {
	delete(g.by, gatewayOf(element).Instance)
	g.order.Remove(element)
}

// expire forgets those that have not reported for long.
func (g *gateways) expire(now time.Time) {
	for e := g.order.Back(); e != nil && now.Sub(gatewayOf(e).LastSeen) >= forgetAfter; e = g.order.Back() {
		g.forget(e)
	}
}

// last returns the sequence number of the last report of a gateway that was taken
// here; 0 if that is not known.
func (g *gateways) last(instance string) int64 {
	element := g.by[instance]
	if element == nil {
		return 0
	}
	return gatewayOf(element).last
}

// next returns when a gateway is to report again, so that all of them together
// do not ask for too much.
func (g *gateways) next(now time.Time) time.Duration {
	if now.Sub(g.counted) >= time.Second {
		g.alive, g.counted = 0, now
		for e := g.order.Front(); e != nil && now.Sub(gatewayOf(e).LastSeen) < aliveFor; e = e.Next() {
			g.alive++
		}
	}
	return min(max(minNext, time.Duration(g.alive)*time.Second/maxPerSecond), maxNext)
}

func (g *gateways) list(now time.Time) []Gateway {
	g.expire(now)
	gateways := make([]Gateway, 0, len(g.by))
	for e := g.order.Front(); e != nil; e = e.Next() {
		gateway := gatewayOf(e).Gateway
		if since := max(0, now.Sub(gateway.LastSeen)); gateway.TableAge+since >= gateway.TableAge {
			gateway.TableAge += since
		}
		gateways = append(gateways, gateway)
	}
	slices.SortFunc(gateways, func(a, b Gateway) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Instance, b.Instance))
	})
	return gateways
}
