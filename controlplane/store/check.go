package store

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// What may be stored.
const (
	// MaxKeyBytes is the length that a key may have; it must be UTF-8.
	MaxKeyBytes = 1 << 10
	// MaxDataBytes is the length that a value may have.
	MaxDataBytes = 4 << 20
)

func checkKeys(keys []string) error {
	for _, key := range keys {
		if err := checkKey(key); err != nil {
			return err
		}
	}
	return nil
}

func checkKey(key string) error {
	switch {
	case key == "":
		return errors.New("a key is empty")
	case len(key) > MaxKeyBytes:
		return fmt.Errorf("key %.40q… has %d bytes, must have at most %d", key, len(key), MaxKeyBytes)
	case !utf8.ValidString(key):
		return fmt.Errorf("key %q is not UTF-8", key)
	}
	return nil
}

// checkChanges tells what no store takes.
func checkChanges(changes []Change) error {
	seen := make(map[string]bool, len(changes))
	for _, c := range changes {
		err := checkKey(c.Key)
		switch {
		case err != nil:
			return err
		case seen[c.Key]:
			return fmt.Errorf("key %q is changed twice at once", c.Key)
		case c.Version < 0:
			return fmt.Errorf("key %q: version %d, must be 0 or more", c.Key, c.Version)
		case c.TTL < 0:
			return fmt.Errorf("key %q: TTL %s, must be 0 or more", c.Key, c.TTL)
		case len(c.Data) > MaxDataBytes:
			return fmt.Errorf("key %q: %d bytes, must be at most %d", c.Key, len(c.Data), MaxDataBytes)
		}
		seen[c.Key] = true
	}
	return nil
}
