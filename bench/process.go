package main

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

// cpuTime returns the processor time that a process has used, in user and kernel
// mode together.
func cpuTime(pid int) (time.Duration, error) {
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

// usage is the processor time of the whole machine so far.
type usage struct {
	at   time.Time
	busy time.Duration // stolen by the hypervisor included
	own  time.Duration // of Traefik and of this process
}

// use returns the machine's usage, of which Traefik and this process are our own.
func use(pid int) (usage, error) {
	u := usage{at: time.Now()}
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	var user, nice, system, idle, wait, irq, softirq, steal int64
	_, err = fmt.Sscanf(string(data), "cpu %d %d %d %d %d %d %d %d", &user, &nice, &system, &idle, &wait, &irq, &softirq, &steal)
	if err != nil {
		return u, fmt.Errorf("reading /proc/stat: %w", err)
	}
	const tick = 10 * time.Millisecond // What Linux tells them in.
	u.busy = time.Duration(user+nice+system+irq+softirq+steal) * tick
	for _, p := range []int{pid, os.Getpid()} {
		used, err := cpuTime(p)
		if err != nil {
			return u, err
		}
		u.own += used
	}
	return u, nil
}

// othersSince returns which share of the machine something else used since u.
func (u usage) othersSince(pid int) (float64, error) {
	now, err := use(pid)
	if err != nil {
		return 0, err
	}
	others := (now.busy - u.busy) - (now.own - u.own)
	whole := time.Duration(runtime.NumCPU()) * now.at.Sub(u.at)
	return max(0, float64(others)/float64(whole)), nil
}

// resident returns how much memory a process has, now and at most so far, in
// bytes.
func resident(pid int) (now, peak int64, err error) {
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

// processor returns the name of the machine's processor.
func processor() string {
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
