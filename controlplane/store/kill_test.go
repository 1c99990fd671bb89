package store

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const (
	// writing names the variable that makes this test a process that changes a
	// store in its folder without end.
	writing = "TOLLGATE_TEST_WRITE_STATE"
	writers = 20
)

// TestKilledWhileWriting kills a process that changes its store. All that it was
// answered is in the file, and nothing but what it was waiting for.
func TestKilledWhileWriting(t *testing.T) {
	if os.Getenv(writing) != "" {
		writeForEver(t, "state")
	}
	dir := t.TempDir()
	for kill := range 5 {
		process := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKilledWhileWriting$")
		process.Dir = dir
		process.Env = append(os.Environ(), writing+"=1")
		out, err := process.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		var said [writers]int
		lines, count := bufio.NewScanner(out), 0
		for lines.Scan() {
			var writer, number int
			if _, err := fmt.Sscan(lines.Text(), &writer, &number); err != nil {
				t.Fatalf("the process says %q", lines.Text())
			}
			said[writer] = number
			if count++; count == 300+77*kill {
				// It goes on, and what it says in the meantime is in the pipe.
				if err := process.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = process.Wait() // It was killed.
		var j journal
		m := openFile(t, filepath.Join(dir, "state"), &j)
		for writer := range writers {
			values, _, err := m.Get(t.Context(), fmt.Sprint(writer))
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			if data := values[0].Data; data != nil {
				if _, err := fmt.Sscan(string(data), &got); err != nil {
					t.Fatal(err)
				}
			}
			if got != said[writer] && got != said[writer]+1 {
				t.Errorf("kill %d: writer %d was answered %d, and the file has %d; %s", kill, writer, said[writer], got, j.take())
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(dir, "state")); err != nil {
			t.Fatal(err)
		}
	}
}

// writeForEver has writers count up, each in an entry of its own, and says each
// number once it was answered.
func writeForEver(t *testing.T, path string) {
	m, err := OpenMemory(path, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	var counting sync.WaitGroup
	for writer := range writers {
		counting.Go(func() {
			for number := 1; ; number++ {
				put(t, m, fmt.Sprint(writer), fmt.Sprint(number), 0)
				fmt.Println(writer, number)
			}
		})
	}
	counting.Wait()
}
