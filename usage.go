package tollgate

import (
	"net/http"
	"sync/atomic"

	"github.com/tollgate-apim/tollgate/matcher"
	"github.com/tollgate-apim/tollgate/quota"
	"github.com/tollgate-apim/tollgate/usage"
)

// Requests are counted where they are decided, and collected from there for each
// report. A known caller's are counted with the caller: that it has asked, under a
// lock that its request takes in any case, and perhaps that it was refused. Who
// has asked and was not refused was admitted.

// ask counts a request of a caller that is kept.
func ask(g *gateway, c *caller) {
	g.held.Lock()
	defer g.held.Unlock()
	if c.mu == nil {
		c.mu = &g.held.Mutex
	}
	if c.untouched {
		touch(g.source.account, c)
	}
	c.asked++
}

// askAs counts a request of c as one of another caller with the same key.
func askAs(other *caller, g *gateway, c *caller) {
	if c != other {
		c.refused = other.refused
	}
	ask(g, other)
}

// touch has a caller's requests collected. The caller's lock is held.
func touch(kept *account, c *caller) {
	c.untouched = false
	kept.mu.Lock()
	kept.touched = append(kept.touched, c)
	kept.mu.Unlock()
}

// refusable are the answers that a known caller may get, by reason and status. The
// first of two is given, the second one a dry run keeps to itself.
var refusable = []usage.Row{
	{Reason: matcher.SubscriptionMissing, Code: http.StatusForbidden},
	{Reason: matcher.SubscriptionMissing, DryRun: true},
	{Reason: matcher.OperationForbidden, Code: http.StatusForbidden},
	{Reason: matcher.OperationForbidden, DryRun: true},
	{Reason: quota.RateLimited, Code: http.StatusTooManyRequests},
	{Reason: quota.RateLimited, DryRun: true},
	{Reason: quota.QuotaExceeded, Code: http.StatusTooManyRequests},
	{Reason: quota.QuotaExceeded, DryRun: true},
	{Reason: limitsUnavailable, Code: http.StatusTooManyRequests},
	{Reason: limitsUnavailable, DryRun: true},
	{Reason: countersFull, Code: http.StatusServiceUnavailable},
	{Reason: countersFull, DryRun: true},
}

// countAnswers has answers counted. Those that have the same row in reports have
// the same counters.
func countAnswers(kept *account, api string, dryRun bool, answers map[string]*answer) {
	kept.mu.Lock()
	defer kept.mu.Unlock()
	for reason, a := range answers {
		row := usage.Row{API: api, Code: a.status, Reason: reason}
		if dryRun {
			row.Code = 0
			row.DryRun = true
		}
		a.times = kept.anonymous[row]
		if a.times == nil {
			a.times = new(int64)
			kept.anonymous[row] = a.times
		}
		for i, known := range refusable {
			if reason == known.Reason && dryRun == known.DryRun {
				a.index = i
			}
		}
	}
}

// collect gives what was counted to add. Who has asked is told one collection
// late, when it is decided what came of it, unless this is the last one for long.
func (a *account) collect(add func(usage.Row), last bool) {
	a.mu.Lock()
	touched := a.touched
	a.touched = nil
	var rows []usage.Row
	for row, times := range a.anonymous {
		row.Count = atomic.SwapInt64(times, 0)
		if row.Count > 0 {
			rows = append(rows, row)
		}
	}
	a.mu.Unlock()

	for _, row := range rows {
		add(row)
	}
	for _, c := range a.asked {
		settle(c, add)
	}
	a.asked = touched
	for _, c := range touched {
		c.mu.Lock()
		c.untouched = true
		c.deciding += c.asked
		c.asked = 0
		c.mu.Unlock()
	}
	if last {
		for _, c := range touched {
			settle(c, add)
		}
		a.asked = nil
	}
}

// settle gives add what came of a caller's requests, those aside that have asked
// since the last collection. What was refused of those too makes the number of
// admitted ones too low for now, even negative.
func settle(c *caller, add func(usage.Row)) {
	c.mu.Lock()
	admitted := c.deciding
	c.deciding = 0
	c.mu.Unlock()
	row := rowOf(c.who)
	for i := range c.refused {
		n := atomic.SwapInt64(&c.refused[i], 0)
		if n > 0 {
			admitted -= n
			row.Code = refusable[i].Code
			row.Reason = refusable[i].Reason
			row.DryRun = refusable[i].DryRun
			row.Count = n
			add(row)
		}
	}
	if admitted != 0 {
		row.Code = 0
		row.Reason = ""
		row.DryRun = false
		row.Count = admitted
		add(row)
	}
}

// rowOf is a report's row of requests of a caller that were admitted, without
// their count.
func rowOf(who *matcher.Caller) usage.Row {
	row := usage.Row{API: who.API, Application: who.Application, KeyTitle: who.KeyTitle}
	if who.Grant != nil {
		row.Subscription = who.Grant.Subscription
		row.Plan = who.Grant.Plan
	}
	return row
}
