package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tollgate-apim/tollgate/bench/stats"
)

// Thousands formats n with a comma at each thousand.
func Thousands(n int) string {
	digits := strconv.Itoa(n)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Keys formats a number of keys.
func Keys(n int) string {
	if n == 1 {
		return "1 key"
	}
	return Thousands(n) + " keys"
}

func thousands(f float64) string { return Thousands(int(f + 0.5)) }

// within formats a median with its least and greatest value.
func within(s stats.Spread, digits int) string {
	format := func(f float64) string { return strconv.FormatFloat(f, 'f', digits, 64) }
	return fmt.Sprintf("%s (%s–%s)", format(s.Median), format(s.Min), format(s.Max))
}

// Disturbed tells whether others used so much of the machine that the times are
// worth nothing.
func Disturbed(r *Results) bool {
	const most = 0.05
	return r.Machine.Others.Median > most
}

// timed tells whether anything was timed.
func timed(r *Results) bool {
	return slices.ContainsFunc(r.Rows, func(row Row) bool { return len(row.CPU) > 0 })
}

// Markdown returns the tables.
func Markdown(r *Results) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s at commit %s: %s, %d cores, %s, Traefik %s built by %s. ",
		r.Date, r.Commit, r.Machine.Processor, r.Machine.Cores, r.Machine.System, r.Machine.Traefik, r.Machine.Go)
	if !timed(r) {
		b.WriteString("No times yet, only counts.\n\n")
		countsTable(&b, r)
		memoryTable(&b, r)
		return b.String()
	}
	fmt.Fprintf(&b, "%d rounds of %g seconds for each row, %d connections, seed %d. ",
		r.Setup.Rounds, r.Setup.Seconds, r.Setup.Connections, r.Setup.Seed)
	others := r.Machine.Others
	fmt.Fprintf(&b, "Meanwhile something else used %.0f %% of the machine (%.0f–%.0f). ", 100*others.Median, 100*others.Min, 100*others.Max)
	if Disturbed(r) {
		b.WriteString("**That is too much: these numbers are worth nothing beyond their order.** ")
	}
	if r.Quick {
		b.WriteString("**A quick run: expect more noise than it shows.** ")
	}
	b.WriteString("In brackets the least and the greatest of the rounds.\n\n")

	rowsTable(&b, r)
	latencyTable(&b, r)
	activationTable(&b, r)
	memoryTable(&b, r)
	targetsTable(&b, r)
	return b.String()
}

func countsTable(b *strings.Builder, r *Results) {
	b.WriteString("| route | allocations per request | bytes |\n| --- | --- | --- |\n")
	for _, row := range r.Rows {
		if row.Allocations > 0 {
			fmt.Fprintf(b, "| %s | %.0f | %s |\n", row.Title, row.Allocations, thousands(row.Bytes))
		}
	}
	b.WriteString("\n")
}

func rowsTable(b *strings.Builder, r *Results) {
	b.WriteString("| route | CPU per request, µs | of bare | of no-op | added, of what basicAuth + rateLimit add | requests/s | of bare | allocations |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for _, row := range r.Rows {
		if len(row.CPU) == 0 {
			continue
		}
		s := row.Summary
		ofNative := fmt.Sprintf("%.2f", s.OfNative)
		if s.OfNative <= 0 { // Refusals cost less than forwarding does.
			ofNative = "–"
		}
		allocations := "–"
		if row.Allocations > 0 {
			allocations = fmt.Sprintf("%.0f", row.Allocations)
		}
		fmt.Fprintf(b, "| %s | %s | %.2f | %.2f | %s | %s | %.2f | %s |\n", row.Title, within(s.CPU, 1),
			s.ToBare.Median, s.ToNoop.Median, ofNative, thousands(s.PerSecond.Median), s.PerSecondToBare.Median, allocations)
	}
	b.WriteString("\n")
}

func latencyTable(b *strings.Builder, r *Results) {
	if r.Setup.Rate == 0 {
		return
	}
	fmt.Fprintf(b, "Latency at %s requests a second, sent at fixed times whether answers come or not:\n\n", thousands(r.Setup.Rate))
	b.WriteString("| route | median, ms | 99 % | 99.9 % |\n| --- | --- | --- | --- |\n")
	for _, row := range r.Rows {
		if len(row.P50) > 0 {
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", row.Title, ms(row.P50), ms(row.P99), ms(row.P999))
		}
	}
	b.WriteString("\n")
}

