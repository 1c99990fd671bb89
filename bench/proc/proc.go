// Package proc reads what Linux tells of processes.
package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// CPUTime returns the processor time that a process has used, in user and kernel
// mode together.
func CPUTime(pid int) (time.Duration, error) {
	// The scheduler's own account is exact to the nanosecond, but each thread
	// has its own. Threads of a Go program do not end by themselves.
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(tasks) == 0 {
		return 0, fmt.Errorf("process %d tells no processor time; this needs Linux", pid)
	}
	total := time.Duration(0)
	for _, task := range tasks {
		data, err := os.ReadFile(task)
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(data), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading %s: %w", task, err)
		}
		total += time.Duration(ns)
	}
	return total, nil
}

// Resident returns how much memory a process has, now and at most so far, in
// bytes.
func Resident(pid int) (now, peak int64, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(data)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kib); err == nil {
			now = kib << 10
		}
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			peak = kib << 10
		}
	}
	if now == 0 || peak == 0 {
		return 0, 0, errors.New("the kernel tells no resident memory")
	}
	return now, peak, nil
}

// Processor returns the name of the machine's processor.
func Processor() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if name, value, ok := bytes.Cut(lines.Bytes(), []byte(":")); ok && strings.TrimSpace(string(name)) == "model name" {
			return strings.TrimSpace(string(value))
		}
	}
	return runtime.GOARCH
}
