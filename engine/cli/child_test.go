package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/state/pebble"
)

const childVar = "WEIRLINE_CLI_TEST_CHILD"

// TestMain is the pipeline binary itself when the tests start it as a child.
func TestMain(m *testing.M) {
	switch os.Getenv(childVar) {
	case "":
		goleak.VerifyTestMain(withServices{m})
	case "books":
		txnApp().Main()
	case "letters":
		lettersApp().Main()
	default:
		childApp().Main()
	}
}

// withServices ends the servers of the tests before goroutines are counted.
type withServices struct{ m *testing.M }

func (w withServices) Run() int { return testsvc.Main(w.m) }

// childApp writes numbers into a file. It serves all tests; its flags make it misbehave.
func childApp() App {
	var (
		count      int64
		rate       float64
		out, fault string
		keep       string
		key        *Secret
	)
	return App{
		Name: "counting-app", About: "Writes numbers into a file.", State: "none",
		Flags: func(fs *flag.FlagSet) {
			fs.Int64Var(&count, "count", 0, "how many `numbers`; 0 = no end")
			fs.Float64Var(&rate, "rate", 0, "numbers a second")
			fs.StringVar(&out, "out", "", "`file` to append to")
			fs.StringVar(&fault, "misbehave", "", "hang, leak, build, panic or misname")
			fs.StringVar(&keep, "keep", "", "count numbers by their last digit, in `backend` memory or pebble")
			key = SecretFlag(fs, "api-key", "key of the interface")
		},
		Build: func(_ context.Context, e *Env) (*engine.Pipeline, error) {
			switch fault {
			case "build":
				return nil, errors.New("no table <x>\x1b[2J\nerror: forged")
			case "panic":
				panic("in Build")
			case "leak":
				e.Log.Info("key "+key.Reveal(), "secret", *key, "raw", key.Reveal(), "in", slog.AnyValue(struct{ K any }{key.Reveal()}))
				return nil, fmt.Errorf("connect to db://u:%s@h, %+v", key.Reveal(), struct{ K *Secret }{key})
			case "misname":
				e.Config.Name = "not a name"
			}
			if keep == "pebble" {
				e.Config.State = pebble.New(pebble.Options{})
			}
			p := engine.New(e.Config)
			s := engine.From(p, "numbers", gen.Source[int64]{Make: func(n int64) int64 { return n }, Count: count, PerSecond: rate, Splits: 1})
			if keep != "" {
				s = engine.Process(engine.KeyBy(s, func(n int64) int64 { return n % 10 }), "digits", func() *digits { return &digits{} })
			}
			engine.To(s, "file", &appendTo{name: out, log: e.Log, hang: fault == "hang"})
			return p, nil
		},
		Handlers: func(mux *http.ServeMux, _ *engine.Pipeline) {
			mux.HandleFunc("GET /own", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
		},
	}
}

// digits counts numbers by their last digit, and keeps the first one of each task.
type digits struct {
	count state.Value[int64]
	last  state.Value[int64]
	first *state.OperatorList[string]
}

func (d *digits) Open(s *engine.Setup[int64]) error {
	d.count = state.NewValue[int64](s, "count")
	d.last = state.NewValue[int64](s, "last", state.TTL{After: time.Hour})
	d.first = state.NewOperatorList[string](s, "first")
	return nil
}

func (d *digits) Process(_ *engine.Ctx[int64], n int64, out *engine.Out[int64]) error {
	if len(d.first.All()) == 0 {
		d.first.Add(fmt.Sprintf("a <%d>", n))
	}
	*d.count.Ref()++
	d.last.Set(n)
	out.Emit(n)
	return nil
}

// appendTo is a sink that appends numbers to a file, one a line.
type appendTo struct {
	name string
	log  *slog.Logger
	hang bool
	said sync.Once
}

func (a *appendTo) Writer(context.Context, sink.Task) (sink.Writer[int64], error) {
	f, err := os.OpenFile(a.name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return &appender{to: a, f: f}, err
}

type appender struct {
	to *appendTo
	f  *os.File
}

func (w *appender) Write(_ context.Context, b []int64) error {
	var text []byte
	for _, v := range b {
		text = append(strconv.AppendInt(text, v, 10), '\n')
	}
	_, err := w.f.Write(text)
	w.to.said.Do(func() { w.to.log.Info("first record written") })
	return err
}

func (w *appender) Flush(context.Context) error {
	if w.to.hang {
		select {}
	}
	return nil
}

func (w *appender) Close() error { return w.f.Close() }

// child is a running child process.
type child struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer
	lines  chan string
	mu     sync.Mutex
	stderr strings.Builder
}

func start(t *testing.T, env []string, args ...string) *child {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	c := &child{t: t, lines: make(chan string, 10_000), cmd: exec.CommandContext(ctx, os.Args[0], args...)}
	c.cmd.Env = append(append(os.Environ(), childVar+"=1"), env...)
	c.cmd.Dir = t.TempDir()
	c.cmd.Stdout = &c.stdout
	pipe, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		for sc := bufio.NewScanner(pipe); sc.Scan(); {
			c.mu.Lock()
			c.stderr.WriteString(sc.Text() + "\n")
			c.mu.Unlock()
			c.lines <- sc.Text()
		}
	}()
	return c
}

// await returns the next line on standard error that contains text.
func (c *child) await(text string) string {
	c.t.Helper()
	for line := range c.lines {
		if strings.Contains(line, text) {
			return line
		}
	}
	c.t.Fatalf("the child ended without saying %q:\n%s", text, c.said())
	return ""
}

func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stderr.String()
}

func (c *child) signal(s os.Signal) {
	c.t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Fatal(err)
	}
}

// end waits for the child and checks its exit code and that it printed exactly as many errors as it should.
func (c *child) end(code int) (stdout, stderr string) {
	c.t.Helper()
	for range c.lines { // until standard error is closed
	}
	err := c.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		c.t.Fatal(exit, err)
	}
	errs := 0
	for line := range strings.Lines(c.said()) {
		if strings.HasPrefix(line, "error: ") {
			errs++
		}
	}
	want := 1
	if code == exitDone || code == exitSignal {
		want = 0
	}
	if got := c.cmd.ProcessState.ExitCode(); got != code || errs != want {
		c.t.Errorf("exit code %d, want %d; %d errors printed, want %d:\n%s", got, code, errs, want, c.said())
	}
	return c.stdout.String(), c.said()
}

// numbers reads what the child wrote and checks that it is 0, 1, 2, ... without a gap or a repetition.
func numbers(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Fields(string(b))
	for i, s := range got {
		if s != strconv.Itoa(i) {
			t.Fatalf("number %d is %s; around it %v", i, s, slices.Clone(got[max(0, i-3):min(len(got), i+3)]))
		}
	}
	return len(got)
}
