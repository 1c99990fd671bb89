package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/tollgate-apim/tollgate/controlplane/status"
)

const (
	// statusTimeout is how long a control plane may take to say how it is.
	statusTimeout = 10 * time.Second
	// minInterval is the shortest time between two looks.
	minInterval = 100 * time.Millisecond
)

type statusOptions struct {
	connection
	watch    bool
	interval time.Duration
	format   string
}

func newStatusCommand() *cobra.Command {
	var o statusOptions
	cmd := &cobra.Command{
		Use:   "status --endpoint URL",
		Short: "Show how a control plane and its gateways are",
		Long: `Asks a running control plane which gateways report to it, which table each of them
has, what was found in the manifests, how its store is, and which applications and
APIs have the most requests.

A control plane knows what was reported to itself since it was started. Where
there are several, ask each.

With --watch a terminal shows it anew every --interval, until Ctrl-C; anything else
gets one block, or one line of JSON, after the other.`,
		Example: `  tollgate status --endpoint http://127.0.0.1:7070
  tollgate status --endpoint https://10.0.0.1:7070 --token-file sync-token --watch`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runStatus(cmd, o)
		},
	}
	f := cmd.Flags()
	o.connection.flags(f, "base URL of a running control plane")
	f.BoolVar(&o.watch, "watch", false, "look again every --interval")
	f.DurationVar(&o.interval, "interval", 2*time.Second, "time between two looks")
	f.StringVar(&o.format, "format", "text", "text or json")
	return cmd
}

// check tells what is wrong with the flags, all at once.
func (o statusOptions) check() error {
	var problems []error
	if o.endpoint == "" {
		problems = append(problems, errors.New("--endpoint: missing, must be the base URL of a control plane, such as http://127.0.0.1:7070"))
	} else if err := o.connection.check(); err != nil {
		problems = append(problems, err)
	}
	if o.interval < minInterval {
		problems = append(problems, fmt.Errorf("--interval: %s, must be %s or more", o.interval, minInterval))
	}
	if o.format != "text" && o.format != "json" {
		problems = append(problems, fmt.Errorf("--format: %q, must be text or json", o.format))
	}
	return errors.Join(problems...)
}

func runStatus(cmd *cobra.Command, o statusOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	client, err := o.client(statusTimeout)
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	look := func(ctx context.Context) (*status.Document, error) {
		token, err := readToken(o.tokenFile) // It may have been replaced.
		if err != nil {
			return nil, err
		}
		return status.Fetch(ctx, client, o.endpoint, token)
	}
	d, err := look(cmd.Context())
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if !o.watch {
		return writeStatus(out, d, o.format, "  ")
	}
	ticker := time.NewTicker(o.interval)
	defer ticker.Stop()
	w := watching{look: look, tick: ticker.C}
	if file, ok := terminal(out); ok && o.format == "text" {
		size := func() (columns, rows int) {
			columns, rows, err := term.GetSize(int(file.Fd()))
			if err != nil {
				return 0, 0
			}
			return columns, rows
		}
		return w.onScreen(cmd.Context(), status.Screen{Out: out, Size: size}, fmt.Sprintf("%s, every %s", o.endpoint, o.interval), d)
	}
	return w.plainly(cmd.Context(), out, cmd.ErrOrStderr(), o.format, d)
}

// terminal returns what w is if that is a terminal which can move its cursor.
func terminal(w io.Writer) (*os.File, bool) {
	file, ok := w.(*os.File)
	return file, ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

// watching looks again and again.
type watching struct {
	look func(ctx context.Context) (*status.Document, error)
	tick <-chan time.Time
}

// next waits for the next tick and looks. It is false once ctx has ended.
func (w watching) next(ctx context.Context) (ok bool, d *status.Document, err error) {
	select {
	case <-ctx.Done():
		return false, nil, nil
	case <-w.tick:
	}
	d, err = w.look(ctx)
	return ctx.Err() == nil, d, err
}

// plainly writes one document after the other. When the control plane cannot be
// asked it says so, and goes on.
func (w watching) plainly(ctx context.Context, out, stderr io.Writer, format string, d *status.Document) error {
	for {
		if d != nil {
			if format == "text" {
				if _, err := fmt.Fprintf(out, "%s\n", d.Time.Format(time.RFC3339)); err != nil {
					return fmt.Errorf("writing: %w", err)
				}
			}
			if err := writeStatus(out, d, format, ""); err != nil {
				return err
			}
			if format == "text" {
				fmt.Fprintln(out)
			}
		}
		var ok bool
		var err error
		if ok, d, err = w.next(ctx); !ok {
			return nil
		}
		if err != nil {
			fmt.Fprintln(stderr, "tollgate:", err)
		}
	}
}

// onScreen shows one document in the place of the other. When the control plane
// cannot be asked the last one stays, and the first line says so.
func (w watching) onScreen(ctx context.Context, screen status.Screen, title string, d *status.Document) (err error) {
	if err := screen.Open(); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	defer func() { err = errors.Join(err, screen.Close()) }()
	first := title
	for {
		if err := screen.Show(d.Time.Format(time.RFC3339)+"  "+first, d); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		ok, next, err := w.next(ctx)
		if !ok {
			return nil
		}
		if err != nil {
			first = title + ": " + err.Error()
			continue
		}
		d, first = next, title
	}
}

func writeStatus(w io.Writer, d *status.Document, format, indent string) error {
	if format == "text" {
		if err := d.Text(w); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		return nil
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if err := encoder.Encode(d); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}
