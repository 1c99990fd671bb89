package main

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/metrics"
	"github.com/tollgate-apim/tollgate/controlplane/reload"
	"github.com/tollgate-apim/tollgate/controlplane/revision"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/sharing"
	"github.com/tollgate-apim/tollgate/controlplane/signing"
	"github.com/tollgate-apim/tollgate/controlplane/status"
	"github.com/tollgate-apim/tollgate/controlplane/watch"
)

const (
	// gracePeriod is how long requests under way may take when we stop.
	gracePeriod = 10 * time.Second
	// maxTokens is how many tokens may be good at a time: one, or two while it
	// is being replaced, for each group of gateways.
	maxTokens = 100
)

type serveOptions struct {
	manifests     []string
	revision      string
	listen        string
	tokenFile     string
	signingKeys   []string
	tlsCert       string
	tlsKey        string
	clientCA      string
	partsAbove    int
	maxConns      int
	metricsListen string
	series        int
	otlpEndpoint  string
	store         storeOptions
	allowInsecure bool
	logFormat     string
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve --manifests DIR",
		Short: "Compile manifests and serve the table to gateways",
		Long: `Reads the manifests (*.yaml, *.yml, *.json) under each --manifests path, serves
the table that they make at /v1/table, and reads them again when they change. It
takes the reports of gateways at /v1/report, and tells about them at /v1/status.

A bad object is left out, and logged with its file, line and field. A change that
cannot be read at all is kept out: the last good table stays in force.

Tokens, passwords, keys and certificates are read again when their files change.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.manifests, "manifests", nil, "folder or file of manifests; may be repeated")
	f.StringVar(&o.revision, "revision", "auto", `what tells a table's revision: git (the commit of the manifests), mtime (their times
of modification), file:PATH (a number in a file), clock, or auto: git, or else clock`)
	f.StringVar(&o.listen, "listen", "127.0.0.1:7070", "address to listen on")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the token that gateways must present; several, one a line, while it is being replaced")
	f.StringArrayVar(&o.signingKeys, "signing-key", nil, "file with a private key that tollgate keygen made, to sign tables with; may be repeated")
	f.StringVar(&o.tlsCert, "tls-cert", "", "file with the certificate chain, PEM")
	f.StringVar(&o.tlsKey, "tls-key", "", "file with the certificate's key, PEM")
	f.StringVar(&o.clientCA, "client-ca", "", "file with the authorities, PEM, of which gateways must present a certificate")
	f.IntVar(&o.partsAbove, "parts-above", server.DefaultPartsAbove, "how many keys, applications and subscriptions together a table may have and still be served as one document")
	f.IntVar(&o.maxConns, "max-connections", 4096, "how many connections there may be at a time")
	f.StringVar(&o.metricsListen, "metrics-listen", "", "another address, which serves /metrics, /v1/status and /healthz over plain HTTP, without a token")
	f.IntVar(&o.series, "metrics-series", ledger.DefaultSeries, "how many kinds of requests (by API, application, key, subscription, plan, code and reason) are told apart; others are counted under application other")
	f.StringVar(&o.otlpEndpoint, "otlp-endpoint", "", "URL to push the metrics to, by the OpenTelemetry protocol over HTTP")
	o.store.addFlags(f)
	f.BoolVar(&o.allowInsecure, "allow-insecure-listen", false, "listen beyond loopback without TLS, or without both token and client certificates, or for metrics")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	return cmd
}

// serve runs until ctx ends.
func serve(ctx context.Context, o serveOptions, stderr io.Writer) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	revisions, err := revision.Parse(o.revision, o.manifests)
	if err != nil {
		return fmt.Errorf("--revision: %w", err)
	}
	// More use than that the address is taken, and nobody connects in vain.
	if _, err := manifest.List(o.manifests); err != nil {
		return err
	}
	log := newLogger(o.logFormat, stderr)
	opened, storeSources, err := o.store.open(log)
	if err != nil {
		return err
	}
	watched := metrics.New(log)
	kept := watched.Store(opened)
	defer func() { err = errors.Join(err, kept.Close()) }()
	book := ledger.New(ledger.Options{Store: kept, Log: log, Series: o.series})
	shared := sharing.New(sharing.Options{Store: kept, Log: log})
	s := server.New(server.Options{Log: log, PartsAbove: o.partsAbove, Ledger: book, Sharing: shared})
	watched.ObserveServer(s)
	watched.ObserveLedger(book)
	watched.ObserveSharing(shared)
	s.AddPage(metrics.Path, watched.Handler())
	s.AddPage(status.Path, status.Source{Server: s, Ledger: book, Sharing: shared, StoreKind: o.store.kind()})
	files, err := reload.Start(log, append(o.sources(s, log), storeSources...)...)
	if err != nil {
		return err
	}
	watcher, err := watch.New(manifest.Listed)
	if err != nil {
		return err
	}
	defer watcher.Close()
	sites, err := o.sites(ctx, s, log)
	if err != nil {
		return err
	}
	follower := &server.Follower{
		Paths: o.manifests, Watch: watcher.Watch, Changes: watcher.Changes(), Revisions: revisions, Server: s, Log: log,
		Compiled: watched.Compiled,
	}
	runners := []runner{follower.Run, files.Run, book.Run}
	if o.otlpEndpoint == "" {
		return runUntilDone(ctx, sites, runners, log)
	}
	pusher, err := o.pusher(ctx, watched, sites[0].listener.Addr())
	if err != nil {
		return err
	}
	err = runUntilDone(ctx, sites, runners, log)
	// After the last request, so that nothing that was counted is missing.
	return errors.Join(err, pusher.End(ctx))
}

// pusher returns what pushes metrics, under the name of the machine and of an
// address, which tell several control planes apart.
func (o serveOptions) pusher(ctx context.Context, watched *metrics.Metrics, address net.Addr) (*metrics.Pusher, error) {
	endpoint, err := pushURL(o.otlpEndpoint)
	if err != nil {
		return nil, fmt.Errorf("--otlp-endpoint: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("asking for the name of this machine: %w", err)
	}
	return watched.NewPusher(ctx, endpoint, host+" "+address.String())
}

// sources are the files that change what s does while it runs.
func (o serveOptions) sources(s *server.Server, log *slog.Logger) []reload.Source {
	var sources []reload.Source
	if o.tokenFile != "" {
		sources = append(sources, reload.Source{Name: "--token-file", Files: []string{o.tokenFile}, Use: func(contents [][]byte) error {
			tokens, err := readTokens(string(contents[0]))
			if err == nil {
				s.AdmitTokens(tokens)
			}
			return inFile(o.tokenFile, err)
		}})
	}
	if o.tlsCert != "" {
		sources = append(sources, reload.Source{Name: "--tls-cert and --tls-key", Files: []string{o.tlsCert, o.tlsKey}, Use: func(contents [][]byte) error {
			certificate, err := tls.X509KeyPair(contents[0], contents[1])
			if err == nil {
				s.UseCertificate(certificate)
			}
			return err
		}})
	}
	if o.clientCA != "" {
		sources = append(sources, reload.Source{Name: "--client-ca", Files: []string{o.clientCA}, Use: func(contents [][]byte) error {
			authorities := x509.NewCertPool()
			if !authorities.AppendCertsFromPEM(contents[0]) {
				return inFile(o.clientCA, errors.New("has no certificate in PEM"))
			}
			s.AdmitClients(authorities)
			return nil
		}})
	}
	if len(o.signingKeys) > 0 {
		sources = append(sources, reload.Source{Name: "--signing-key", Files: o.signingKeys, Use: func(contents [][]byte) error {
			keys, err := readSigningKeys(o.signingKeys, contents)
			if err != nil {
				return err
			}
			s.SignWith(keys)
			public := make([]string, len(keys))
			for i, key := range keys {
				public[i] = signing.PublicKey(key)
			}
			log.Info("tables are signed", "publicKeys", public)
			return nil
		}})
	}
	return sources
}

// inFile says which file an error is about.
func inFile(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %w", path, err)
}

func readSigningKeys(files []string, contents [][]byte) ([]ed25519.PrivateKey, error) {
	keys := make([]ed25519.PrivateKey, len(files))
	var problems []error
	for i, file := range files {
		key, err := signing.Decode(contents[i])
		if err != nil {
			problems = append(problems, inFile(file, err))
			continue
		}
		for _, other := range keys[:i] {
			if key.Equal(other) {
				problems = append(problems, inFile(file, errors.New("holds a key that another file holds too")))
			}
		}
		keys[i] = key
	}
	return keys, errors.Join(problems...)
}

// readTokens returns the tokens of a file, one from each line.
func readTokens(text string) ([]string, error) {
	var tokens []string
	number := 0
	for line := range strings.Lines(text) {
		number++
		token := strings.TrimSpace(line)
		switch {
		case token == "":
			continue
		case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
			return nil, fmt.Errorf("line %d: a token has white space inside, or what is no ASCII, must be one token a line", number)
		}
		tokens = append(tokens, token)
	}
	switch {
	case len(tokens) == 0:
		return nil, errors.New("is empty, must have a token")
	case len(tokens) > maxTokens:
		return nil, fmt.Errorf("has %d tokens, must have at most %d", len(tokens), maxTokens)
	}
	return tokens, nil
}

// readToken returns the first token of a file, or "" without a file.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := reload.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	tokens, err := readTokens(string(data))
	if err != nil {
		return "", fmt.Errorf("--token-file: %s %w", path, err)
	}
	return tokens[0], nil
}

// runner runs until its context ends.
type runner func(ctx context.Context) error

// runUntilDone serves while others run. Whichever ends first ends the others.
func runUntilDone(ctx context.Context, sites []site, others []runner, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended, served := make(chan error, len(others)), make(chan error, len(sites))
	for _, run := range others {
		go func() {
			ended <- run(ctx)
			cancel()
		}()
	}
	for _, site := range sites {
		go func() {
			served <- site.web.Serve(site.listener)
			cancel()
		}()
	}
	<-ctx.Done()

	log.Info("stopping")
	grace, end := context.WithTimeout(context.WithoutCancel(ctx), gracePeriod)
	defer end()
	var err error
	for _, site := range sites {
		err = errors.Join(err, site.web.Shutdown(grace))
	}
	for range sites {
		if serving := <-served; !errors.Is(serving, http.ErrServerClosed) {
			err = errors.Join(err, serving)
		}
	}
	for range others {
		err = errors.Join(err, <-ended)
	}
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// check tells what is wrong with the flags, all at once.
func (o serveOptions) check() error {
	var problems []error
	if len(o.manifests) == 0 {
		problems = append(problems, errors.New("--manifests: missing, must name a folder or a file"))
	}
	if _, err := revision.Parse(o.revision, o.manifests); err != nil {
		problems = append(problems, fmt.Errorf("--revision: %w", err))
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		problems = append(problems, fmt.Errorf("--log-format: %q, must be text or json", o.logFormat))
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		problems = append(problems, errors.New("--tls-cert and --tls-key: only one is set, must be both or neither"))
	}
	if o.clientCA != "" && o.tlsCert == "" {
		problems = append(problems, errors.New("--client-ca: needs --tls-cert and --tls-key"))
	}
	if len(o.signingKeys) > signing.MaxKeys {
		problems = append(problems, fmt.Errorf("--signing-key: given %d times, must be at most %d", len(o.signingKeys), signing.MaxKeys))
	}
	if o.partsAbove < 1 {
		problems = append(problems, fmt.Errorf("--parts-above: %d, must be 1 or more", o.partsAbove))
	}
	if o.series < 1 {
		problems = append(problems, fmt.Errorf("--metrics-series: %d, must be 1 or more", o.series))
	}
	if o.maxConns < 1 {
		problems = append(problems, fmt.Errorf("--max-connections: %d, must be 1 or more", o.maxConns))
	}
	if o.otlpEndpoint != "" {
		if _, err := pushURL(o.otlpEndpoint); err != nil {
			problems = append(problems, fmt.Errorf("--otlp-endpoint: %w", err))
		}
	}
	problems = append(problems, o.store.check()...)
	problems = append(problems, o.checkListen())
	return errors.Join(problems...)
}

func newLogger(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
