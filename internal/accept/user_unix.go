//go:build unix

package main

import (
	"os"
	"os/exec"
	"syscall"
)

// anotherUser makes a child run as nobody, if this is root; otherwise uid is -1 and the child runs as we do.
func anotherUser() (as func(*exec.Cmd), uid int) {
	if os.Getuid() != 0 {
		return nil, -1
	}
	const nobody = 65534
	return func(c *exec.Cmd) {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	}, nobody
}
