// Package record is what the benchmarks have in common beside measuring: it keeps
// results as JSON and in their place on a page, and tells how far a run has come.
package record

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

// Main runs a benchmark until it is done or interrupted, and ends the program with
// status 1 if it failed.
func Main(name string, run func(ctx context.Context, args []string) error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		stop()
		os.Exit(1)
	}
}

// Say returns what prints progress, with the time since this call.
func Say() func(format string, args ...any) {
	begin := time.Now()
	return func(format string, args ...any) {
		fmt.Printf("%4.0fs  %s\n", time.Since(begin).Seconds(), fmt.Sprintf(format, args...))
	}
}

// Commit returns what is measured, as git calls it.
func Commit(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=10").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// Save writes results to a file.
func Save(path string, results any) error {
	data, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// Load reads results, which must be a pointer.
func Load(path string, results any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, results); err != nil {
		return fmt.Errorf("reading %s: %w", path, err)
	}
	return nil
}

// Render puts a text into its place in a file.
func Render(file, place, text string) error {
	page, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	filled, err := Fill(string(page), place, text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(filled), 0o644)
}

// Fill returns a page with a text in its place, which is between two comments that
// name it. The first one goes on after the name and a colon as it likes.
func Fill(page, place, text string) (string, error) {
	const endOfComment = " -->\n"
	begin, end := "<!-- "+place+":", "<!-- end of "+place+endOfComment
	before, rest, found := strings.Cut(page, begin)
	remark, rest, _ := strings.Cut(rest, endOfComment)
	_, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		return "", errors.New("the page has no place for " + place + ": found no lines " + begin + "… and " + strings.TrimSpace(end))
	}
	return before + begin + remark + endOfComment + "\n" + strings.TrimRight(text, "\n") + "\n\n" + end + after, nil
}
