//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package store

import (
	"errors"
	"os"
)

// lockFile is for systems where a file cannot be locked for as long as a process
// lives.
func lockFile(string) (*os.File, error) {
	return nil, errors.New("files of state are not supported on this system, must be kept in Redis or not at all")
}
