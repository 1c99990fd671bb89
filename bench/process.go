package main

import (
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/tollgate-apim/tollgate/bench/proc"
)

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
		used, err := proc.CPUTime(p)
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
