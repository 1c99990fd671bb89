package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/tollgate-apim/tollgate/bench/load"
	"github.com/tollgate-apim/tollgate/bench/proc"
	"github.com/tollgate-apim/tollgate/bench/report"
	"github.com/tollgate-apim/tollgate/bench/stats"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

// ramp is how long a load runs before it is measured.
const ramp = 200 * time.Millisecond

// plan says how long everything takes.
type plan struct {
	rounds      int
	window      time.Duration // of one measurement in a closed loop
	connections int
	retries     int    // of a measurement that others disturbed
	borrowed    uint64 // requests to be lent what a measurement takes

	latencyRounds int
	latencyWindow time.Duration

	bigKeys      int
	bigParts     int
	bigWindow    time.Duration // like window, with the big table
	activations  int
	quiet        time.Duration // before each activation
	unknownKeys  int
	countedCalls uint64 // of each row, to count allocations
}

var (
	fullPlan = plan{
		rounds: 7, window: 2 * time.Second, connections: 16, retries: 3, borrowed: 10_000,
		latencyRounds: 3, latencyWindow: 4 * time.Second,
		bigKeys: 1_000_000, bigParts: 1024, bigWindow: 4 * time.Second,
		activations: 3, quiet: 8 * time.Second,
		unknownKeys: 1_000_000, countedCalls: 20_000,
	}
	quickPlan = plan{
		rounds: 3, window: 600 * time.Millisecond, connections: 16, borrowed: 3000,
		latencyRounds: 1, latencyWindow: 1500 * time.Millisecond,
		bigKeys: 100_000, bigParts: 128, bigWindow: 600 * time.Millisecond,
		activations: 1, quiet: 2 * time.Second,
		unknownKeys: 50_000, countedCalls: 3_000,
	}
)

// bench is one run.
type bench struct {
	plan
	seed    uint64
	results *report.Results
	gateway *gateway
	say     func(format string, args ...any)
	// others are the shares of the machine that something else used.
	others []float64
	// sent numbers the requests, so that no unknown key comes twice.
	sent uint64
}

// add gives rows a place in the results, if they have none.
func (b *bench) add(rows []*row) {
	for _, r := range rows {
		if b.results.Row(r.Name) == nil {
			b.results.Rows = append(b.results.Rows, r.Row)
		}
	}
}

// timeRows measures all rows in turn, in another order each time.
func (b *bench) timeRows(ctx context.Context, rows []*row, rounds int, window time.Duration) error {
	random := rand.New(rand.NewPCG(b.seed, uint64(len(rows))))
	for round := range rounds + 1 {
		warmUp := round == 0
		for _, i := range random.Perm(len(rows)) {
			r := rows[i]
			if err := ctx.Err(); err != nil {
				return err
			}
			if warmUp {
				if err := b.warmUp(ctx, r); err != nil {
					return fmt.Errorf("row %s: %w", r.Name, err)
				}
				continue
			}
			if err := b.borrow(ctx, r); err != nil {
				return fmt.Errorf("row %s: %w", r.Name, err)
			}
			cpu, perSecond, err := b.timeCalmly(r, window)
			if err != nil {
				return fmt.Errorf("row %s: %w", r.Name, err)
			}
			result := b.results.Row(r.Name)
			result.CPU = append(result.CPU, cpu)
			result.PerSecond = append(result.PerSecond, perSecond)
			b.say("round %d/%d  %-16s %6.1f µs of CPU a request  %6.0f requests/s", round, rounds, r.Name, cpu, perSecond)
		}
	}
	return nil
}

// borrow sends as much as is about to be measured, until nothing of it is refused.
func (b *bench) borrow(ctx context.Context, r *row) error {
	if !r.lent {
		return nil
	}
	return stack.Until(ctx, "enough to be lent", time.Minute, func() error {
		defer func() { b.sent += 2 * b.borrowed }()
		return load.Send(r.target(b.gateway.addresses), b.connections, b.sent, b.borrowed)
	})
}

// warmUp sends what a row needs to be at its usual speed.
func (b *bench) warmUp(ctx context.Context, r *row) error {
	if err := b.borrow(ctx, r); err != nil {
		return err
	}
	n := max(2000, 2*r.warmUp)
	defer func() { b.sent += 2 * n }()
	return load.Send(r.target(b.gateway.addresses), b.connections, b.sent, n)
}

// calm is which share of the machine others may use while something is timed.
const calm = 0.05

