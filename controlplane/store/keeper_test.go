package store

import (
	"bytes"
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
	if err != nil || !made[0] {
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

// inFile returns what a file holds.
func inFile(t *testing.T, path string) state {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := readState(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeeping(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var j journal
		m := openFile(t, path, &j)
		if got := len(inFile(t, path).entries); got != 0 {
			t.Errorf("begins with %d entries", got)
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
		time.Sleep(keepEvery)
		synctest.Wait()
		if got := string(inFile(t, path).entries["key"].Data); got != "one" {
			t.Errorf("after a second it holds %q", got)
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

// TestKeptSeldom changes things all the time.
func TestKeptSeldom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var j journal
		m := openFile(t, path, &j)
		var writes, took atomic.Int64
		m.keeper.write = func(string, state) error {
			writes.Add(1)
			time.Sleep(time.Duration(took.Load()))
			return nil
		}
		busy := func(d time.Duration) int64 {
			before := writes.Load()
			for begin := time.Now(); time.Since(begin) < d; time.Sleep(10 * time.Millisecond) {
				put(t, m, "key", time.Now().String(), 0)
			}
			synctest.Wait()
			return writes.Load() - before
		}
		if got := busy(10 * time.Second); got < 9 || got > 11 {
			t.Errorf("written %d times in 10 seconds", got)
		}
		took.Store(int64(time.Second))
		busy(keepEvery)
		if got := busy(210 * time.Second); got < 9 || got > 11 {
			t.Errorf("while it takes a second: written %d times in 210 seconds", got)
		}
		took.Store(0)
		time.Sleep(time.Hour)
		synctest.Wait()
		before := writes.Load()
		time.Sleep(time.Hour)
		synctest.Wait()
		if after := writes.Load(); after != before {
			t.Errorf("written %d times without a change", after-before)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestDiskFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	synctest.Test(t, func(t *testing.T) {
		var j journal
		m := openFile(t, path, &j)
		full := errors.New("no space left")
		var isFull atomic.Bool
		isFull.Store(true)
		m.keeper.write = func(path string, s state) error {
			if isFull.Load() {
				return full
			}
			return replaceState(path, s)
		}
		put(t, m, "key", "one", 0)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := j.take(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, path) || !strings.Contains(got, "no space left") {
			t.Errorf("logged %s, want one error", got)
		}
		wantData(t, m, "key", "one")
		isFull.Store(false)
		time.Sleep(2 * keepEvery)
		synctest.Wait()
		if got := j.take(); !strings.Contains(got, "state file is written again") {
			t.Errorf("logged %s", got)
		}
		if got := string(inFile(t, path).entries["key"].Data); got != "one" {
			t.Errorf("the file holds %q", got)
		}
		isFull.Store(true)
		if err := m.Close(); !errors.Is(err, full) {
			t.Errorf("closing: got %v", err)
		}
		if err := m.Close(); err != nil {
			t.Errorf("closing again: got %v", err)
		}
	})
}

// TestReplace fails to write a file.
func TestReplace(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	if err := replaceState(path, someState()); err != nil {
		t.Fatal(err)
	}
	// What was left by a crash does not matter.
	if err := os.WriteFile(path+".next", []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	other := someState()
	other.version = 70
	if err := replaceState(path, other); err != nil {
		t.Fatal(err)
	}
	if got := inFile(t, path).version; got != 70 {
		t.Errorf("the file has version %d", got)
	}
	if err := replaceState(filepath.Join(dir, "none", "state"), other); err == nil {
		t.Error("there was no folder, and no error")
	}
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := replaceState(folder, other); err == nil {
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
		"torn": string(good[:len(good)-9]), "foreign": "root:x:0:0\n", "empty": "", "damaged": strings.Replace(string(good), `"key":"text"`, `"key":"test"`, 1),
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
		if err == nil && !made[0] {
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
