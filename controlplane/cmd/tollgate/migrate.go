package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/migrate"
)

func newMigrateCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "migrate [PATH...]",
		Short: "Write anew what manifests say in deprecated kinds and fields",
		Long: `Reads the manifests (*.yaml, *.yml, *.json) under each PATH, the current folder if
there is none, and writes what replaces the deprecated ones: a ManagedSubscription
and an APIPlan for what APIAccess and APIRateLimit said, and managedApplications
for the App IDs of subscriptions.

What cannot be said in the new kinds becomes a comment that begins with TODO. Above
all, who the applications of a group are is left to you, and they have no access as
such until you have named them. Nothing that is written allows a call that Traefik
Hub did not allow by the old objects. Tollgate gave no access by them, so here access
may widen: read what changes for whom with "tollgate lint --diff" before you serve it.

It changes no file: it writes to standard output, or to new files below --out.`,
		Example: `  tollgate migrate manifests
  tollgate migrate --out migrated manifests`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{"."}
			}
			return runMigrate(cmd, args, out)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "folder for new files, in place of standard output")
	return cmd
}

func runMigrate(cmd *cobra.Command, paths []string, out string) error {
	result, err := migrated(cmd.Context(), paths, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	if out == "" {
		err = writeFiles(cmd.OutOrStdout(), result.Files)
	} else {
		err = save(out, result.Files)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	stderr := cmd.ErrOrStderr()
	for _, note := range result.Notes {
		fmt.Fprintln(stderr, "tollgate: note:", note)
	}
	switch {
	case len(result.Files) == 0:
		fmt.Fprintln(stderr, "tollgate: there is nothing to migrate")
	case result.TODOs > 0:
		fmt.Fprintf(stderr, "tollgate: left to you, marked with TODO: %d\n", result.TODOs)
	}
	return nil
}

// migrated reads manifests and writes them anew, unless any of them has an error.
func migrated(ctx context.Context, paths []string, stderr io.Writer) (*migrate.Result, error) {
	tree, err := manifest.List(paths)
	if err != nil {
		return nil, err
	}
	loaded := manifest.Load(ctx, tree.Files)
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	if refusals := migrate.Refusals(loaded); len(refusals) > 0 {
		for _, f := range refusals {
			fmt.Fprintln(stderr, f)
		}
		return nil, errors.New("migrate: the manifests have errors, which must be mended first: what is left out may be a limit")
	}
	return migrate.Migrate(loaded.Objects), nil
}

func writeFiles(w io.Writer, files []migrate.File) error {
	for _, f := range files {
		if _, err := io.WriteString(w, "---\n"+f.Text); err != nil {
			return err
		}
	}
	return nil
}

// save writes each file below a folder, under the name of what it replaces. If
// one of them exists, it writes none.
func save(dir string, files []migrate.File) error {
	names := make([]string, len(files))
	taken := map[string]bool{}
	var problems []error
	for i, f := range files {
		names[i] = filepath.Join(dir, below(f.Path))
		for n := 2; taken[names[i]]; n++ {
			names[i] = filepath.Join(dir, strings.TrimSuffix(below(f.Path), ".yaml")+fmt.Sprintf("-%d.yaml", n))
		}
		taken[names[i]] = true
		if _, err := os.Lstat(names[i]); !errors.Is(err, fs.ErrNotExist) {
			problems = append(problems, fmt.Errorf("--out: %s exists, must be a new file", names[i]))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return err
	}
	for i, f := range files {
		if err := os.MkdirAll(filepath.Dir(names[i]), 0o750); err != nil {
			return err
		}
		if err := create(names[i], f.Text); err != nil {
			return err
		}
	}
	return nil
}

// create writes a file that did not exist.
func create(name, text string) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(text); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// below returns the path that a manifest has under another folder.
func below(path string) string {
	path = filepath.ToSlash(strings.TrimSuffix(path, filepath.Ext(path)) + ".yaml")
	if !filepath.IsLocal(path) {
		path = filepath.Base(path)
	}
	return path
}
