package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/fault"
)

// The command socket of a running job lies in its state directory. Where that path is too long for a socket, the socket lies
// in a directory of its own below the temporary one, and a file beside the claim says where.
const (
	socketName  = "control.sock"
	pointerName = "control.path"
	socketLimit = 100 // bytes; systems have 104 or 108
)

// request is one line from a client; the answer is one line as well.
type request struct {
	Command string `json:"command"`
	Path    string `json:"path,omitempty"`  // of a savepoint
	Drain   bool   `json:"drain,omitempty"` // stop
	Tasks   int    `json:"tasks,omitempty"` // rescale
}

type answer struct {
	Error  string         `json:"error,omitempty"`
	Code   string         `json:"code,omitempty"` // of the error
	Epoch  uint64         `json:"epoch,omitempty"`
	Took   time.Duration  `json:"took_ns,omitempty"` // rescale
	Status *engine.Status `json:"status,omitempty"`
}

// control serves the command socket.
type control struct {
	c    *command
	p    *engine.Pipeline
	dir  string
	ctx  context.Context //nolint:containedctx // of the server's life, for the requests it serves
	stop context.CancelFunc
	busy sync.WaitGroup
}

// control serves the command socket until the result is called, which waits for the answers that are under way.
func (c *command) control(p *engine.Pipeline) (end func()) {
	dir, err := filepath.Abs(c.env.Config.Dir)
	if c.env.Config.Dir == "" || err != nil {
		return func() {}
	}
	s := &control{c: c, p: p, dir: dir}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.busy.Go(s.serve)
	return func() { s.stop(); s.busy.Wait() }
}

// serve waits until the job holds its state: then what is left of a socket is that of a process that died.
func (s *control) serve() {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for s.p.Status().Phase == "" {
		select {
		case <-tick.C:
		case <-s.ctx.Done():
			return
		}
	}
	ln, clear, err := s.listen()
	if err != nil {
		s.c.log.Warn("no command socket; the job runs without", "error", err)
		return
	}
	defer clear()
	context.AfterFunc(s.ctx, func() { ln.Close() }) //nolint:errcheck // it ends Accept
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		s.busy.Go(func() { s.answer(conn) })
	}
}

func (s *control) listen() (ln net.Listener, clear func(), err error) {
	path := filepath.Join(s.dir, socketName)
	pointer := filepath.Join(s.dir, pointerName)
	if b, err := os.ReadFile(pointer); err == nil && filepath.Base(string(b)) == "s" {
		os.Remove(string(b))               //nolint:errcheck // of a process that died
		os.Remove(filepath.Dir(string(b))) //nolint:errcheck // as above; empty, or not ours
	}
	clear = func() { os.Remove(path) } //nolint:errcheck // stale ones do no harm
	if len(path) > socketLimit {
		short, err := os.MkdirTemp("", "weirline-")
		if err != nil {
			return nil, nil, err
		}
		path = filepath.Join(short, "s")
		if err := os.WriteFile(pointer, []byte(path), 0o600); err != nil {
			return nil, nil, errors.Join(err, os.Remove(short))
		}
		clear = func() { os.RemoveAll(short); os.Remove(pointer) } //nolint:errcheck // as above
	}
	os.Remove(path) //nolint:errcheck // of a process that died
	if ln, err = net.Listen("unix", path); err == nil {
		err = os.Chmod(path, 0o600) // the directory is open to its owner only, so nobody was faster
	}
	if err != nil {
		clear()
		return nil, nil, err
	}
	return ln, clear, nil
}

// answer serves one client. Its leaving gives up what it waits for.
func (s *control) answer(conn net.Conn) {
	defer conn.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(s.ctx, func() { conn.SetReadDeadline(time.Now()) })() //nolint:errcheck // it wakes the reads below
	var q request
	in := bufio.NewReader(io.LimitReader(conn, 1<<20))
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &q)
	}
	var a answer
	if err == nil {
		s.busy.Go(func() {
			io.Copy(io.Discard, in) //nolint:errcheck // only its end matters
			cancel()
		})
		a, err = s.carryOut(ctx, q)
	}
	if err != nil {
		a = answer{Error: err.Error(), Code: fault.CodeOf(err)}
	}
	b, err := json.Marshal(a)
	if err == nil {
		s.c.red.writer(conn).Write(append(b, '\n')) //nolint:errcheck // the client has gone
	}
}

