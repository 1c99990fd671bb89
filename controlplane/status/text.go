package status

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// Text writes the document for people. Names that gateways tell are written so
// that they cannot do anything to a terminal.
func (d *Document) Text(w io.Writer) error {
	t := &text{Writer: tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)}
	t.line("table", d.table())
	t.line("findings", d.Findings.String())
	t.line("store", d.store())
	t.line("reports", fmt.Sprintf("%d accepted%s", d.Reports.Accepted, d.Reports.rest()))
	t.line("requests", fmt.Sprintf("%d in the last minute (%d refused), %d since it was started (%d refused)",
		d.Requests.LastMinute.Requests, d.Requests.LastMinute.Refused, d.Requests.Total, d.Requests.Refused))
	t.line("gateways", d.summary())
	t.flush()
	t.busy("APPLICATION, IN THE LAST MINUTE", d.Busiest.Applications)
	t.busy("API, IN THE LAST MINUTE", d.Busiest.APIs)
	t.buckets(d)
	t.gateways(d) // of which there may be many
	return t.err
}

func (d *Document) table() string {
	told := "none yet"
	if d.Revision > 0 {
		told = fmt.Sprintf("revision %d", d.Revision)
	}
	if d.PublishedAt != nil {
		told += fmt.Sprintf(" (for %s)", span(d.Time.Sub(*d.PublishedAt)))
	}
	if d.KeptOut {
		told += "; the last change cannot be read and is kept out"
	}
	return told
}

func (d *Document) store() string {
	health := "healthy"
	switch {
	case !d.Store.Healthy && d.Store.Failure == "":
		health = "not asked yet"
	case !d.Store.Healthy:
		health = "does not answer: " + d.Store.Failure
	}
	if d.Store.Since != nil {
		health += fmt.Sprintf(" (for %s)", span(d.Time.Sub(*d.Store.Since)))
	}
	return d.Store.Kind + ", " + health
}

// String returns the findings in a few words.
func (f Findings) String() string {
	if len(f.Checks) == 0 {
		return "none"
	}
	told := fmt.Sprintf("%s, %s:", many(f.Errors, "error"), many(f.Warnings, "warning"))
	for i, c := range f.Checks {
		if i > 0 {
			told += ","
		}
		told += fmt.Sprintf(" %s %d", c.Check, c.Count)
	}
	return told
}

func many(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

// rest tells of the reports that were not accepted, if there are any.
func (r Reports) rest() string {
	told := ""
	for _, part := range []struct {
		count int64
		what  string
	}{
		{r.Duplicate, "sent again"}, {r.Refused, "refused"}, {r.Failed, "failed"}, {r.Deferred, "deferred"}, {r.Lost, "lost"},
	} {
		if part.count > 0 {
			told += fmt.Sprintf(", %d %s", part.count, part.what)
		}
	}
	return told
}

// summary says how many gateways there are, and how many of them have which table.
func (d *Document) summary() string {
	if len(d.Gateways) == 0 {
		return "none has reported in the last ten minutes"
	}
	told, counts := fmt.Sprint(len(d.Gateways), ":"), map[string]int{}
	for _, g := range d.Gateways {
		counts[g.lag()]++
	}
	for _, lag := range []string{lagCurrent, lagBehind, lagAhead, lagNone} {
		if n := counts[lag]; n > 0 {
			if lag == lagNone {
				lag = "without a table"
			}
			told += fmt.Sprintf(" %d %s,", n, lag)
		}
	}
	return strings.TrimSuffix(told, ",")
}

// text writes tables, and remembers the first error.
type text struct {
	*tabwriter.Writer
	err error
}

// line writes the cells of a row.
func (t *text) line(cells ...string) {
	for i, cell := range cells {
		cells[i] = clean(cell)
	}
	if _, err := fmt.Fprintln(t.Writer, strings.Join(cells, "\t")); t.err == nil {
		t.err = err
	}
}

// flush ends a table, so that the next has columns of its own.
func (t *text) flush() {
	if err := t.Flush(); t.err == nil {
		t.err = err
	}
}

func (t *text) gateways(d *Document) {
	if len(d.Gateways) == 0 {
		return
	}
	t.line("")
	t.line("GATEWAY", "HOST", "TABLE", "REVISION", "CONFIRMED", "LAST SEEN")
	for _, g := range d.Gateways {
		t.line(g.Instance, g.Host, g.lag(), fmt.Sprint(g.Revision), g.confirmed(), ago(d.Time.Sub(g.LastSeen)))
	}
	t.flush()
}

// What lag says.
const (
	lagCurrent = "current"
	lagBehind  = "behind"
	lagAhead   = "ahead"
	lagNone    = "none"
)

// lag says whether a gateway has the table that the control plane has.
func (g Gateway) lag() string {
	switch {
	case g.Revision == 0:
		return lagNone
	case g.Lag > 0:
		return lagBehind
	case g.Lag < 0:
		return lagAhead
	}
	return lagCurrent
}

func (g Gateway) confirmed() string {
	if g.Revision == 0 {
		return "never"
	}
	const longest = 1e9 // seconds, which a Duration can hold
	return ago(time.Duration(min(g.TableAge, longest) * float64(time.Second)))
}

func (t *text) busy(title string, busy []Busy) {
	if len(busy) == 0 {
		return
	}
	t.line("")
	t.line(title, "REQUESTS", "REFUSED")
	for _, b := range busy {
		t.line(b.Name, fmt.Sprint(b.Requests), fmt.Sprint(b.Refused))
	}
	t.flush()
}

func (t *text) buckets(d *Document) {
	if len(d.Busiest.Buckets) == 0 {
		return
	}
	t.line("")
	t.line("SHARED LIMIT", "KIND", "PLAN", "ALLOWED", "USED", "LEFT", "SETTLED")
	for _, b := range d.Busiest.Buckets {
		left := ""
		if b.Remaining != nil {
			left = fmt.Sprint(*b.Remaining)
		}
		t.line(b.Bucket, b.Kind, b.Plan, fmt.Sprintf("%d in %s", b.Limit, b.Period), fmt.Sprintf("%.0f%%", 100*b.Used), left, ago(d.Time.Sub(b.SettledAt)))
	}
	t.flush()
}

// span returns a length of time in its largest unit.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

func ago(d time.Duration) string { return span(d) + " ago" }

// clean replaces what a terminal would not print but obey, or what would break a
// table.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
