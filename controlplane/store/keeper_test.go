package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write is for the log.
func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) log() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

// take returns what was logged since it was last called.
func (j *journal) take() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	defer j.text.Reset()
	return j.text.String()
}

func openFile(t *testing.T, path string, j *journal) *Memory {
	t.Helper()
	m, err := OpenMemory(path, nil, j.log())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func put(t *testing.T, m *Memory, key, data string, ttl time.Duration) {
	t.Helper()
	values, _, err := m.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	made, err := m.Swap(t.Context(), Change{Key: key, Version: values[0].Version, Data: []byte(data), TTL: ttl})
	if err != nil || made[0] == 0 {
		t.Fatalf("putting %s: %v, %v", key, made, err)
	}
}

func wantData(t *testing.T, m *Memory, want ...string) {
	t.Helper()
	for i := 0; i < len(want); i += 2 {
		values, _, err := m.Get(t.Context(), want[i])
		if err != nil || string(values[0].Data) != want[i+1] {
			t.Errorf("%s holds %q, %v, want %q", want[i], values[0].Data, err, want[i+1])
		}
	}
}

// inFile returns what a file would give if its process ended now.
func inFile(t *testing.T, path string) state {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return readImage(t, data)
}

// readImage reads a file of some content.
func readImage(t *testing.T, data []byte) state {
	t.Helper()
	s, err := tryImage(t, data)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tryImage(t *testing.T, data []byte) (state, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := readState(path)
	return s, errors.Join(err, os.Remove(path))
}

func TestKeeping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var j journal
		m := openFile(t, path, &j)
		if got := len(inFile(t, path).entries); got != 0 {
			t.Errorf("begins with %d entries", got)
		}
		// Only a power failure would show it.
		if db := m.keeper.file.db; db.NoSync || db.NoGrowSync {
			t.Error("the disk is not told to keep what is written")
		}
		put(t, m, "key", "one", 0)
		put(t, m, "short", "1", time.Minute)
		put(t, m, "long", "2", time.Hour)
		version := func(key string) int64 {
			t.Helper()
			values, _, err := m.Get(t.Context(), key)
			if err != nil {
				t.Fatal(err)
			}
			return values[0].Version
		}
		before := version("key")
		if got := string(inFile(t, path).entries["key"].Data); got != "one" {
			t.Errorf("the file holds %q", got)
		}
		put(t, m, "key", "two", 0)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || runtime.GOOS != "windows" && info.Mode() != 0o600 {
			t.Errorf("the file has the mode %v, %v", info.Mode(), err)
		}

		time.Sleep(2 * time.Minute)
		m = openFile(t, path, &j)
		wantData(t, m, "key", "two", "short", "", "long", "2")
		put(t, m, "key", "three", 0)
		if after := version("key"); after <= before+1 {
			t.Errorf("version %d came after %d", after, before)
		}
		time.Sleep(time.Hour)
		wantData(t, m, "long", "")
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if got := j.take(); !strings.Contains(got, `msg="state file read"`) || strings.Contains(got, "ERROR") {
			t.Errorf("logged %s", got)
		}
		left, err := filepath.Glob(path + "*")
		if err != nil || fmt.Sprint(left) != fmt.Sprint([]string{path, path + ".lock"}) {
			t.Errorf("there are the files %q, %v", left, err)
		}
	})
}

// brokenDisk is what files are written to in tests.
type brokenDisk struct {
	mu      sync.Mutex
	err     error         // if a write is to fail
	written bool          // a write that fails has written all the same
	hang    chan struct{} // if a write is to wait until that is closed
	commits int
}

func (d *brokenDisk) set(err error, written bool, hang chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.written, d.hang = err, written, hang
}

// fault returns what a write is to do.
func (d *brokenDisk) fault() (written bool, hang chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.commits++
	return d.written, d.hang, d.err
}

func (d *brokenDisk) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.commits
}

