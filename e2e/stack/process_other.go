//go:build !linux

package stack

import "syscall"

// ownGroup keeps a Ctrl-C in the terminal from reaching the program, which its
// starter ends in its own order.
func ownGroup() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
