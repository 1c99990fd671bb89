package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/tollgate-apim/tollgate/controlplane/store"
)

// Foreign is a store that has under some keys what something else has written.
type Foreign struct {
	store.Store
	Keys map[string]bool
}

// Get is the store's, with an error for each of the keys.
func (f *Foreign) Get(ctx context.Context, keys ...string) ([]store.Value, time.Time, error) {
	values, now, err := f.Store.Get(ctx, keys...)
	for i := range values {
		f.spoil(keys[i], &values[i])
	}
	return values, now, err
}

// GetChanged is the store's, with an error for each of the keys.
func (f *Foreign) GetChanged(ctx context.Context, known ...store.Known) ([]store.Value, time.Time, error) {
	values, now, err := f.Store.GetChanged(ctx, known...)
	for i := range values {
		f.spoil(known[i].Key, &values[i])
	}
	return values, now, err
}

func (f *Foreign) spoil(key string, v *store.Value) {
	if f.Keys[key] {
		*v = store.Value{Err: errors.New("key " + key + " is foreign")}
	}
}
