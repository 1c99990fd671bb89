//go:build !linux

package faults

import (
	"errors"
	"testing"
)

// smallDisk is for Linux.
func smallDisk(*testing.T, string) error {
	return errors.New("small disks are made on Linux only")
}
