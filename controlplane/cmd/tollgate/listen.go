package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"

	"github.com/tollgate-apim/tollgate/controlplane/server"
)

// site is an HTTP server and where it listens.
type site struct {
	web      *http.Server
	listener net.Listener
}

// sites listens for what is to be served of s.
func (o serveOptions) sites(ctx context.Context, s *server.Server, log *slog.Logger) ([]site, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	address := listener.Addr().String()
	listener = server.Limit(listener, o.maxConns, log)
	if o.tlsCert != "" {
		listener = tls.NewListener(listener, s.TLSConfig())
	}
	sites := []site{{s.Web(), listener}}
	if o.metricsListen != "" {
		monitoring, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.metricsListen)
		if err != nil {
			_ = listener.Close()
			return nil, fmt.Errorf("listening for metrics: %w", err)
		}
		log.Info("metrics are served to everybody", "address", monitoring.Addr().String())
		sites = append(sites, site{s.Monitoring(), server.Limit(monitoring, maxMonitors, log)})
	}
	log.Info("listening", "address", address, "tls", o.tlsCert != "", "token", o.tokenFile != "",
		"clientCertificates", o.clientCA != "", "signed", len(o.signingKeys) > 0)
	return sites, nil
}

// maxMonitors is how many connections there may be at a time to where metrics are
// served by themselves.
const maxMonitors = 64

// checkListen tells what is wrong with where to listen.
func (o serveOptions) checkListen() error {
	var problems []error
	host, _, err := net.SplitHostPort(o.listen)
	switch {
	case err != nil:
		problems = append(problems, fmt.Errorf("--listen: %q, must be host:port, such as 127.0.0.1:7070", o.listen))
	case !isLoopback(host) && !o.allowInsecure && (o.tokenFile == "" && o.clientCA == "" || o.tlsCert == ""):
		problems = append(problems, fmt.Errorf("--listen: %q is reachable from outside, which needs --tls-cert, --tls-key, and --token-file or --client-ca; --allow-insecure-listen does without", o.listen))
	}
	if o.metricsListen == "" {
		return errors.Join(problems...)
	}
	host, _, err = net.SplitHostPort(o.metricsListen)
	switch {
	case err != nil:
		problems = append(problems, fmt.Errorf("--metrics-listen: %q, must be host:port, such as 127.0.0.1:7071", o.metricsListen))
	case !isLoopback(host) && !o.allowInsecure:
		problems = append(problems, fmt.Errorf("--metrics-listen: %q is reachable from outside, and what it serves has neither TLS nor a token; --allow-insecure-listen does without", o.metricsListen))
	}
	return errors.Join(problems...)
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// pushURL returns where metrics are pushed to, in full. It does not repeat what
// may have a password in it.
func pushURL(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", errors.New("must be a URL such as http://127.0.0.1:4318/v1/metrics")
	case u.User != nil:
		return "", errors.New("has a user or a password, which belong into the variable OTEL_EXPORTER_OTLP_HEADERS")
	case u.RawQuery != "" || u.Fragment != "":
		return "", errors.New("has a query or a fragment, must have none")
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/metrics"
	}
	return u.String(), nil
}
