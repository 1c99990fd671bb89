package main

import (
	"context"
	"crypto/tls"
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

	"github.com/tollgate-apim/tollgate/controlplane/manifest"
	"github.com/tollgate-apim/tollgate/controlplane/server"
	"github.com/tollgate-apim/tollgate/controlplane/watch"
)

const (
	// maxTokenBytes is the size above which a token file is taken for another.
	maxTokenBytes = 4096
	// gracePeriod is how long requests under way may take when we stop.
	gracePeriod = 10 * time.Second
)

type serveOptions struct {
	manifests     []string
	listen        string
	tokenFile     string
	tlsCert       string
	tlsKey        string
	allowInsecure bool
	logFormat     string
}

func newServeCommand() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve --manifests DIR",
		Short: "Compile manifests and serve the table to gateways",
		Long: `Reads the manifests (*.yaml, *.yml, *.json) under each --manifests path, serves
the table that they make at /v1/table, and reads them again when they change.

A bad object is left out, and logged with its file, line and field. A change that
cannot be read at all is kept out: the last good table stays in force.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), o, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.manifests, "manifests", nil, "folder or file of manifests; may be repeated")
	f.StringVar(&o.listen, "listen", "127.0.0.1:7070", "address to listen on")
	f.StringVar(&o.tokenFile, "token-file", "", "file with the token that gateways must present")
	f.StringVar(&o.tlsCert, "tls-cert", "", "file with the certificate chain, PEM")
	f.StringVar(&o.tlsKey, "tls-key", "", "file with the certificate's key, PEM")
	f.BoolVar(&o.allowInsecure, "allow-insecure-listen", false, "listen beyond loopback without both token and TLS")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	return cmd
}

// serve runs until ctx ends.
func serve(ctx context.Context, o serveOptions, stderr io.Writer) error {
	if err := o.check(); err != nil {
		return err
	}
	token, err := readToken(o.tokenFile)
	if err != nil {
		return err
	}
	var certificates []tls.Certificate
	if o.tlsCert != "" {
		certificate, err := tls.LoadX509KeyPair(o.tlsCert, o.tlsKey)
		if err != nil {
			return fmt.Errorf("reading --tls-cert and --tls-key: %w", err)
		}
		certificates = append(certificates, certificate)
	}
	// More use than that the address is taken, and nobody connects in vain.
	if _, err := manifest.List(o.manifests); err != nil {
		return err
	}
	log := newLogger(o.logFormat, stderr)
	watcher, err := watch.New()
	if err != nil {
		return err
	}
	defer watcher.Close()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	address := listener.Addr().String()
	if len(certificates) > 0 {
		listener = tls.NewListener(listener, &tls.Config{
			Certificates: certificates, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
		})
	}
	log.Info("listening", "address", address, "tls", len(certificates) > 0, "token", token != "")

	s := server.New(server.Options{Log: log})
	if token != "" {
		s.AdmitTokens([]string{token})
	}
	follower := &server.Follower{Paths: o.manifests, Watch: watcher.Watch, Changes: watcher.Changes(), Server: s, Log: log}
	return runUntilDone(ctx, s, follower, listener, log)
}

// runUntilDone serves and follows. Whichever ends first ends the other.
func runUntilDone(ctx context.Context, s *server.Server, follower *server.Follower, listener net.Listener, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	web := s.Web()
	followed, served := make(chan error, 1), make(chan error, 1)
	go func() {
		followed <- follower.Run(ctx)
		cancel()
	}()
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
	err := errors.Join(<-followed, serving, stopped)
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
	if o.logFormat != "text" && o.logFormat != "json" {
		problems = append(problems, fmt.Errorf("--log-format: %q, must be text or json", o.logFormat))
	}
	if (o.tlsCert == "") != (o.tlsKey == "") {
		problems = append(problems, errors.New("--tls-cert and --tls-key: only one is set, must be both or neither"))
	}
	host, _, err := net.SplitHostPort(o.listen)
	switch {
	case err != nil:
		problems = append(problems, fmt.Errorf("--listen: %q, must be host:port, such as 127.0.0.1:7070", o.listen))
	case !isLoopback(host) && !o.allowInsecure && (o.tokenFile == "" || o.tlsCert == ""):
		problems = append(problems, fmt.Errorf("--listen: %q is reachable from outside, which needs --token-file, --tls-cert and --tls-key; --allow-insecure-listen does without", o.listen))
	}
	return errors.Join(problems...)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// readToken returns what the file holds, or "" if there is no file.
func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading --token-file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxTokenBytes+1))
	if err != nil {
		return "", fmt.Errorf("reading --token-file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	switch {
	case len(data) > maxTokenBytes:
		return "", fmt.Errorf("--token-file: %s has more than %d bytes", path, maxTokenBytes)
	case token == "":
		return "", fmt.Errorf("--token-file: %s is empty", path)
	case strings.ContainsAny(token, " \t\r\n"):
		return "", fmt.Errorf("--token-file: %s has white space inside of the token", path)
	}
	return token, nil
}

func newLogger(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
