package testsvc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// detach puts the process into its own group, so that signals reach it and its children and nobody else, and has the
// kernel kill it when the thread that starts it ends.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func signalGroup(cmd *exec.Cmd, sig signal) error {
	n := map[signal]syscall.Signal{
		sigKill: syscall.SIGKILL, sigTerm: syscall.SIGTERM, sigInt: syscall.SIGINT, sigQuit: syscall.SIGQUIT,
		sigStop: syscall.SIGSTOP, sigCont: syscall.SIGCONT,
	}[sig]
	if err := syscall.Kill(-cmd.Process.Pid, n); err != nil {
		return fmt.Errorf("send %s to process group %d: %w", n, cmd.Process.Pid, err)
	}
	return nil
}

// unprivileged detaches cmd and, if this process is root, makes it run as the named user, to whom it gives dir and the way
// there from the directory of temporary files, which may be root's alone.
func unprivileged(cmd *exec.Cmd, name, dir string) error {
	detach(cmd)
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("%w; run `make deps` to install what needs that user", err)
	}
	uid, uerr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gerr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uerr, gerr); err != nil {
		return fmt.Errorf("user %s: %w", name, err)
	}
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	temp := filepath.Clean(os.TempDir()) + string(filepath.Separator)
	for above := filepath.Dir(dir); strings.HasPrefix(above, temp); above = filepath.Dir(above) {
		info, err := os.Stat(above)
		if err != nil {
			return err
		}
		if err := os.Chmod(above, info.Mode().Perm()|0o011); err != nil {
			return err
		}
	}
	return os.Chown(dir, int(uid), int(gid))
}
