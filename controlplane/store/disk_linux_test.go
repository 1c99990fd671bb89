package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFullDisk fills a real disk.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	if err := syscall.Mount("none", folder, "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		t.Skipf("this needs the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(folder, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	var j journal
	path := filepath.Join(folder, "state")
	m := openFile(t, path, &j)
	swap := func(i int) error {
		_, err := m.Swap(t.Context(), Change{Key: fmt.Sprint(i), Data: []byte(strings.Repeat("x", 4000))})
		return err
	}
	filler := filepath.Join(folder, "filler")
	if err := os.WriteFile(filler, make([]byte, 400<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	made := 0
	for ; made < 1000; made++ {
		if err := swap(made); errors.Is(err, syscall.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if made < 10 || made == 1000 {
		t.Fatalf("%d entries fit", made)
	}
	check := func(what string, entries map[string]entry, want int) {
		t.Helper()
		for i := range want {
			if len(entries[fmt.Sprint(i)].Data) != 4000 {
				t.Errorf("%s: entry %d of %d is missing", what, i, want)
			}
		}
		if len(entries) != want {
			t.Errorf("%s: there are %d entries, want %d", what, len(entries), want)
		}
	}
	check("full", m.entries, made)
	check("the file, full", inFile(t, path).entries, made)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := swap(made); err != nil {
		t.Errorf("with room again: got %v", err)
	}
	check("with room again", m.entries, made+1)
	check("the file, with room again", inFile(t, path).entries, made+1)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if got := j.take(); strings.Count(got, "cannot be written") != 1 || strings.Count(got, "is written again") != 1 {
		t.Errorf("logged %s", got)
	}

	if err := syscall.Mount("none", folder, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenMemory(path, nil, j.log()); !errors.Is(err, syscall.EROFS) || !strings.Contains(err.Error(), path) {
		t.Errorf("read-only: got %v", err)
	}
}
