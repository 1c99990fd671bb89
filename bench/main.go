// Command bench measures what requests cost in one real Traefik with several
// middlewares side by side, and writes it down. docs/performance.md says how it
// measures and what came out.
//
// It needs Linux, and nothing else that runs meanwhile.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/bench/proc"
	"github.com/tollgate-apim/tollgate/bench/record"
	"github.com/tollgate-apim/tollgate/bench/report"
	"github.com/tollgate-apim/tollgate/bench/stats"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

func main() { record.Main("bench", run) }

type options struct {
	quick   bool
	render  bool
	count   bool
	seed    uint64
	rounds  int
	keys    int
	plugins string
	rows    string
	profile string
	out     string
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "measure for less than a minute; writes to .build/bench and leaves the documentation alone")
	flags.BoolVar(&o.render, "render", false, "measure nothing; write docs/performance.* anew from bench/results.json")
	flags.BoolVar(&o.count, "count", false, "time nothing; count allocations and memory, for which the machine need not be quiet")
	flags.Uint64Var(&o.seed, "seed", 0, "draws the order of the rows; 0 draws one")
	flags.IntVar(&o.rounds, "rounds", 0, "how often each row is timed; 0 for as often as usual")
	flags.IntVar(&o.keys, "keys", 0, "how many keys the large table has; 0 for as many as usual")
	flags.StringVar(&o.plugins, "plugins", "", "a `folder` with other plugins to measure, see docs/performance.md")
	flags.StringVar(&o.rows, "rows", "", "time only these rows, by `names` with commas between, and nothing else")
	flags.StringVar(&o.profile, "profile", "", "measure nothing; take a CPU profile of Traefik under the `row`")
	flags.StringVar(&o.out, "out", "", "write results to this `file`")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	root, err := stack.Root()
	if err != nil {
		return err
	}
	if o.render {
		return render(root)
	}
	scratch := filepath.Join(root, ".build", "bench")
	if err := os.MkdirAll(scratch, 0o750); err != nil {
		return err
	}
	if o.profile != "" {
		return profile(ctx, o, filepath.Join(scratch, o.profile+".pprof"))
	}
	official := !o.quick && o.rows == "" && o.out == ""
	if o.out == "" {
		o.out = filepath.Join(scratch, "results.json")
	}
	results, err := measure(ctx, o)
	if err != nil {
		return err
	}
	fmt.Println("\n" + report.Markdown(results))
	if err := record.Save(o.out, results); err != nil {
		return err
	}
	fmt.Println("written to", o.out)
	if !official {
		return nil
	}
	if report.Disturbed(results) {
		return errors.New("the machine had too much other work: bench/results.json and docs/performance.* stay as they are")
	}
	if err := record.Save(filepath.Join(root, "bench", "results.json"), results); err != nil {
		return err
	}
	return render(root)
}

// measure runs everything.
func measure(ctx context.Context, o options) (*report.Results, error) {
	b := &bench{plan: fullPlan, seed: o.seed, say: record.Say()}
	if o.quick {
		b.plan = quickPlan
	}
	if o.rounds > 0 {
		b.rounds = o.rounds
	}
	if o.keys > 0 {
		b.bigKeys = max(o.keys, keysUsed)
	}
	if b.seed == 0 {
		b.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	b.say("seed %d", b.seed)
	foreigns, err := foreigns(o.plugins)
	if err != nil {
		return nil, err
	}
	binary, err := stack.BuildTraefik(ctx, stack.TraefikVersion, b.say)
	if err != nil {
		return nil, err
	}
	b.results = &report.Results{
		Date:   time.Now().UTC().Format(time.DateOnly),
		Commit: record.Commit(ctx),
		Quick:  o.quick,
		Machine: report.Machine{
			Processor: proc.Processor(), Cores: runtime.NumCPU(), System: runtime.GOOS + "/" + runtime.GOARCH,
			Go: runtime.Version(), Traefik: stack.TraefikVersion,
		},
		Setup: report.Setup{Seed: b.seed, Rounds: b.rounds, Seconds: b.window.Seconds(), Connections: b.connections},
	}
	if !o.count {
		if err := b.timed(ctx, o, binary, foreigns); err != nil {
			return nil, err
		}
	}
	if o.rows == "" {
		if err := b.counted(ctx, binary, foreigns); err != nil {
			return nil, err
		}
	}
	b.results.Machine.Others = stats.Of(b.others)
	b.results.Summarize()
	return b.results, nil
}

// timed measures all that takes time, in a Traefik as people run it.
func (b *bench) timed(ctx context.Context, o options, binary string, foreigns []foreign) (err error) {
	b.say("starting Traefik")
	var measured []*row
	if b.gateway, measured, err = startGateway(ctx, gatewayOptions{binary: binary, foreigns: foreigns}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.gateway.stop()) }()
	unknown := measured[slices.IndexFunc(measured, func(r *row) bool { return r.Name == report.Unknown })]
	if o.rows != "" {
		if measured, err = pick(measured, o.rows); err != nil {
			return err
		}
	}
	b.add(measured)
	if err := b.timeRows(ctx, measured, b.rounds, b.window); err != nil || o.rows != "" {
		return err
	}
	if err := b.latencies(ctx, measured); err != nil {
		return err
	}
	if err := b.sendUnknown(unknown); err != nil {
		return err
	}
	big, err := b.gateway.addBig(ctx, b.bigKeys)
	if err != nil {
		return err
	}
	b.add(big)
	if err := b.activate(ctx, big[1]); err != nil {
		return err
	}
	return b.timeRows(ctx, big, b.rounds, b.bigWindow)
}

// counted measures all that is counted, in a Traefik that tells about itself.
func (b *bench) counted(ctx context.Context, binary string, foreigns []foreign) (err error) {
	b.say("starting Traefik with its debug endpoints, to count")
	var measured []*row
	if b.gateway, measured, err = startGateway(ctx, gatewayOptions{binary: binary, foreigns: foreigns, debug: true}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.gateway.stop()) }()
	b.add(measured)
	if err := b.count(ctx, measured); err != nil {
		return err
	}
	return b.weigh(ctx, measured[slices.IndexFunc(measured, func(r *row) bool { return r.Name == report.Unknown })])
}

// pick returns the rows with some names.
func pick(rows []*row, names string) ([]*row, error) {
	var picked []*row
	for _, name := range strings.Split(names, ",") {
		i := slices.IndexFunc(rows, func(r *row) bool { return r.Name == name })
		if i < 0 {
			var known []string
			for _, r := range rows {
				known = append(known, r.Name)
			}
			return nil, fmt.Errorf("there is no row %q; there are %s", name, strings.Join(known, ", "))
		}
		picked = append(picked, rows[i])
	}
	return picked, nil
}

// render writes what the documentation tells of the committed results.
func render(root string) error {
	results, err := report.Load(filepath.Join(root, "bench", "results.json"))
	if err != nil {
		return err
	}
	docs := filepath.Join(root, "docs")
	if err := record.Render(filepath.Join(docs, "performance.md"), report.Place, report.Section(results)); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(docs, "performance.svg"), []byte(report.Picture(results)), 0o644)
}
