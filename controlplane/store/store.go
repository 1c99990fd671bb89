// Package store keeps what control planes must remember of gateways, so that one
// of them can be started again, and several can stand in for each other: small
// values under keys, each with a version, changed by compare-and-set.
package store

import (
	"context"
	"errors"
	"time"
)

// Store is a versioned key/value store. Any number of goroutines may use it, and
// where it is shared, any number of control planes.
//
// An error of Get, GetChanged or Swap means that the store could not be asked. After one of
// Swap nobody knows which of its changes were made, if any.
type Store interface {
	// Get returns the values of keys, in order, and the store's time, which does
	// not depend on who asks and never goes back. What is not there has version
	// 0. The caller must not change the data. Without keys Get tells the time.
	Get(ctx context.Context, keys ...string) ([]Value, time.Time, error)
	// GetChanged is Get for who remembers values: of what still has the version
	// that the caller knows, the data is left out.
	GetChanged(ctx context.Context, known ...Known) ([]Value, time.Time, error)
	// Swap makes each change whose key still has the version that it names, and
	// returns for each the version that came of it: Gone for what was taken away,
	// and 0 if the change was not made. Each is made wholly or not at all, but
	// others may come in between. No two may be of one key. The store keeps the
	// data, which the caller must not change any more.
	Swap(ctx context.Context, changes ...Change) ([]int64, error)
	// Close lets go of what the store holds. Others must have ended.
	Close() error
}

// Value is what is stored under a key.
type Value struct {
	Data []byte
	// Version is another one after each change; 0 if there is nothing.
	Version int64
	// Err says, where it is not nil, that there is something under the key which no
	// store has put there. It names the key, which has version 0 and cannot be
	// changed. The other values of a Get are good.
	Err error
}

// Gone is what Swap returns for what was taken away. No value has it for a version.
const Gone = -1

// Known is what a caller remembers of a key.
type Known struct {
	Key string
	// Version is that of the value that is remembered; 0 if none is.
	Version int64
}

// Change is a new value for a key.
type Change struct {
	Key string
	// Version is the one that the key must have; 0 if nothing must be there.
	Version int64
	// Data is the new value; nil takes the key away.
	Data []byte
	// TTL is how long the value stays unless it is changed, by the store's time;
	// 0 is for ever.
	TTL time.Duration
}

// ErrClosed says that a store has been closed.
var ErrClosed = errors.New("the store is closed")
