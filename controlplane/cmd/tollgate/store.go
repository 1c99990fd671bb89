package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"

	"github.com/spf13/pflag"

	"github.com/tollgate-apim/tollgate/controlplane/reload"
	"github.com/tollgate-apim/tollgate/controlplane/store"
)

// storeOptions say where serve keeps what it must remember of gateways.
type storeOptions struct {
	address      string
	state        string
	passwordFile string
	ca           string
}

func (o *storeOptions) addFlags(f *pflag.FlagSet) {
	f.StringVar(&o.address, "store", store.KindMemory, `where to keep what must be remembered of gateways: memory, or the URL of a Redis or Valkey
(redis://, rediss://, redis-sentinel://, rediss-sentinel://, redis-cluster://, rediss-cluster://)`)
	f.StringVar(&o.state, "state", "", "file that keeps what is in memory across restarts and crashes")
	f.StringVar(&o.passwordFile, "store-password-file", "", "file with the password for the store, in place of one in its URL")
	f.StringVar(&o.ca, "store-ca", "", "file with the authorities, PEM, of which the store's servers must present a certificate")
}

// check tells what is wrong with the flags.
func (o *storeOptions) check() []error {
	address, err := store.ParseAddress(o.address)
	if err != nil {
		return []error{fmt.Errorf("--store: %w", err)}
	}
	var problems []error
	inMemory := address.Kind() == store.KindMemory
	if o.state != "" && !inMemory {
		problems = append(problems, errors.New("--state: is for --store memory only: a server keeps its own"))
	}
	if o.passwordFile != "" && inMemory {
		problems = append(problems, errors.New("--store-password-file: needs --store with the URL of a server"))
	}
	if o.ca != "" && !address.TLS() {
		problems = append(problems, errors.New("--store-ca: needs --store with a URL that begins with rediss"))
	}
	return problems
}

// storeSecrets are what may change while a store is in use.
type storeSecrets struct {
	password    atomic.Pointer[string]
	authorities atomic.Pointer[x509.CertPool]
}

// open returns the store and the files that change how it is reached.
func (o *storeOptions) open(log *slog.Logger) (store.Store, []reload.Source, error) {
	address, err := store.ParseAddress(o.address)
	if err != nil {
		return nil, nil, fmt.Errorf("--store: %w", err)
	}
	var secrets storeSecrets
	options := store.Options{State: o.state, Log: log}
	var sources []reload.Source
	if o.passwordFile != "" {
		options.Password = func() string { return *secrets.password.Load() }
		sources = append(sources, reload.Source{Name: "--store-password-file", Files: []string{o.passwordFile}, Use: func(contents [][]byte) error {
			password, err := readPassword(string(contents[0]))
			if err == nil {
				secrets.password.Store(&password)
			}
			return inFile(o.passwordFile, err)
		}})
	}
	if o.ca != "" {
		options.Authorities = secrets.authorities.Load
		sources = append(sources, reload.Source{Name: "--store-ca", Files: []string{o.ca}, Use: func(contents [][]byte) error {
			authorities := x509.NewCertPool()
			if !authorities.AppendCertsFromPEM(contents[0]) {
				return inFile(o.ca, errors.New("has no certificate in PEM"))
			}
			secrets.authorities.Store(authorities)
			return nil
		}})
	}
	// What is to reach sentinels asks for the password now, and all others later.
	if _, err := reload.Start(log, sources...); err != nil {
		return nil, nil, err
	}
	s, err := store.Open(address, options)
	if err != nil {
		return nil, nil, fmt.Errorf("--state: %w", err)
	}
	log.Info("store", "address", address.String(), "state", o.state)
	return s, sources, nil
}

// kind tells the kind of store.
func (o *storeOptions) kind() string {
	address, err := store.ParseAddress(o.address)
	if err != nil {
		return ""
	}
	return address.Kind()
}

// readPassword returns the password of a file: what stands there, without the end
// of the line.
func readPassword(text string) (string, error) {
	password := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case password == "":
		return "", errors.New("is empty, must have a password")
	case strings.ContainsAny(password, "\r\n"):
		return "", errors.New("has more than one line, must have a password only")
	}
	return password, nil
}
