// Command tollgate is Tollgate's control plane: it compiles manifests into the
// table that gateways enforce, serves it, takes their reports, and makes keys.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	os.Exit(run())
}

// errNegative says that a command has run and that its answer, which it has
// written, is no.
var errNegative = errors.New("the answer is no")

// run is main without the exit, so that tests can run it in their own process. It
// returns 0, or 1 after a negative answer, or 2 if the command could not run.
func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal does not wait for a graceful end.
	context.AfterFunc(ctx, stop)
	switch err := newCommand().ExecuteContext(ctx); {
	case err == nil:
		return 0
	case errors.Is(err, errNegative):
		return 1
	default:
		fmt.Fprintln(os.Stderr, "tollgate:", err)
		return 2
	}
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "tollgate",
		Short: "Control plane of Tollgate: API keys, subscriptions and plans for Traefik Proxy",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		// An error is not a reason to read the manual.
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(debug.ReadBuildInfo()),
	}
	root.SetVersionTemplate("tollgate {{.Version}}\n")
	root.AddCommand(newServeCommand(), newLintCommand(), newKeyCommand(), newKeygenCommand(), newExplainCommand(), newStatusCommand(), newMigrateCommand(), newVersionCommand())
	return root
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "tollgate", cmd.Root().Version)
			return err
		},
	}
}

// version says what was built: the version of the module, or where there is none
// the revision that it was built from.
func version(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return "(unknown)"
	}
	name := info.Main.Version
	if name == "" || name == "(devel)" {
		name = "(devel)"
		setting := map[string]string{}
		for _, s := range info.Settings {
			setting[s.Key] = s.Value
		}
		if revision := setting["vcs.revision"]; revision != "" {
			name = revision
		}
		if setting["vcs.modified"] == "true" {
			name += "+dirty"
		}
	}
	return name + " " + info.GoVersion
}
