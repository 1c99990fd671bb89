package faults

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of a few pages at the folder of a world's cache
// files.
func smallDisk(t *testing.T, folder string) error {
	t.Helper()
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size=256k,mode=0700"); err != nil {
		return err
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return nil
}

// diskFull fills the disk.
func diskFull() fault {
	filler := func(w *world) string { return filepath.Join(w.cacheFolder(), "filler") }
	return fault{
		name: "disk full",
		begin: func(_ *testing.T, w *world) error {
			w.unkeep()
			f, err := os.Create(filler(w))
			if err != nil {
				return err
			}
			defer f.Close()
			for err == nil {
				_, err = f.Write(make([]byte, 512))
			}
			if errors.Is(err, syscall.ENOSPC) {
				return nil
			}
			return err
		},
		end: func(_ *testing.T, w *world) error {
			w.unkeep() // There may have been a restart since it began.
			return os.Remove(filler(w))
		},
		spares: sparesAll,
	}
}

// diskReadOnly makes the disk read-only.
func diskReadOnly() fault {
	remount := func(w *world, flags uintptr) error {
		return syscall.Mount("none", w.cacheFolder(), "tmpfs", syscall.MS_REMOUNT|flags, "")
	}
	return fault{
		name: "disk read-only",
		begin: func(_ *testing.T, w *world) error {
			w.unkeep()
			return remount(w, syscall.MS_RDONLY)
		},
		end: func(_ *testing.T, w *world) error {
			w.unkeep()
			return remount(w, 0)
		},
		spares: sparesAll,
	}
}

// TestDisk fills the disk of the cache files, and makes it read-only: everything
// goes on as if there were no cache file, and what was kept before is still good.
func TestDisk(t *testing.T) {
	probe := t.TempDir()
	if err := syscall.Mount("none", probe, "tmpfs", 0, "size=4k"); err != nil {
		t.Skipf("this needs the right to mount: %v", err)
	}
	if err := syscall.Unmount(probe, 0); err != nil {
		t.Fatal(err)
	}
	gateways := []setup{{Wires: []int{0}, Cached: true}, {Wires: []int{0, 1}, Wait: "2s", Cached: true, Signed: true}}
	var all []schedule
	for i, f := range []fault{diskFull(), diskReadOnly()} {
		for _, parts := range []bool{false, true} {
			s := schedule{number: 2*i + len(all)%2, plan: plan{Parts: parts, SmallDisk: true, Revision: "clock", Gateways: gateways}}
			for _, e := range []event{nothing, restart, reload, restart} {
				s.rounds = append(s.rounds, round{fault: f, during: 1, event: e, hold: 300 * time.Millisecond})
			}
			all = append(all, s)
		}
	}
	run(t, startTraefik(t), all)
}
