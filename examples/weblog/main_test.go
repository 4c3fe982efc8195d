package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/cli"
	"github.com/weirline/weirline/examples/weblog/internal/app"
	"github.com/weirline/weirline/examples/weblog/internal/demo"
	"github.com/weirline/weirline/examples/weblog/internal/truth"
	"github.com/weirline/weirline/internal/testsvc"
)

// childEnv makes the test binary behave as the weblog binary.
const childEnv = "WEBLOG_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		main()
		return
	}
	os.Exit(testsvc.Main(m))
}

// input is a log in two halves, and what must come of it.
type input struct {
	files, live []string
	want        []byte
}

// inputs is the made-up log, and the real one if WEIRLINE_ACCESS_LOG names it.
func inputs(t *testing.T) map[string]input {
	t.Helper()
	in := map[string]input{"made-up": madeUp(t, 9000)}
	if name := os.Getenv("WEIRLINE_ACCESS_LOG"); name != "" {
		lines, err := truth.Lines(name)
		if err != nil {
			t.Fatal(err)
		}
		in["real"] = halves(lines)
	}
	return in
}

// oneInput is the real log if there is one.
func oneInput(t *testing.T) input {
	t.Helper()
	in := inputs(t)
	if real, ok := in["real"]; ok {
		return real
	}
	return in["made-up"]
}

// madeUp has lines that don't count among those that do.
func madeUp(t *testing.T, n int) input {
	t.Helper()
	log := demo.Log{Seed: 7, Start: time.Date(2024, 2, 28, 23, 40, 0, 0, time.UTC)}
	zone := time.FixedZone("", -5400)
	var lines []string
	for s := int64(0); len(lines) < n; s++ {
		for _, l := range log.Second(s) {
			lines = append(lines, string(l))
		}
		if s%50 == 0 {
			lines = append(lines, "", "nonsense", `1.2.3.4 - - [31/Feb/2024:10:00:00 +0000] "GET / HTTP/1.1" 200 1`,
				fmt.Sprintf(`10.0.0.%d - - [%s] "OPTIONS * HTTP/1.1" 200 1`, s%9,
					log.Start.Add(time.Duration(s)*time.Second).In(zone).Format("02/Jan/2006:15:04:05 -0700")))
		}
	}
	return halves(lines)
}

func halves(lines []string) input {
	r := truth.New()
	for _, l := range lines {
		r.Line(l)
	}
	return input{files: lines[:len(lines)/2], live: lines[len(lines)/2:], want: r.CSV()}
}

// run is one run of weblog with its directories.
type run struct {
	t     *testing.T
	in    input
	dir   string
	flags []string // beside those for the directories
	log   *lockedBuffer
	watch func(*engine.Pipeline) // called beside each run, if set
}

func newRun(t *testing.T, in input, flags ...string) *run {
	t.Helper()
	r := &run{t: t, in: in, dir: t.TempDir(), flags: flags, log: &lockedBuffer{}}
	r.write("logs/a.log", in.files)
	r.write("live/b.log", in.live)
	return r
}

func (r *run) path(name string) string { return filepath.Join(r.dir, name) }

func (r *run) write(name string, lines []string) {
	r.t.Helper()
	text := strings.Join(lines, "\n")
	if len(lines) > 0 {
		text += "\n"
	}
	if err := os.MkdirAll(filepath.Dir(r.path(name)), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(r.path(name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// args is the command line.
func (r *run) args(more ...string) []string {
	args := append([]string{
		"-once", "-logs", r.path("logs"), "-live", r.path("live"), "-state", r.path("state"), "-out", r.path("out.csv"),
	}, r.flags...)
	return append(args, more...)
}

// start runs weblog in this process until it ends or ctx does, as package cli would.
func (r *run) start(ctx context.Context, parallelism int, every time.Duration, more ...string) error {
	a := app.New()
	fs := flag.NewFlagSet("weblog", flag.ContinueOnError)
	state := fs.String("state", "", "")
	fs.String("addr", "", "")
	a.CLI().Flags(fs)
	if err := fs.Parse(r.args(more...)); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(r.log, nil))
	e := &cli.Env{
		Config: engine.Config{Name: "weblog", Dir: *state, Parallelism: parallelism, CheckpointEvery: every, Log: log},
		Flags:  fs, Log: log, Out: io.Discard,
	}
	if err := a.Before(ctx, e); err != nil {
		return err
	}
	p, err := a.Build(ctx, e)
	if err == nil {
		if r.watch != nil {
			go r.watch(p)
		}
		err = p.Run(ctx)
	}
	return a.After(e, err)
}

// equal holds the file against the truth.
func (r *run) equal() {
	r.t.Helper()
	got, err := os.ReadFile(r.path("out.csv"))
	if err != nil {
		r.t.Fatalf("no results: %v\n%s", err, r.log)
	}
	if bytes.Equal(got, r.in.want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(r.in.want), "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			r.t.Fatalf("%d rows, want %d; row %d is %q, want %q\n%s", len(g), len(w), i, g[i], w[i], r.log)
		}
	}
	r.t.Fatalf("%d rows, want %d\n%s", len(g), len(w), r.log)
}

// logged wants a piece of the log.
func (r *run) logged(piece string) {
	r.t.Helper()
	if !strings.Contains(r.log.String(), piece) {
		r.t.Errorf("the log doesn't say %q:\n%s", piece, r.log)
	}
}

// finish runs to the end and looks at the results.
func (r *run) finish(parallelism int, every time.Duration, more ...string) {
	r.t.Helper()
	if err := r.start(r.t.Context(), parallelism, every, more...); err != nil {
		r.t.Fatalf("%v\n%s", err, r.log)
	}
	r.equal()
	r.logged("late=0")
}

func absent(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist)
}
