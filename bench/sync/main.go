// Command sync measures what it costs to keep gateways up to date: how soon a
// revoked key is refused everywhere, what gateways cost that wait for a change,
// and what one changed key costs among many. docs/performance.md says how it
// measures and what came out.
//
// Gateways are the plugin's package feed, compiled, each with a connection of its
// own, all in this process. The control plane is a real `tollgate serve` in
// another. It needs Linux, and nothing else that runs meanwhile.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tollgate-apim/tollgate/bench/proc"
	"github.com/tollgate-apim/tollgate/bench/record"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

func main() { record.Main("sync", run) }

// options say how much is measured.
type options struct {
	quick, render bool
	gateways      int // that a change must reach
	changes       int // of which each must
	waiting       int // gateways that wait
	window        time.Duration
	keys          int
	keyChanges    int
	only          string
	out           string
}

func run(ctx context.Context, args []string) error {
	var o options
	flags := flag.NewFlagSet("sync", flag.ContinueOnError)
	flags.BoolVar(&o.quick, "quick", false, "measure little, only to see; bench/sync.json and docs/performance.md stay as they are")
	flags.BoolVar(&o.render, "render", false, "measure nothing; write docs/performance.md anew from bench/sync.json")
	flags.IntVar(&o.gateways, "gateways", 200, "how many gateways a change must reach")
	flags.IntVar(&o.changes, "changes", 300, "how many changes are made")
	flags.IntVar(&o.waiting, "waiting", 1000, "how many gateways wait while nothing changes")
	flags.DurationVar(&o.window, "window", 90*time.Second, "for how long they do")
	flags.IntVar(&o.keys, "keys", 100_000, "among how many keys one is changed")
	flags.IntVar(&o.keyChanges, "key-changes", 20, "how often one is")
	flags.StringVar(&o.only, "only", "", "measure only this: `revocation`, waiting or change; writes nothing")
	flags.StringVar(&o.out, "out", "", "write results to this `file`, too")
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
	committed := filepath.Join(root, "bench", "sync.json")
	page := filepath.Join(root, "docs", "performance.md")
	if o.render {
		results := &results{}
		if err := record.Load(committed, results); err != nil {
			return err
		}
		return record.Render(page, place, markdown(results))
	}
	if o.quick {
		o.changes, o.window, o.keys, o.keyChanges = 20, 8*time.Second, min(o.keys, 20_000), 5
	}
	results, err := measure(ctx, o)
	if err != nil {
		return err
	}
	fmt.Println("\n" + markdown(results))
	if o.out != "" {
		if err := record.Save(o.out, results); err != nil {
			return err
		}
	}
	if o.quick || o.only != "" {
		return nil
	}
	if err := record.Save(committed, results); err != nil {
		return err
	}
	return record.Render(page, place, markdown(results))
}

// bench is a run.
type bench struct {
	options
	binary string
	dir    string
	say    func(format string, args ...any) // tells how far it is
}

func measure(ctx context.Context, o options) (r *results, err error) {
	b := &bench{options: o, say: record.Say()}
	if b.binary, err = stack.BuildTollgate(ctx); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "tollgate-sync-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	r = &results{
		Date: time.Now().UTC().Format(time.DateOnly), Commit: record.Commit(ctx), Quick: o.quick,
		Processor: proc.Processor(), Cores: runtime.NumCPU(), Go: runtime.Version(),
	}
	for _, part := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"revocation", func(ctx context.Context) (err error) { r.Revocation, err = b.revoke(ctx); return err }},
		{"waiting", func(ctx context.Context) (err error) { r.Waiting, err = b.wait(ctx); return err }},
		{"change", func(ctx context.Context) (err error) { r.Change, err = b.change(ctx); return err }},
	} {
		if o.only != "" && o.only != part.name {
			continue
		}
		if err := part.run(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return r, nil
}
