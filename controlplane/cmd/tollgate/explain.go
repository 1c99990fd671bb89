package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate-apim/tollgate/controlplane/compile"
	"github.com/tollgate-apim/tollgate/controlplane/explain"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/table"
)

// fetchTimeout is how long a control plane may take to send its table.
const fetchTimeout = time.Minute

type explainOptions struct {
	api         string
	application string
	keyStdin    bool
	manifests   []string
	format      string
	connection
}

func newExplainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain --api NAMESPACE/NAME [--key-stdin | --app ID] METHOD PATH",
		Short: "Say how a gateway decides on a request, and why",
		Long: `Decides on a request as a gateway does, by the same code, and says what led to
the decision: who holds the key, which subscription won, which operations it
allows, which limits there are. It goes by manifests, or by the table of a running
control plane, which has winners only.

The key is read from standard input, never from an argument; --app asks for an
application instead, whichever key it has. Without either the request has no key.
PATH is what the middleware sees: after Traefik has cleaned it, and after the
middlewares that come before. Nothing is consumed.

The exit status is 0 if the request is admitted, 1 if it is refused, and 2 if it
could not be explained.`,
		Example: `  tollgate explain --manifests manifests --api apps/weather-api --app weather-mobile GET /weather
  tollgate explain --endpoint http://127.0.0.1:7070 --api apps/weather-api --key-stdin GET /weather < key`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				// Not repeated: one may be a key.
				return fmt.Errorf("explain: %d arguments, must be METHOD and PATH, such as GET /weather", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return runExplain(cmd, o, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.api, "api", "", "namespace/name of the API")
	f.StringVar(&o.application, "app", "", "ask as an application: its namespace/name or its App ID")
	f.BoolVar(&o.keyStdin, "key-stdin", false, "read the key from standard input")
	f.StringArrayVar(&o.manifests, "manifests", nil, "folder or file of manifests; may be repeated")
	o.connection.flags(f, "base URL of a running control plane, in place of manifests")
	f.StringVar(&o.format, "format", "text", "text or json")
	return cmd
}

// check tells what is wrong with the flags, all at once.
func (o explainOptions) check() error {
	var problems []error
	if o.api == "" {
		problems = append(problems, errors.New("--api: missing, must be the namespace/name of an API, such as apps/weather-api"))
	}
	if o.keyStdin && o.application != "" {
		problems = append(problems, errors.New("--key-stdin and --app: both are set, must be one of them or neither"))
	}
	if (len(o.manifests) > 0) == (o.endpoint != "") {
		problems = append(problems, errors.New("--manifests and --endpoint: must be one of them"))
	}
	if err := o.connection.check(); err != nil {
		problems = append(problems, err)
	}
	if o.format != "text" && o.format != "json" {
		problems = append(problems, fmt.Errorf("--format: %q, must be text or json", o.format))
	}
	return errors.Join(problems...)
}

func runExplain(cmd *cobra.Command, o explainOptions, method, target string) error {
	if err := o.check(); err != nil {
		return err
	}
	q := explain.Question{API: o.api, Method: method, Target: target, Application: o.application}
	if o.keyStdin {
		data, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 2*explain.MaxKeyBytes))
		if err != nil {
			return fmt.Errorf("reading the key: %w", err)
		}
		// As a gateway takes it from a header.
		q.Key = strings.TrimSpace(string(data))
	}
	var w explain.World
	var err error
	if o.endpoint != "" {
		w.Table, err = o.fetch(cmd.Context())
	} else {
		w, err = readWorld(cmd.Context(), o.manifests)
	}
	if err != nil {
		return err
	}
	e, err := explain.Explain(w, q)
	if err != nil {
		return err
	}
	if err := write(cmd.OutOrStdout(), e, o.format); err != nil {
		return err
	}
	if !e.Answer.Admitted {
		return errNegative
	}
	return nil
}

func write(w io.Writer, e *explain.Explanation, format string) error {
	if format == "text" {
		return e.Text(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(e); err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	return nil
}

// readWorld compiles manifests, as serving them does.
func readWorld(ctx context.Context, paths []string) (explain.World, error) {
	tree, err := manifest.List(paths)
	if err != nil {
		return explain.World{}, err
	}
	loaded := manifest.Load(ctx, tree.Files)
	if err := ctx.Err(); err != nil {
		return explain.World{}, err
	}
	compiled := compile.Compile(loaded.Objects)
	// What serving them would refuse, no gateway gets.
	served := *compiled.Table
	served.Revision, served.IssuedAt = 1, time.Unix(1, 0)
	if err := table.Validate(&served); err != nil {
		return explain.World{}, fmt.Errorf("validating table: %w", err)
	}
	return explain.World{Table: compiled.Table, Loaded: loaded, Compiled: compiled}, nil
}

// fetch gets the table of a running control plane.
func (o explainOptions) fetch(ctx context.Context) (*table.Table, error) {
	token, err := readToken(o.tokenFile)
	if err != nil {
		return nil, err
	}
	client, err := o.client(fetchTimeout)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	return explain.Fetch(ctx, client, o.endpoint, token)
}
