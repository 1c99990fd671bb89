//go:build !linux

package load

import "time"

func sharpen() {}

func nanosleep(d time.Duration) { time.Sleep(d) }
