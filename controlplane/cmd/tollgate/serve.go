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
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tollgate-apim/tollgate/controlplane/ledger"
	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/reload"
	"github.com/tollgate-apim/tollgate/controlplane/revision"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/signing"
	"github.com/tollgate-apim/tollgate/controlplane/status"
	"github.com/tollgate-apim/tollgate/controlplane/store"
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
	series        int
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

Tokens, keys and certificates are read again when their files change.`,
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
	f.IntVar(&o.series, "metrics-series", ledger.DefaultSeries, "how many kinds of requests (by API, application, key, subscription, plan, code and reason) are told apart; others are counted under application other")
	f.BoolVar(&o.allowInsecure, "allow-insecure-listen", false, "listen beyond loopback without TLS, or without both token and client certificates")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	return cmd
}

// serve runs until ctx ends.
func serve(ctx context.Context, o serveOptions, stderr io.Writer) error {
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
	kept := store.NewMemory(nil)
	defer kept.Close()
	book := ledger.New(ledger.Options{Store: kept, Log: log, Series: o.series})
	s := server.New(server.Options{Log: log, PartsAbove: o.partsAbove, Ledger: book})
	s.AddPage(status.Path, status.Source{Server: s, Ledger: book, StoreKind: "memory"})
	files, err := reload.Start(log, o.sources(s, log)...)
	if err != nil {
		return err
	}
	watcher, err := watch.New(manifest.Listed)
	if err != nil {
		return err
	}
	defer watcher.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	address := listener.Addr().String()
	listener = server.Limit(listener, o.maxConns, log)
	if o.tlsCert != "" {
		listener = tls.NewListener(listener, s.TLSConfig())
	}
	log.Info("listening", "address", address, "tls", o.tlsCert != "", "token", o.tokenFile != "",
		"clientCertificates", o.clientCA != "", "signed", len(o.signingKeys) > 0)

	follower := &server.Follower{
		Paths: o.manifests, Watch: watcher.Watch, Changes: watcher.Changes(), Revisions: revisions, Server: s, Log: log,
	}
	return runUntilDone(ctx, s, []runner{follower.Run, files.Run, book.Run}, listener, log)
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
func runUntilDone(ctx context.Context, s *server.Server, others []runner, listener net.Listener, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web := s.Web()
	ended, served := make(chan error, len(others)), make(chan error, 1)
	for _, run := range others {
		go func() {
			ended <- run(ctx)
			cancel()
		}()
	}
	go func() {
		served <- web.Serve(listener)
		cancel()
	}()
	<-ctx.Done()

	log.Info("stopping")
	grace, end := context.WithTimeout(context.WithoutCancel(ctx), gracePeriod)
	defer end()
	stopped := web.Shutdown(grace)
	serving := <-served
	if errors.Is(serving, http.ErrServerClosed) {
		serving = nil
	}
	err := errors.Join(serving, stopped)
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
	host, _, err := net.SplitHostPort(o.listen)
	switch {
	case err != nil:
		problems = append(problems, fmt.Errorf("--listen: %q, must be host:port, such as 127.0.0.1:7070", o.listen))
	case !isLoopback(host) && !o.allowInsecure && (o.tokenFile == "" && o.clientCA == "" || o.tlsCert == ""):
		problems = append(problems, fmt.Errorf("--listen: %q is reachable from outside, which needs --tls-cert, --tls-key, and --token-file or --client-ca; --allow-insecure-listen does without", o.listen))
	}
	return errors.Join(problems...)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func newLogger(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