func (s *control) carryOut(ctx context.Context, q request) (a answer, err error) {
	s.c.log.Info("command", "command", q.Command, "path", q.Path, "drain", q.Drain, "tasks", q.Tasks)
	mode := engine.Suspend
	if q.Drain {
		mode = engine.Drain
	}
	switch q.Command {
	case "status":
	case "checkpoint":
		a.Epoch, err = s.checkpoint(ctx)
	case "savepoint":
		a.Epoch, err = s.p.Savepoint(ctx, q.Path)
	case "stop":
		if q.Path != "" {
			a.Epoch, err = s.p.StopWithSavepoint(ctx, mode, q.Path)
		} else {
			s.p.Stop(mode)
		}
		s.until(ctx, func(st engine.Status) bool { return st.Phase == "ended" })
	case "rescale":
		err = s.p.Rescale(ctx, q.Tasks)
		a.Took = s.p.Status().RescaleTook
	default:
		err = fault.New(fault.Usage, "the running job doesn't know the command %q", q.Command)
	}
	st := s.c.statusOf(s.p)
	a.Status = &st
	return a, err
}

// checkpoint takes one and waits for it.
func (s *control) checkpoint(ctx context.Context) (uint64, error) {
	before := s.p.Status().Epochs
	s.p.Checkpoint()
	st := s.until(ctx, func(st engine.Status) bool {
		return st.Phase == "ended" || st.Epochs.Last > before.Last || st.Epochs.Failed > before.Failed
	})
	if st.Epochs.Last > before.Last {
		return st.Epochs.Last, nil
	}
	return 0, fault.New(fault.EpochFailures, "the checkpoint failed or the job ended; its log says why")
}

// until waits for a status.
func (s *control) until(ctx context.Context, ok func(engine.Status) bool) engine.Status {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if st := s.p.Status(); ok(st) {
			return st
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s.p.Status()
		}
	}
}

// remote is an error of the running job.
type remote struct{ text, code string }

func (r *remote) Error() string { return r.text }

// ask has the running job carry out a request.
func (c *command) ask(ctx context.Context, q request) (a answer, err error) {
	dir := c.env.Config.Dir
	conn, err := dial(ctx, dir)
	if err != nil {
		return a, fault.New(fault.NotRunning, "no job runs on state directory %q", dir)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })() //nolint:errcheck // it wakes the read below
	line, err := json.Marshal(q)
	if err == nil {
		_, err = conn.Write(append(line, '\n'))
	}
	if err == nil {
		err = json.NewDecoder(conn).Decode(&a)
	}
	switch {
	case ctx.Err() != nil:
		return a, fault.New(fault.NotRunning, "interrupted; the job goes on")
	case err != nil:
		return a, fault.Wrap(fault.NotRunning, err, "the job ended without an answer").WithFix("look at its log")
	case a.Error != "":
		return a, &remote{a.Error, a.Code}
	}
	return a, nil
}

func dial(ctx context.Context, dir string) (net.Conn, error) { return dialFor(ctx, dir, patience) }

func dialFor(ctx context.Context, dir string, limit time.Duration) (net.Conn, error) {
	abs, err := filepath.Abs(dir)
	if err != nil || dir == "" {
		return nil, errors.New("no state directory")
	}
	for until := time.Now().Add(limit); ; {
		path := filepath.Join(abs, socketName)
		if b, err := os.ReadFile(filepath.Join(abs, pointerName)); err == nil {
			path = strings.TrimSpace(string(b))
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil || ctx.Err() != nil || time.Now().After(until) {
			return conn, err
		}
		select {
		case <-time.After(patience / 10):
		case <-ctx.Done():
		}
	}
}

// patience is how long a command waits for the socket of a job that is just starting.
const patience = 300 * time.Millisecond