// openOn opens a file on the disk, which must be without fault yet.
func (d *brokenDisk) openOn(t *testing.T, path string, j *journal) *Memory {
	t.Helper()
	m := openFile(t, path, j)
	m.keeper.create = func(path string, s state) (*stateFile, error) {
		if _, _, err := d.fault(); err != nil {
			return nil, err
		}
		return createState(path, s)
	}
	m.keeper.commit = func(f *stateFile, entries map[string]entry, head stateHead) error {
		written, hang, err := d.fault()
		if hang != nil {
			<-hang
		}
		if err != nil && !written {
			return err
		}
		return errors.Join(f.commit(entries, head), err)
	}
	return m
}

func TestDiskFull(t *testing.T) {
	for _, written := range []bool{false, true} {
		t.Run(fmt.Sprintf("written %t", written), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			synctest.Test(t, func(t *testing.T) {
				var j journal
				var disk brokenDisk
				m := disk.openOn(t, path, &j)
				put(t, m, "key", "one", 0)
				put(t, m, "gone", "one", 0)
				before := swapped(t, m, "key", "two", nil)
				full := errors.New("no space left")
				disk.set(full, written, nil)
				for range 100 {
					swapped(t, m, "key", "three", full)
					swapped(t, m, "gone", "", full)
					swapped(t, m, "new", "three", full)
					time.Sleep(100 * time.Millisecond)
				}
				if got := j.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, path) || !strings.Contains(got, "no space left") {
					t.Errorf("logged %s, want one error", got)
				}
				// Ten seconds: a whole file is not tried each time.
				if got := disk.count(); written && got > 20 {
					t.Errorf("was written to %d times while it failed", got)
				}
				wantData(t, m, "key", "two", "gone", "one", "new", "")
				disk.set(nil, false, nil)
				time.Sleep(mendEvery)
				if after := swapped(t, m, "other", "four", nil); after <= before {
					t.Errorf("version %d came after %d", after, before)
				}
				if got := j.take(); !strings.Contains(got, "state file is written again") {
					t.Errorf("logged %s", got)
				}
				wantData(t, m, "key", "two", "gone", "one", "new", "", "other", "four")
				// What was not answered is not in the file either.
				if diff := cmp.Diff(m.entries, inFile(t, path).entries, comparing); diff != "" {
					t.Error(diff)
				}
				disk.set(full, written, nil)
				if err := m.Close(); !errors.Is(err, full) {
					t.Errorf("closing: got %v", err)
				}
				if err := m.Close(); err != nil {
					t.Errorf("closing again: got %v", err)
				}
				m = openFile(t, path, &j)
				wantData(t, m, "key", "two", "gone", "one", "new", "", "other", "four")
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// swapped changes a key, or takes it away, and returns the version of the store.
func swapped(t *testing.T, m *Memory, key, data string, want error) int64 {
	t.Helper()
	values, _, err := m.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	c := Change{Key: key, Version: values[0].Version}
	if data != "" {
		c.Data = []byte(data)
	}
	made, err := m.Swap(t.Context(), c)
	if !errors.Is(err, want) || want == nil && made[0] == 0 {
		t.Fatalf("%s: got %v, %v, want %v", key, made, err, want)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.version
}

// TestGroups has many change things while the disk is busy.
func TestGroups(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var disk brokenDisk
		m := disk.openOn(t, path, &j)
		hang := make(chan struct{})
		disk.set(nil, false, hang)
		var swapping sync.WaitGroup
		var first, same atomic.Int64
		swap := func(key string, made *atomic.Int64) {
			swapping.Go(func() {
				answer, err := m.Swap(t.Context(), Change{Key: key, Data: []byte("data")})
				if err != nil {
					t.Error(err)
				} else if answer[0] != 0 {
					made.Add(1)
				}
			})
		}
		swap("first", &first)
		synctest.Wait()
		for i := range 50 {
			swap(fmt.Sprint("key", i), &first)
			swap("same", &same)
		}
		gone, cancel := context.WithCancel(t.Context())
		swapping.Go(func() {
			if _, err := m.Swap(gone, Change{Key: "late", Data: []byte("data")}); !errors.Is(err, context.Canceled) {
				t.Errorf("given up: got %v", err)
			}
		})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if first.Load() != 0 || same.Load() != 0 {
			t.Error("was answered before it was written")
		}
		wantData(t, m, "first", "", "key1", "", "same", "")
		disk.set(nil, false, nil)
		close(hang)
		swapping.Wait()
		if first.Load() != 51 || same.Load() != 1 {
			t.Errorf("%d and %d were made, want 51 and 1", first.Load(), same.Load())
		}
		if got := disk.count(); got != 2 {
			t.Errorf("was written %d times, want 2", got)
		}
		if got := len(inFile(t, path).entries); got != 52 {
			t.Errorf("the file has %d entries", got)
		}
		wantData(t, m, "late", "")
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestHungDisk has a disk that does not answer.
func TestHungDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var j journal
		var disk brokenDisk
		m := disk.openOn(t, path, &j)
		put(t, m, "key", "one", 0)
		hang := make(chan struct{})
		disk.set(nil, false, hang)
		for range 3 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			_, err := m.Swap(ctx, Change{Key: "other", Data: []byte("two")})
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v", err)
			}
			cancel()
			wantData(t, m, "key", "one", "other", "")
		}
		begin := time.Now()
		if err := m.Close(); err == nil || !strings.Contains(err.Error(), "has not answered") {
			t.Errorf("closing: got %v", err)
		}
		if took := time.Since(begin); took != endWithin {
			t.Errorf("closing took %s, want %s", took, endWithin)
		}
		if _, err := m.Swap(t.Context(), Change{Key: "other"}); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: got %v", err)
		}
		close(hang)
	})
}