func ms(µs []float64) string {
	inMs := make([]float64, len(µs))
	for i, v := range µs {
		inMs[i] = v / 1000
	}
	return within(stats.Of(inMs), 2)
}

func activationTable(b *strings.Builder, r *Results) {
	a := r.Activation
	if a == nil {
		return
	}
	form := ""
	if a.Parts > 0 {
		form = ", in " + Thousands(a.Parts) + " parts"
	}
	fmt.Fprintf(b, "Admitted requests while a table of %s (%.0f MB of JSON%s) is put in force, at %s requests a second, half of what the machine can do:\n\n",
		Keys(a.Keys), a.MegaBytes, form, thousands(a.Rate))
	b.WriteString("| | median, ms | 99 % | longest |\n| --- | --- | --- | --- |\n")
	fmt.Fprintf(b, "| quiet | %s | %s | |\n", ms(a.QuietP50), ms(a.QuietP99))
	fmt.Fprintf(b, "| while the table is loaded, %s seconds | %s | %s | %s |\n\n", within(stats.Of(a.Seconds), 1), ms(a.BusyP50), ms(a.BusyP99), ms(a.BusyMax))
}

func memoryTable(b *strings.Builder, r *Results) {
	if m := r.Memory; m != nil {
		fmt.Fprintf(b, "Memory: a table of %s, each of an application of its own, takes **%.0f bytes of heap for each key** after a collection", Keys(m.Keys), m.HeapPerKey)
		if m.HeapPerKeyWhole > 0 {
			fmt.Fprintf(b, " if it comes in parts, and %.0f as one document", m.HeapPerKeyWhole)
		}
		b.WriteString(".")
		if m.PeakMB > 0 {
			fmt.Fprintf(b, " Traefik grows from %.0f to %.0f MB, at its peak %.0f MB.", m.BeforeMB, m.ResidentMB, m.PeakMB)
		}
		b.WriteString("\n\n")
	}
	if c := r.Change; c != nil {
		fmt.Fprintf(b, "To load a table of %s takes Traefik %.1f s of CPU in %s parts, and %.1f s as one document. One changed key then costs **%.0f kB and %.0f ms of CPU**, %.2f %% and %.2f %% of that.\n\n",
			Keys(c.Keys), c.TableCPU/1000, Thousands(c.Parts), c.WholeCPU/1000, float64(c.Bytes)/1000, c.CPU, 100*c.ofBytes(), 100*c.ofCPU())
	}
	u := r.UnknownKeys
	if u != nil && u.Keys > 0 {
		fmt.Fprintf(b, "After %s different unknown keys Traefik has %.0f MB of memory, %.0f MB before.\n\n", Thousands(u.Keys), u.AfterMB, u.BeforeMB)
	}
	if u != nil && u.HeapOfKeys > 0 {
		fmt.Fprintf(b, "The heap after a collection grows by %.1f MB through %s different unknown keys.\n\n", u.HeapMB, Thousands(u.HeapOfKeys))
	}
}

// ofBytes and ofCPU are shares of what the whole table takes.
func (c *Change) ofBytes() float64 { return float64(c.Bytes) / float64(c.TableBytes) }
func (c *Change) ofCPU() float64   { return c.CPU / c.TableCPU }

// A Target is what the project has set itself.
type Target struct {
	What  string
	Value float64
	// AtMost, or AtLeast where it is 0, is the target, and Stretch a better one.
	AtMost, AtLeast, Stretch float64
}

// Met tells whether the value is within the target.
func (t Target) Met() bool {
	if t.AtMost != 0 {
		return t.Value <= t.AtMost
	}
	return t.Value >= t.AtLeast
}

