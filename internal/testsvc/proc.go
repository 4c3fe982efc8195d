package testsvc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"
)

// signal is what a server's process can be told, independent of the operating system.
type signal int

const (
	sigKill signal = iota
	sigTerm
	sigInt
	sigQuit
	sigStop
	sigCont
)

// stopGrace is how long a server may take to end by itself before it is killed.
const stopGrace = 20 * time.Second

// errAddrInUse says that another process took the port between its choice and the server's start.
var errAddrInUse = errors.New("port taken by another process")

// proc is one running process. Its output goes to a file.
type proc struct {
	cmd  *exec.Cmd
	log  string
	mu   sync.Mutex // orders signals against the end of the process, so that none is sent to a reused id
	done chan struct{}
	err  error // how it ended; read after done
}

// startProc starts a command whose output is appended to log. The goroutine that starts it keeps its thread until the
// process ends, because the kernel ties the parent's death signal to that thread.
func startProc(log, name string, args ...string) (*proc, error) {
	cmd := exec.Command(name, args...)
	detach(cmd)
	return startCmd(log, cmd)
}

// startCmd is startProc for a command that is made and detached already.
func startCmd(log string, cmd *exec.Cmd) (*proc, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open server log: %w", err)
	}
	p := &proc{cmd: cmd, log: log, done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = out, out, filepath.Dir(log)
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer out.Close()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w; run `make deps` to install it", cmd.Path, err)
	}
	return p, nil
}

func (p *proc) wait() {
	err := p.cmd.Wait()
	p.mu.Lock()
	p.err = err
	close(p.done)
	p.mu.Unlock()
}

// signal does nothing when the process has ended.
func (p *proc) signal(sig signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.done:
		return nil
	default:
		return signalGroup(p.cmd, sig)
	}
}

// kill ends the process at once and returns when it is gone.
func (p *proc) kill() {
	if err := p.signal(sigKill); err != nil {
		_ = p.cmd.Process.Kill() // the group may be gone while the process is being reaped
	}
	<-p.done
}

// stop asks the process to end and kills it when it takes too long.
func (p *proc) stop() { p.stopBy(sigTerm) }

// stopBy is stop for a process that ends by another signal.
func (p *proc) stopBy(sig signal) {
	_ = p.signal(sigCont) // a paused process can't hear the next one
	if err := p.signal(sig); err == nil {
		select {
		case <-p.done:
			return
		case <-time.After(stopGrace):
		}
	}
	p.kill()
}

// ready polls until check answers nil. It gives up when the process or ctx ends, with the end of the log.
func (p *proc) ready(ctx context.Context, check func(context.Context) error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			if bytes.Contains(p.tail(), []byte("ddress already in use")) {
				return fmt.Errorf("server ended while starting (%w): %w", p.err, errAddrInUse)
			}
			return fmt.Errorf("server ended while starting: %w; its log %s ends with:\n%s", p.err, p.log, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("server isn't ready in time (last answer: %w): %w; its log %s ends with:\n%s",
				err, ctx.Err(), p.log, p.tail())
		case <-tick.C:
		}
	}
}

// tail returns the end of the log.
func (p *proc) tail() []byte {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	return b[max(0, len(b)-4000):]
}

// cacheDir is where scripts/deps.sh puts what isn't a package of the system.
func cacheDir() (string, error) {
	if dir := os.Getenv("WEIRLINE_CACHE"); dir != "" {
		return dir, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("%w; set WEIRLINE_CACHE and run `make deps`", err)
	}
	return filepath.Join(home, ".cache", "weirline"), nil
}

// freePort chooses a port that nobody listens on, below the range the kernel takes ports from by itself, so that no
// outgoing connection grabs it while a server is being restarted.
func freePort() (int, error) {
	for range 200 {
		port := 20000 + rand.IntN(10000)
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("choose port: none of 200 tried between 20000 and 29999 on 127.0.0.1 is free")
}