// timeCalmly is time, once more if the machine had other work meanwhile. What it
// measured has no say in that.
func (b *bench) timeCalmly(r *row, window time.Duration) (cpu, perSecond float64, err error) {
	pid := b.gateway.PID()
	least := 2.0
	for range 1 + b.retries {
		before, err := use(pid)
		if err != nil {
			return 0, 0, err
		}
		c, p, err := b.time(r, window)
		if err != nil {
			return 0, 0, err
		}
		others, err := before.othersSince(pid)
		if err != nil {
			return 0, 0, err
		}
		if others < least {
			least, cpu, perSecond = others, c, p
		}
		if least <= calm {
			break
		}
	}
	b.others = append(b.others, least)
	return cpu, perSecond, nil
}

// time runs a closed loop and returns the processor time of Traefik for a
// request, in µs, and the requests a second.
func (b *bench) time(r *row, window time.Duration) (cpu, perSecond float64, err error) {
	loop, err := load.StartClosed(r.target(b.gateway.addresses), b.connections, b.sent)
	if err != nil {
		return 0, 0, err
	}
	defer func() { b.sent += 2 * loop.Count() }()
	time.Sleep(ramp)
	pid := b.gateway.PID()
	cpuBefore, err := proc.CPUTime(pid)
	before, begin := loop.Count(), time.Now()
	time.Sleep(window)
	cpuAfter, err2 := proc.CPUTime(pid)
	after, took := loop.Count(), time.Since(begin)
	if err := firstOf(loop.Stop(), err, err2); err != nil {
		return 0, 0, err
	}
	n := float64(after - before)
	if n == 0 {
		return 0, 0, fmt.Errorf("not one answer in %s", window)
	}
	return float64((cpuAfter - cpuBefore).Nanoseconds()) / n / 1000, n / took.Seconds(), nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// latencies measures rows at the same rate: half of what the machine does with
// Tollgate in a closed loop.
func (b *bench) latencies(ctx context.Context, rows []*row) error {
	var own *report.Row
	if own = b.results.Row(report.Tollgate); own == nil || len(own.PerSecond) == 0 {
		return nil
	}
	rate := stats.Of(own.PerSecond).Median / 2
	b.results.Setup.Rate = rate
	random := rand.New(rand.NewPCG(b.seed, 1))
	for round := range b.latencyRounds {
		for _, i := range random.Perm(len(rows)) {
			r := rows[i]
			result := b.results.Row(r.Name)
			// A row that can hardly do so much would show a queue, not a latency.
			if r.Status != http.StatusOK || stats.Of(result.PerSecond).Median < 1.3*rate {
				continue
			}
			if err := b.borrow(ctx, r); err != nil {
				return fmt.Errorf("row %s: %w", r.Name, err)
			}
			took, err := b.open(ctx, r, rate, b.latencyWindow)
			if err != nil {
				return fmt.Errorf("row %s: %w", r.Name, err)
			}
			took = took[len(took)/10:] // The ramp.
			p50, p99, p999 := quantiles(took)
			result.P50 = append(result.P50, p50)
			result.P99 = append(result.P99, p99)
			result.P999 = append(result.P999, p999)
			b.say("latency %d/%d  %-16s median %.2f ms, 99 %% %.2f ms (sent late by %.2f ms at 99 %%)", round+1, b.latencyRounds,
				r.Name, p50/1000, p99/1000, late(took)/1000)
		}
	}
	return nil
}

func (b *bench) open(ctx context.Context, r *row, rate float64, window time.Duration) ([]load.Latency, error) {
	ctx, cancel := context.WithTimeout(ctx, window)
	defer cancel()
	return load.Open(ctx, r.target(b.gateway.addresses), 8*b.connections, rate)
}

// quantiles returns latencies in µs.
func quantiles(latencies []load.Latency) (p50, p99, p999 float64) {
	took := make([]float64, len(latencies))
	for i, l := range latencies {
		took[i] = float64(l.Took.Nanoseconds()) / 1000
	}
	return stats.Quantile(took, 0.5), stats.Quantile(took, 0.99), stats.Quantile(took, 0.999)
}

func late(latencies []load.Latency) float64 {
	late := make([]float64, len(latencies))
	for i, l := range latencies {
		late[i] = float64(l.Late.Nanoseconds()) / 1000
	}
	return stats.Quantile(late, 0.99)
}

// sendUnknown sends many unknown keys and tells what memory they leave behind.
func (b *bench) sendUnknown(r *row) error {
	before, _, err := proc.Resident(b.gateway.PID())
	if err != nil {
		return err
	}
	b.say("sending %s different unknown keys", report.Thousands(b.unknownKeys))
	if err := load.Send(r.target(b.gateway.addresses), b.connections, b.sent, uint64(b.unknownKeys)); err != nil {
		return err
	}
	b.sent += 2 * uint64(b.unknownKeys)
	after, _, err := proc.Resident(b.gateway.PID())
	if err != nil {
		return err
	}
	b.results.UnknownKeys = &report.UnknownKeys{Keys: b.unknownKeys, BeforeMB: mb(before), AfterMB: mb(after)}
	b.say("resident memory: %.0f MB before, %.0f MB after", mb(before), mb(after))
	return nil
}

func mb(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// activate measures what admitted requests wait for while the big table is put
// in force.
func (b *bench) activate(ctx context.Context, r *row) error {
	cpu, perSecond, err := b.time(r, b.window)
	if err != nil {
		return err
	}
	b.say("before the big table: %.1f µs of CPU a request, %.0f requests/s", cpu, perSecond)
	a := &report.Activation{Keys: b.bigKeys, Parts: b.bigParts, Rate: perSecond / 2}
	before, _, err := proc.Resident(b.gateway.PID())
	if err != nil {
		return err
	}
	for i := range b.activations {
		spec := tableSpec{Revision: i + 2, Keys: b.bigKeys, APIs: 1}
		b.say("making a table of %s keys", report.Thousands(spec.Keys))
		table, err := spec.inParts(b.bigParts)
		if err != nil {
			return err
		}
		a.MegaBytes = float64(table.size()) / 1e6
		if err := b.activateOnce(ctx, r, table, a); err != nil {
			return err
		}
	}
	now, peak, err := proc.Resident(b.gateway.PID())
	if err != nil {
		return err
	}
	b.results.Activation = a
	b.results.Memory = &report.Memory{Keys: b.bigKeys, BeforeMB: mb(before), ResidentMB: mb(now), PeakMB: mb(peak)}
	return nil
}

func (b *bench) activateOnce(ctx context.Context, r *row, table document, a *report.Activation) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var changed time.Time
	go func() {
		time.Sleep(b.quiet)
		changed = time.Now()
		b.gateway.big.put(table)
		for ctx.Err() == nil {
			if _, _, ok := b.gateway.big.activation(); ok {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
	}()
	latencies, err := load.Open(ctx, r.target(b.gateway.addresses), 16*b.connections, a.Rate)
	if err != nil {
		return err
	}
	begun, confirmed, ok := b.gateway.big.activation()
	if !ok {
		return fmt.Errorf("a table of %s keys was not put in force in time; Traefik's last lines:\n%s", report.Thousands(b.bigKeys), b.gateway.Log.Tail(5))
	}
	var quiet, busy []load.Latency
	for _, l := range latencies {
		switch {
		case l.Due.Before(changed):
			quiet = append(quiet, l)
		case l.Due.After(begun) && l.Due.Before(confirmed):
			busy = append(busy, l)
		}
	}
	quiet = quiet[len(quiet)/10:] // The ramp.
	quietP50, quietP99, _ := quantiles(quiet)
	busyP50, busyP99, _ := quantiles(busy)
	longest := time.Duration(0)
	for _, l := range busy {
		longest = max(longest, l.Took)
	}
	a.Seconds = append(a.Seconds, confirmed.Sub(begun).Seconds())
	a.QuietP50, a.QuietP99 = append(a.QuietP50, quietP50), append(a.QuietP99, quietP99)
	a.BusyP50, a.BusyP99 = append(a.BusyP50, busyP50), append(a.BusyP99, busyP99)
	a.BusyMax = append(a.BusyMax, float64(longest.Microseconds()))
	b.say("activation took %.1f s; 99 %% latency %.2f ms quiet, %.2f ms meanwhile, longest %.1f ms",
		confirmed.Sub(begun).Seconds(), quietP99/1000, busyP99/1000, float64(longest.Microseconds())/1000)
	return nil
}

// count counts what requests of each row allocate, in a gateway with debug.
func (b *bench) count(ctx context.Context, rows []*row) error {
	for _, r := range rows {
		if err := b.warmUp(ctx, r); err != nil {
			return fmt.Errorf("row %s: %w", r.Name, err)
		}
		before, err := b.gateway.Memory(ctx, false)
		if err != nil {
			return err
		}
		loop, err := load.StartClosed(r.target(b.gateway.addresses), b.connections, b.sent)
		if err != nil {
			return err
		}
		for loop.Count() < b.countedCalls {
			time.Sleep(time.Millisecond)
		}
		if err := loop.Stop(); err != nil {
			return fmt.Errorf("row %s: %w", r.Name, err)
		}
		after, err := b.gateway.Memory(ctx, false)
		if err != nil {
			return err
		}
		b.sent += 2 * loop.Count()
		n := float64(loop.Count())
		result := b.results.Row(r.Name)
		result.Allocations = float64(after.Mallocs-before.Mallocs) / n
		result.Bytes = float64(after.TotalAlloc-before.TotalAlloc) / n
		b.say("%-16s %5.0f allocations, %6.0f bytes a request", r.Name, result.Allocations, result.Bytes)
	}
	return nil
}

// weigh measures what a key of the big table takes on the heap, and what unknown
// keys leave there, in a gateway with debug.
func (b *bench) weigh(ctx context.Context, unknown *row) error {
	before, err := b.gateway.Memory(ctx, true)
	if err != nil {
		return err
	}
	keys := b.unknownKeys / 10
	if err := load.Send(unknown.target(b.gateway.addresses), b.connections, b.sent, uint64(keys)); err != nil {
		return err
	}
	after, err := b.gateway.Memory(ctx, true)
	if err != nil {
		return err
	}
	if b.results.UnknownKeys == nil {
		b.results.UnknownKeys = &report.UnknownKeys{}
	}
	u := b.results.UnknownKeys
	u.HeapOfKeys, u.HeapMB = keys, mb(int64(after.HeapAlloc)-int64(before.HeapAlloc))

	rows, err := b.gateway.addBig(ctx, b.bigKeys)
	if err != nil {
		return err
	}
	if err := b.weighBig(ctx); err != nil {
		return err
	}
	b.add(rows)
	return b.count(ctx, rows)
}

// weighBig measures what the big table takes in a gateway that does nothing else:
// as one document, in parts, and for a change of one key.
func (b *bench) weighBig(ctx context.Context) error {
	const fewKeys = 100
	few, err := b.loadBig(ctx, tableSpec{Revision: 2, Keys: fewKeys, APIs: 1}.whole())
	if err != nil {
		return err
	}
	perKey := func(l loaded) float64 {
		return float64(int64(l.after.HeapAlloc)-int64(few.after.HeapAlloc)) / float64(b.bigKeys-fewKeys)
	}
	if b.results.Memory == nil {
		b.results.Memory = &report.Memory{Keys: b.bigKeys}
	}
	m := b.results.Memory

	spec := tableSpec{Revision: 3, Keys: b.bigKeys, APIs: 1}
	whole, err := b.loadBig(ctx, spec.whole())
	if err != nil {
		return err
	}
	m.HeapPerKeyWhole = perKey(whole)
	b.say("as one document a key takes %.0f bytes of heap; %.1f s of CPU", m.HeapPerKeyWhole, whole.cpu.Seconds())

	spec.Revision = 4
	document, err := spec.inParts(b.bigParts)
	if err != nil {
		return err
	}
	parts, err := b.loadBig(ctx, document)
	if err != nil {
		return err
	}
	m.HeapPerKey = perKey(parts)
	b.say("in %d parts a key takes %.0f bytes of heap; %.1f s of CPU", b.bigParts, m.HeapPerKey, parts.cpu.Seconds())

	change, err := b.loadBig(ctx, document.withChange(spec))
	if err != nil {
		return err
	}
	b.results.Change = &report.Change{
		Keys: b.bigKeys, Parts: b.bigParts,
		TableBytes: parts.bytes, Bytes: change.bytes,
		WholeCPU: whole.cpu.Seconds() * 1000, TableCPU: parts.cpu.Seconds() * 1000, CPU: change.cpu.Seconds() * 1000,
	}
	b.say("a changed key: %d of %d bytes, %.0f ms of CPU", change.bytes, parts.bytes, b.results.Change.CPU)
	return nil
}

// loaded is what it took a gateway to put a table in force.
type loaded struct {
	bytes int // fetched
	cpu   time.Duration
	after stack.Memory
}

// loadBig has the big table replaced, and measures what that takes.
func (b *bench) loadBig(ctx context.Context, d document) (loaded, error) {
	before, err := proc.CPUTime(b.gateway.PID())
	if err != nil {
		return loaded{}, err
	}
	b.gateway.big.put(d)
	if err := b.awaitBig(ctx); err != nil {
		return loaded{}, err
	}
	now, err := proc.CPUTime(b.gateway.PID())
	if err != nil {
		return loaded{}, err
	}
	after, err := b.gateway.Memory(ctx, true)
	return loaded{bytes: b.gateway.big.bytesServed(), cpu: now - before, after: after}, err
}

func (b *bench) awaitBig(ctx context.Context) error {
	for begin := time.Now(); time.Since(begin) < 5*time.Minute; time.Sleep(50 * time.Millisecond) {
		if _, _, ok := b.gateway.big.activation(); ok {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return fmt.Errorf("a table of %s keys was not put in force in time", report.Thousands(b.bigKeys))
}
