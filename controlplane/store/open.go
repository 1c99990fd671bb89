package store

import (
	"crypto/x509"
	"log/slog"
)

// Options say of a store what its address does not.
type Options struct {
	// State is the file that a store in memory is kept in; "" for none.
	State string
	// Password returns the password that stands in place of the address's. It is
	// asked for each new connection, but those to sentinels: what they are told is
	// asked by Open. nil is for the address's.
	Password func() string
	// Authorities returns those that the certificate of a server must be of. They
	// are asked for each new connection. nil, also what it returns, is for those
	// of the system.
	Authorities func() *x509.CertPool
	// Log is told what goes wrong by itself. It must not be nil.
	Log *slog.Logger
}

// Open returns the store at an address. It does not wait for a server: whether
// that can be asked is told by Get and Swap.
func Open(a Address, o Options) (Store, error) {
	switch {
	case a.Kind() != KindMemory:
		return newRedis(a, o), nil
	case o.State != "":
		return OpenMemory(o.State, nil, o.Log)
	default:
		return NewMemory(nil), nil
	}
}
