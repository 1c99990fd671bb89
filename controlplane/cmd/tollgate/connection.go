package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"
)

// connection says how to ask a running control plane.
type connection struct {
	endpoint   string
	tokenFile  string
	ca         string
	clientCert string
	clientKey  string
}

// flags adds those of the connection.
func (c *connection) flags(f *pflag.FlagSet, endpoint string) {
	f.StringVar(&c.endpoint, "endpoint", "", endpoint)
	f.StringVar(&c.tokenFile, "token-file", "", "file with the token for --endpoint")
	f.StringVar(&c.ca, "ca", "", "file with the authorities that --endpoint is trusted by, PEM")
	f.StringVar(&c.clientCert, "client-cert", "", "file with a certificate to show to --endpoint, PEM")
	f.StringVar(&c.clientKey, "client-key", "", "file with the certificate's key, PEM")
}

// check tells what is wrong with the flags, all at once.
func (c connection) check() error {
	var problems []error
	if c.endpoint == "" && (c.tokenFile != "" || c.ca != "" || c.clientCert != "" || c.clientKey != "") {
		problems = append(problems, errors.New("--token-file, --ca, --client-cert and --client-key: are for --endpoint only"))
	}
	if (c.clientCert == "") != (c.clientKey == "") {
		problems = append(problems, errors.New("--client-cert and --client-key: only one is set, must be both or neither"))
	}
	return errors.Join(problems...)
}

// client returns what asks, for so long at most. Its idle connections are the
// caller's to close.
func (c connection) client(timeout time.Duration) (*http.Client, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, fmt.Errorf("reading --ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("reading --ca: %s has no certificate", c.ca)
		}
	}
	if c.clientCert != "" {
		certificate, err := tls.LoadX509KeyPair(c.clientCert, c.clientKey)
		if err != nil {
			return nil, fmt.Errorf("reading --client-cert and --client-key: %w", err)
		}
		config.Certificates = []tls.Certificate{certificate}
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true}
	return &http.Client{Transport: transport, Timeout: timeout}, nil
}
