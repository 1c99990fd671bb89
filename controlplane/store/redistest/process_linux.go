package redistest

import "syscall"

// withUs ends a program with the process that started it.
func withUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
