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
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/tollgate-apim/tollgate/bench/proc"
	"github.com/tollgate-apim/tollgate/e2e/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sync:", err)
		stop()
		os.Exit(1)
	}
}

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
		results, err := load(committed)
		if err != nil {
			return err
		}
		return render(page, results)
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
		if err := save(o.out, results); err != nil {
			return err
		}
	}
	if o.quick || o.only != "" {
		return nil
	}
	if err := save(committed, results); err != nil {
		return err
	}
	return render(page, results)
}

// bench is a run.
type bench struct {
	options
	binary string
	dir    string
	begin  time.Time
}

// say prints progress, with the time since the start.
func (b *bench) say(format string, args ...any) {
	fmt.Printf("%4.0fs  %s\n", time.Since(b.begin).Seconds(), fmt.Sprintf(format, args...))
}

func measure(ctx context.Context, o options) (r *results, err error) {
	b := &bench{options: o, begin: time.Now()}
	if b.binary, err = stack.BuildTollgate(ctx); err != nil {
		return nil, err
	}
	if b.dir, err = os.MkdirTemp("", "tollgate-sync-"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(b.dir)
	r = &results{
		Date: time.Now().UTC().Format(time.DateOnly), Commit: commit(ctx), Quick: o.quick,
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

// commit returns what is measured, as git calls it.
func commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

func load(path string) (*results, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &results{}
	return r, json.Unmarshal(data, r)
}

func save(path string, r *results) error {
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// render puts the tables into their place on a page.
func render(page string, r *results) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	filled, err := fill(string(text), r)
	if err != nil {
		return fmt.Errorf("%s: %w", page, err)
	}
	return os.WriteFile(page, []byte(filled), 0o644)
}
