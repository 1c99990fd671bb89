package explain

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// show returns s as it is where that is fit to be printed, else quoted.
func show(s string) string {
	if s == "" || strings.ContainsFunc(s, func(r rune) bool { return !strconv.IsPrint(r) || r == '\uFFFD' }) {
		return strconv.Quote(s)
	}
	return s
}

// Text writes an explanation for people to read.
func (e *Explanation) Text(w io.Writer) error {
	t := &text{tabs: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	e.request(t)
	e.key(t)
	for _, h := range e.Holders {
		h.text(t)
	}
	if e.Limits != nil {
		e.Limits.text(t)
	}
	e.answer(t)
	if err := t.tabs.Flush(); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// text writes lines of columns. Each line begins with a heading, or with space
// under that of the line before.
type text struct {
	tabs    *tabwriter.Writer
	heading string
}

// under begins a part with a heading.
func (t *text) under(heading string) { t.heading = heading }

func (t *text) line(columns ...string) {
	// Errors are kept by the writer and come out when it is flushed.
	_, _ = fmt.Fprintf(t.tabs, "%-9s%s\n", t.heading, strings.Join(columns, "\t"))
	t.heading = ""
}

// apart ends a block of aligned columns.
func (t *text) apart() { _, _ = fmt.Fprintln(t.tabs) }

func (e *Explanation) request(t *text) {
	t.under("request")
	t.line(e.Method + " " + show(e.Path) + " at API " + e.API)
	if e.Revision > 0 {
		t.line(fmt.Sprintf("by revision %d of the table", e.Revision))
	}
	if e.RawPath != "" {
		t.line("sent as " + show(e.RawPath))
	}
	filtered := slices.ContainsFunc(e.Holders, func(h Holder) bool { return h.Operations != nil && !h.Operations.All })
	switch {
	case !filtered:
		// Nothing depends on how the path is read.
	case len(e.Readings) > 1:
		t.line(fmt.Sprintf("read by servers in %d ways, each of which has to be allowed:", len(e.Readings)))
		for _, r := range e.Readings {
			t.line("  " + show(r))
		}
	case len(e.Readings) == 0:
		t.line("too odd to be read: only a matcher of any path allows it")
	}
	t.apart()
}

func (e *Explanation) key(t *text) {
	t.under("key")
	switch {
	case e.Key.Application != "":
		t.line("none asked for: as application " + show(e.Key.Application))
	case e.Key.Digest == "":
		t.line("none")
	case !e.Key.Known:
		t.line(e.Key.Digest + " is not known")
	default:
		t.line(fmt.Sprintf("%s is known, and held %s", e.Key.Digest, times(len(e.Holders))))
	}
	t.apart()
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (h Holder) text(t *text) {
	t.under("holder")
	name := show(h.Application)
	if h.AppID != "" {
		name += ", App ID " + show(h.AppID)
	}
	if h.KeyTitle != "" {
		name += ", key " + show(h.KeyTitle)
	}
	t.line(name)
	if h.Suspended {
		t.line("the key is suspended, so that it does not count")
		t.apart()
		return
	}
	if len(h.Candidates) > 0 {
		t.line("candidates:")
	}
	for _, c := range h.Candidates {
		mark := " "
		if c.Wins {
			mark = "*"
		}
		t.line("  "+mark+" "+c.Subscription, fmt.Sprintf("weight %d", c.Weight), "plan "+c.Plan, c.Why)
	}
	if len(h.Candidates) == 0 && h.Subscription != "" {
		t.line("subscribed by "+show(h.Subscription), "plan "+show(h.Plan))
	}
	if h.Operations != nil {
		h.Operations.text(t)
	}
	if h.Refusal != "" {
		t.line("refused: " + h.Why)
	}
	t.apart()
}

func (o *Operations) text(t *text) {
	if o.All {
		t.line("operations: all, for want of a filter")
		return
	}
	if len(o.Sets) == 0 {
		t.line("operations: none, the filter is empty")
		return
	}
	t.line("operations:")
	for _, s := range o.Sets {
		if s.Missing {
			t.line("    "+show(s.Name), "the API has no such set")
		}
		for _, m := range s.Matchers {
			mark, why := "*", "matches"
			if !m.Matches {
				mark, why = " ", m.Why
			}
			t.line("  "+mark+" "+show(s.Name), m.String(), why)
		}
	}
}

// String returns the matcher as text, such as "GET, HEAD pathPrefix /weather".
func (m Tried) String() string {
	parts := []string{"any method"}
	if len(m.Methods) > 0 {
		parts[0] = strings.Join(m.Methods, ", ")
	}
	switch {
	case m.Path != "":
		parts = append(parts, "path "+show(m.Path))
	case m.PathPrefix != "":
		parts = append(parts, "pathPrefix "+show(m.PathPrefix))
	case m.PathRegex != "":
		parts = append(parts, "pathRegex "+show(m.PathRegex))
	default:
		parts = append(parts, "any path")
	}
	return strings.Join(parts, " ")
}

func (l *Limits) text(t *text) {
	t.under("limits")
	if l.RateLimit == nil && l.Quota == nil {
		t.line("none")
	}
	for _, part := range []struct {
		name  string
		limit *Limit
	}{{"rate limit", l.RateLimit}, {"quota", l.Quota}} {
		if part.limit == nil {
			continue
		}
		amount := fmt.Sprintf("%d in %s", part.limit.Limit, part.limit.Period)
		if part.limit.Burst > 0 {
			amount += fmt.Sprintf(", %d at once", part.limit.Burst)
		}
		t.line(part.name, amount, fmt.Sprintf("left after a first request: %d", part.limit.Left), "counted for "+show(part.limit.Counter))
	}
	if l.Policy != "" {
		t.line("RateLimit-Policy: " + l.Policy)
	}
	t.apart()
}

func (e *Explanation) answer(t *text) {
	t.under("answer")
	a := e.Answer
	switch {
	case a.Admitted:
		t.line("admitted: " + a.Why + ", accounted to " + show(a.Application) + " by " + show(a.Subscription))
	case a.Application != "":
		t.line(fmt.Sprintf("%d %s, on account of %s", a.Status, a.Reason, show(a.Application)))
	default:
		t.line(fmt.Sprintf("%d %s: %s", a.Status, a.Reason, a.Why))
	}
	for _, n := range e.Notes {
		t.under("note")
		t.line(n)
	}
	for _, f := range e.Findings {
		t.under("finding")
		t.line(f.String())
	}
}
