package testsvc

import (
	"fmt"
	"os/exec"
	"syscall"
)

// detach puts the process into its own group, so that signals reach it and its children and nobody else, and has the
// kernel kill it when the thread that starts it ends.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func signalGroup(cmd *exec.Cmd, sig signal) error {
	n := map[signal]syscall.Signal{
		sigKill: syscall.SIGKILL, sigTerm: syscall.SIGTERM, sigStop: syscall.SIGSTOP, sigCont: syscall.SIGCONT,
	}[sig]
	if err := syscall.Kill(-cmd.Process.Pid, n); err != nil {
		return fmt.Errorf("send %s to process group %d: %w", n, cmd.Process.Pid, err)
	}
	return nil
}