// Targets returns the targets of which the values were measured.
func Targets(r *Results) []Target {
	var targets []Target
	summary := func(name string) *Summary {
		if row := r.Row(name); row != nil && len(row.CPU) > 0 {
			return row.Summary
		}
		return nil
	}
	add := func(t Target) { targets = append(targets, t) }
	own := summary(Tollgate)
	if own == nil {
		return nil
	}
	if summary(Bare) != nil {
		add(Target{What: "CPU of an admitted request, of the bare route's", Value: own.ToBare.Median, AtMost: 1.30, Stretch: 1.18})
	}
	if s := summary(Native); s != nil && s.Added.Median > 0 {
		add(Target{What: "CPU added, of what basicAuth + rateLimit add", Value: own.OfNative, AtMost: 2, Stretch: 1.25})
	}
	if summary(Bare) != nil {
		add(Target{What: "requests a second, of the bare route's", Value: own.PerSecondToBare.Median, AtLeast: 0.80, Stretch: 0.90})
	}
	for _, t := range []struct {
		keys            int
		atMost, stretch float64
	}{{1, 0.7, 0.4}, {1000, 0.2, 0.1}} {
		if least := leastAdded(r, t.keys); least > 0 {
			add(Target{What: "CPU added, of what the cheapest other plugin adds with " + Keys(t.keys),
				Value: own.Added.Median / least, AtMost: t.atMost, Stretch: t.stretch})
		}
	}
	for _, t := range []struct{ what, shared, local string }{
		{"a rate limit", Shared, Tollgate}, {"rate limit, quota and filter", SharedFull, Full},
	} {
		if shared, local := summary(t.shared), summary(t.local); shared != nil && local != nil && local.Added.Median > 0 {
			add(Target{What: "CPU added with shared limits, of that with local ones, " + t.what,
				Value: shared.Added.Median / local.Added.Median, AtMost: 1.1})
		}
	}
	if s := summary(Unknown); s != nil {
		ratio := stats.Of(stats.Ratios(r.Row(Unknown).CPU, r.Row(Tollgate).CPU))
		add(Target{What: "CPU of refusing an unknown key, of an admitted request's", Value: ratio.Median, AtMost: 0.6, Stretch: 0.4})
	}
	if summary(ManyKeys) != nil && summary(FewKeys) != nil {
		ratio := stats.Of(stats.Ratios(r.Row(ManyKeys).CPU, r.Row(FewKeys).CPU))
		add(Target{What: fmt.Sprintf("CPU with %s keys in the table, of that with 10", Thousands(r.Row(ManyKeys).Keys)),
			Value: ratio.Median, AtMost: 1.1, Stretch: 1.05})
	}
	if m := r.Memory; m != nil && m.HeapPerKeyWhole > 0 {
		add(Target{What: "heap for each of " + Thousands(m.Keys) + " keys, bytes", Value: m.HeapPerKey, AtMost: 400})
	}
	if c := r.Change; c != nil {
		add(Target{What: "fetched for one changed key of " + Thousands(c.Keys) + ", % of the table", Value: 100 * c.ofBytes(), AtMost: 1})
		add(Target{What: "CPU for one changed key of " + Thousands(c.Keys) + ", % of the table's", Value: 100 * c.ofCPU(), AtMost: 1})
	}
	if u := r.UnknownKeys; u != nil && u.Keys > 0 {
		add(Target{What: "memory after " + Thousands(u.Keys) + " different unknown keys, MB more", Value: u.AfterMB - u.BeforeMB, AtMost: 16, Stretch: 4})
	}
	if a := r.Activation; a != nil {
		ratio := stats.Of(stats.Ratios(a.BusyP99, a.QuietP99))
		add(Target{What: "99 % latency while a table of " + Thousands(a.Keys) + " keys is loaded, of the quiet one", Value: ratio.Median, AtMost: 2})
	}
	return targets
}

// leastAdded returns what the cheapest plugin of others adds, or 0.
func leastAdded(r *Results, keys int) float64 {
	least := 0.0
	for _, row := range r.Rows {
		if row.Foreign == "" || row.Keys != keys || len(row.CPU) == 0 {
			continue
		}
		if added := row.Summary.Added.Median; least == 0 || added < least {
			least = added
		}
	}
	return least
}

func targetsTable(b *strings.Builder, r *Results) {
	targets := Targets(r)
	if len(targets) == 0 {
		return
	}
	b.WriteString("What we set ourselves:\n\n| | measured | target | stretch | |\n| --- | --- | --- | --- | --- |\n")
	for _, t := range targets {
		sign, bound := "≤", t.AtMost
		if t.AtMost == 0 {
			sign, bound = "≥", t.AtLeast
		}
		stretch := ""
		if t.Stretch != 0 {
			stretch = fmt.Sprintf("%s %.4g", sign, t.Stretch)
		}
		verdict := "met"
		if !t.Met() {
			verdict = "**missed**"
		}
		if Disturbed(r) {
			verdict = "cannot be told"
		}
		fmt.Fprintf(b, "| %s | %.2f | %s %.4g | %s | %s |\n", t.What, t.Value, sign, bound, stretch, verdict)
	}
	b.WriteString("\n")
}
