//go:build !linux

package testsvc

import (
	"errors"
	"fmt"
	"os/exec"
)

// detach does nothing here: outside Linux a server may outlive a test binary that is killed.
func detach(*exec.Cmd) {}

// signalGroup can only kill here.
func signalGroup(cmd *exec.Cmd, sig signal) error {
	if sig == sigStop || sig == sigCont {
		return fmt.Errorf("pause or resume process %d: %w on this operating system", cmd.Process.Pid, errors.ErrUnsupported)
	}
	if err := cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill process %d: %w", cmd.Process.Pid, err)
	}
	return nil
}

// unprivileged changes nothing here: whoever runs the tests runs the server.
func unprivileged(*exec.Cmd, string, string) error { return nil }
