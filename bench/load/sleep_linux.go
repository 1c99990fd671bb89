package load

import (
	"syscall"
	"time"
)

// sharpen makes the kernel end the sleeps of this thread on time, where it
// usually bundles those of 50 µs.
func sharpen() {
	const setTimerSlack = 29
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0) // If not, sleeps are less sharp.
}

// nanosleep blocks the thread.
func nanosleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // Waking up early does no harm.
}
