package store

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writing names the variable that makes this test a process that writes a file in
// its folder without end.
const writing = "TOLLGATE_TEST_WRITE_STATE"

// TestKilledWhileWriting kills a process that writes its state. The file is whole
// each time, and has all that the process said was in it.
func TestKilledWhileWriting(t *testing.T) {
	if os.Getenv(writing) != "" {
		writeForEver(t, "state")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "state")
	for i := range 3 {
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
		said := 0
		lines := bufio.NewScanner(out)
		for said <= i && lines.Scan() {
			said, err = strconv.Atoi(lines.Text())
			if err != nil {
				t.Fatalf("the process says %q", lines.Text())
			}
		}
		// It is killed in the middle of the next.
		for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(100 * time.Microsecond) {
			if _, err := os.Stat(path + ".next"); err == nil {
				break
			}
		}
		if err := process.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = process.Wait() // It was killed.
		var j journal
		m := openFile(t, path, &j)
		values, _, err := m.Get(t.Context(), "29")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := strconv.Atoi(strings.TrimLeft(string(values[0].Data), "0")); err != nil || got < said {
			t.Fatalf("kill %d: the file has %d, %v, and had %d; %s", i, got, err, said, j.take())
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeForEver says each number that the file has.
func writeForEver(t *testing.T, path string) {
	for number := int64(1); ; number++ {
		// They are many, so that writing takes long.
		entries := map[string]entry{}
		for i := range 30 {
			entries[fmt.Sprint(i)] = entry{Value: Value{Data: fmt.Appendf(nil, "%010000d", number), Version: number}}
		}
		if err := replaceState(path, state{version: number, entries: entries}); err != nil {
			t.Fatal(err)
		}
		fmt.Println(number)
	}
}
