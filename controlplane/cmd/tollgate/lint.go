package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tollgate-apim/tollgate/controlplane/access"
	"github.com/tollgate-apim/tollgate/controlplane/finding"
	"github.com/tollgate-apim/tollgate/controlplane/gittree"
	"github.com/tollgate-apim/tollgate/controlplane/lint"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/report"
)

type lintOptions struct {
	paths   []string
	format  string
	strict  bool
	disable []string
	diff    string
	// base says that diff was given, be it empty.
	base bool
}

func newLintCommand() *cobra.Command {
	var o lintOptions
	cmd := &cobra.Command{
		Use:   "lint [PATH...]",
		Short: "Check manifests before they are served",
		Long: `Checks the manifests (*.yaml, *.yml, *.json) under each PATH, the current folder
if there is none, by the rules of ` + lint.Page + `.
An error keeps an object out of the table or makes it grant nothing; a warning is
about what works, but is hardly meant. What has no errors is served as it stands.

With --diff, only those findings are told that the changes since a Git revision
bring or take away, and what the changes do to access: which application gains,
loses or changes which API, operations, limits and keys.

A comment "# tollgate:ignore RULE reason" at the end of a line, above it, or above
a whole document ignores the findings of a rule there.

The exit status is 0 if there are no errors (with --strict: no warnings either), 1
if there are, and 2 if the manifests could not be checked.`,
		Example: `  tollgate lint manifests
  tollgate lint --format sarif --disable orphan,keyless manifests > tollgate.sarif
  tollgate lint --diff origin/main --format markdown manifests`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.paths = args
			if len(args) == 0 {
				o.paths = []string{"."}
			}
			o.base = cmd.Flags().Changed("diff")
			return runLint(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.format, "format", "text", strings.Join(report.Formats(), ", "))
	f.BoolVar(&o.strict, "strict", false, "end with status 1 on warnings, too")
	f.StringSliceVar(&o.disable, "disable", nil, "rules that are not applied; may be repeated")
	f.StringVar(&o.diff, "diff", "", "tell only what changed since a Git revision, and what that does to access")
	return cmd
}

func runLint(cmd *cobra.Command, o lintOptions) error {
	disabled, err := o.check()
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	tree, err := manifest.List(o.paths)
	if err != nil {
		return err
	}
	loaded := manifest.Load(ctx, tree.Files)
	if len(tree.Files) == 0 {
		for _, path := range o.paths {
			loaded.Findings = append(loaded.Findings, finding.Finding{Rule: finding.File, Severity: finding.Warning, File: path,
				Problem: "there are no manifests in it", Allowed: "*.yaml, *.yml and *.json"})
		}
	}
	checked := lint.Check(loaded, disabled)
	out := &report.Report{Findings: checked.Findings, Ignored: checked.Ignored}
	if o.base {
		if err := o.since(ctx, out, checked, disabled); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("lint: %w", err)
	}
	stdout := cmd.OutOrStdout()
	lines := lineReader{read: readManifest}
	if err := report.Write(stdout, o.format, out, report.Options{Colour: isTerminal(stdout), Line: lines.line}); err != nil {
		return fmt.Errorf("lint: writing: %w", err)
	}
	errors, warnings := finding.Count(out.Findings)
	if errors > 0 || o.strict && warnings > 0 {
		return errNegative
	}
	return nil
}

// check tells what is wrong with the flags, and returns the rules to disable.
func (o lintOptions) check() (map[finding.Rule]bool, error) {
	if !slices.Contains(report.Formats(), o.format) {
		return nil, fmt.Errorf("lint: --format: %q, must be one of %s", o.format, strings.Join(report.Formats(), ", "))
	}
	disabled := map[finding.Rule]bool{}
	for _, name := range o.disable {
		rule, err := lint.ParseRule(strings.TrimSpace(name))
		if err != nil {
			return nil, fmt.Errorf("lint: --disable: %w", err)
		}
		disabled[rule] = true
	}
	return disabled, nil
}

// since makes out a report on what changed since a revision.
func (o lintOptions) since(ctx context.Context, out *report.Report, checked *lint.Report, disabled map[finding.Rule]bool) error {
	texts, err := gittree.Read(ctx, ".", o.diff, o.paths)
	if err != nil {
		return fmt.Errorf("lint: --diff: %w", err)
	}
	base := lint.Check(manifest.ParseAll(ctx, texts), disabled)
	out.Change = &report.Change{Base: o.diff, Access: access.Compare(base.Table, checked.Table)}
	were := lineReader{read: func(file string) []byte {
		for _, t := range texts {
			if t.Name == file {
				return t.Data
			}
		}
		return nil
	}}
	are := lineReader{read: readManifest}
	out.Findings, out.Change.Gone = lint.Diff(base.Findings, checked.Findings, were.line, are.line)
	return nil
}

// isTerminal reports whether w is a terminal that is to be coloured.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// lineReader reads lines of files. It keeps the last file, as findings come by
// file.
type lineReader struct {
	read  func(file string) []byte
	file  string
	lines []string
}

func (r *lineReader) line(file string, n int) (string, bool) {
	if r.lines == nil || r.file != file {
		// Cut only once, however long the lines are.
		r.file, r.lines = file, strings.Split(string(r.read(file)), "\n")
	}
	if n < 1 || n > len(r.lines) {
		return "", false
	}
	return strings.TrimRight(r.lines[n-1], "\r"), true
}

// readManifest returns what a file holds, or nothing if it cannot be read.
func readManifest(file string) []byte {
	if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Size() <= manifest.MaxFileBytes {
		if data, err := os.ReadFile(file); err == nil {
			return data
		}
	}
	return nil
}