// TestExpiredInFile looks for what has expired in the file.
func TestExpiredInFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var j journal
		m := openFile(t, path, &j)
		put(t, m, "short", "1", time.Second)
		put(t, m, "long", "1", time.Hour)
		time.Sleep(sweepEvery)
		put(t, m, "key", "1", 0)
		if got := inFile(t, path).entries; len(got) != 2 {
			t.Errorf("the file has %v", got)
		}
		if want := (size{entries: 2, bytes: 9}); m.used != want {
			t.Errorf("%+v are used, want %+v", m.used, want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSweepingMuch has more expire than goes away at once.
func TestSweepingMuch(t *testing.T) {
	now := kept
	m := NewMemory(func() time.Time { return now })
	changes := make([]Change, 2*sweepMost+1)
	for i := range changes {
		changes[i] = Change{Key: fmt.Sprint(i), Data: []byte("data"), TTL: time.Second}
	}
	if _, err := m.Swap(t.Context(), changes...); err != nil {
		t.Fatal(err)
	}
	now = now.Add(sweepEvery)
	for _, want := range []int{sweepMost + 1, 1, 0} {
		if _, err := m.Swap(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := len(m.entries); got != want || m.used.entries != want {
			t.Errorf("%d entries are left, counted as %d, want %d", got, m.used.entries, want)
		}
	}
}

// TestCreate fails to make a file.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	create := func(path string, s state) error {
		file, err := createState(path, s)
		if err == nil {
			err = file.close()
		}
		return err
	}
	if err := create(path, someState()); err != nil {
		t.Fatal(err)
	}
	// What was left by a crash does not matter.
	if err := os.WriteFile(path+".next", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := someState()
	other.version = 70
	if err := create(path, other); err != nil {
		t.Fatal(err)
	}
	if got := inFile(t, path).version; got != 70 {
		t.Errorf("the file has version %d", got)
	}
	if err := create(filepath.Join(dir, "none", "state"), other); err == nil {
		t.Error("there was no folder, and no error")
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := create(folder, other); err == nil {
		t.Error("a folder was replaced")
	}
	if _, err := os.Stat(folder + ".next"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the failed file is left: %v", err)
	}
}

// TestPutAside opens files that are no good.
func TestPutAside(t *testing.T) {
	good := written(t, someState())
	for name, content := range map[string]string{
		"torn": string(good[:len(good)/2]), "foreign": "root:x:0:0\n", "empty": "", "damaged": strings.Replace(string(good), `{"a":`, `{"b":`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(path, []byte(content), 0o640); err != nil {
				t.Fatal(err)
			}
			var j journal
			m := openFile(t, path, &j)
			wantData(t, m, "text", "")
			put(t, m, "text", "new", 0)
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
			aside, err := filepath.Glob(path + ".bad-*")
			if err != nil || len(aside) != 1 {
				t.Fatalf("put aside are %q, %v", aside, err)
			}
			if got, err := os.ReadFile(aside[0]); err != nil || string(got) != content {
				t.Errorf("put aside is %q, %v", got, err)
			}
			log := j.take()
			for _, want := range []string{"level=ERROR", path, aside[0], "problem="} {
				if !strings.Contains(log, want) {
					t.Errorf("logged %s, want %q in it", log, want)
				}
			}
			m = openFile(t, path, &j)
			wantData(t, m, "text", "new")
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUnusable opens files that cannot be opened, which stay where they are.
func TestUnusable(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "folder")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	var j journal
	if _, err := OpenMemory(path, nil, j.log()); err == nil || !strings.Contains(err.Error(), path+" is no regular file") {
		t.Errorf("a folder: got %v", err)
	}
	none := filepath.Join(dir, "none", "state")
	if _, err := OpenMemory(none, nil, j.log()); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("no folder: got %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	var j journal
	m := openFile(t, path, &j)
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{path, link} {
		_, err := OpenMemory(name, nil, j.log())
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprintf("another process uses it (number %d)", os.Getpid())) {
			t.Errorf("%s: got %v, want that it is in use", name, err)
		}
	}
	put(t, m, "key", "one", 0)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	m = openFile(t, link, &j)
	wantData(t, m, "key", "one")
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if to, err := os.Readlink(link); err != nil || to != path {
		t.Errorf("the link leads to %s, %v", to, err)
	}
}

// TestClockAfterRestart sets the clock back while the store is closed.
func TestClockAfterRestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	now := kept
	open := func() *Memory {
		t.Helper()
		m, err := OpenMemory(path, func() time.Time { return now }, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	m := open()
	put(t, m, "key", "one", time.Minute)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	now = kept.Add(-time.Hour)
	m = open()
	tell := func(want time.Time) {
		t.Helper()
		if _, got, err := m.Get(t.Context()); err != nil || !got.Equal(want) {
			t.Errorf("the time is %s, %v, want %s", got, err, want)
		}
	}
	tell(kept)
	now = now.Add(59 * time.Second)
	tell(kept.Add(59 * time.Second)) // it does not stand still
	wantData(t, m, "key", "one")
	now = now.Add(time.Second)
	wantData(t, m, "key", "")
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestFull(t *testing.T) {
	now := kept
	m := NewMemory(func() time.Time { return now })
	m.room = size{entries: 3, bytes: 100}
	put(t, m, "a", "1", time.Minute)
	put(t, m, "b", "2", 0)
	put(t, m, "c", "3", 0)
	swap := func(key, data string) error {
		values, _, err := m.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		c := Change{Key: key, Version: values[0].Version}
		if data != "" {
			c.Data = []byte(data)
		}
		made, err := m.Swap(t.Context(), c)
		if err == nil && made[0] == 0 {
			t.Errorf("%s was not changed", key)
		}
		return err
	}
	if err := swap("d", "4"); !errors.Is(err, ErrFull) {
		t.Errorf("a fourth: got %v", err)
	}
	if err := swap("b", strings.Repeat("x", 95)); err != nil {
		t.Errorf("larger: got %v", err)
	}
	if err := swap("b", strings.Repeat("x", 96)); !errors.Is(err, ErrFull) {
		t.Errorf("too large: got %v", err)
	}
	if err := swap("b", "2"); err != nil {
		t.Errorf("smaller: got %v", err)
	}
	now = now.Add(time.Minute) // a is gone
	for _, key := range []string{"d", "c"} {
		if err := swap(key, "4"); err != nil {
			t.Errorf("%s: got %v", key, err)
		}
	}
	if err := swap("c", ""); err != nil {
		t.Errorf("less: got %v", err)
	}
	if want := (size{entries: 2, bytes: 4}); m.used != want {
		t.Errorf("%+v are used, want %+v", m.used, want)
	}
}
