package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"time"
	"unicode"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
	exitHeld   = 3
	exitSignal = 130
)

// command is a command line being carried out.
type command struct {
	app  App
	pr   process
	red  *redactor
	opts options
	env  *Env
	log  *slog.Logger
}

// run carries out the command line and returns the exit code.
func (a App) run(pr process) int {
	red := &redactor{}
	pr.out, pr.err = red.writer(pr.out), red.writer(pr.err)
	c := &command{app: a, pr: pr, red: red}
	fs := flag.NewFlagSet(a.Name, flag.ContinueOnError)
	if a.Flags != nil {
		a.Flags(fs)
	}
	if err := a.clashes(fs); err != nil {
		return c.report(err)
	}
	c.opts.declare(fs, a)
	v, args, err := verbOf(pr.args)
	if err != nil {
		return c.report(err)
	}
	if v.flags != nil {
		v.flags(&c.opts, fs)
	}
	pr.args = args
	args, err = a.parse(fs, pr, red.hide)
	if err == nil {
		err = v.check(args)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return c.print(a.help(fs))
	case err == nil && c.opts.version:
		return c.print(version(a) + "\n")
	case err == nil:
		err = c.opts.validate()
	}
	if err == nil && strings.Contains(c.opts.state, "://") && a.Store == nil {
		err = fault.New(fault.Usage, "flag -state=%s: this binary keeps its state in a directory only", c.opts.state).
			WithFix("give a directory, or build the binary with App.Store set to blob.At")
	}
	if err != nil {
		return c.report(err)
	}
	c.makeEnv(fs)
	ctx, stop := c.signals()
	defer stop()
	return c.report(v.do(c, ctx, args))
}

func (c *command) makeEnv(fs *flag.FlagSet) {
	o := &slog.HandlerOptions{Level: c.opts.logLevel}
	c.log = slog.New(slog.NewTextHandler(c.pr.err, o))
	if c.opts.logFormat == "json" {
		c.log = slog.New(slog.NewJSONHandler(c.pr.err, o))
	}
	c.env = &Env{
		Config: engine.Config{
			Name: c.app.Name, Dir: c.opts.state, Parallelism: c.opts.parallelism, CheckpointEvery: c.opts.checkpoint,
			AtLeastOnce: c.opts.mode == "at-least-once", Unaligned: c.opts.mode == "unaligned", UnalignedAfter: c.opts.unaligned,
			BacklogEvery: c.opts.backlog, CheckpointTimeout: c.opts.timeout,
			MaxConcurrent: c.opts.atOnce, Retain: c.opts.retain, DropAtEnd: c.opts.dropAtEnd, Memory: c.opts.memory << 20,
			Fallback: c.opts.fallback, AllowDropped: c.opts.allowDropped, Log: c.log,
		},
		Flags: fs, Log: c.log, Out: c.pr.out,
		secret: func(name string) (Secret, error) {
			twin := c.app.twin(name)
			value, ok := c.pr.env(twin)
			if !ok || value == "" {
				return Secret{}, fault.New(fault.NoSecret, "the secret %q is not given", name).At("environment variable " + twin)
			}
			s, err := readSecret(value, c.red.hide)
			if err != nil {
				return Secret{}, fault.At(err, "environment variable "+twin)
			}
			return s, nil
		},
	}
	if c.opts.from != "" {
		c.env.Config.Begin = c.begin
	}
	if strings.Contains(c.opts.state, "://") {
		c.env.Config.Dir, c.env.Config.Store = "", c.app.Store(c.opts.state)
	}
}

// begin puts into the job's state what -from names.
func (c *command) begin(own store.Store) error {
	cfg := c.env.Config
	return savepoint.Start{
		Job: cfg.Name, From: c.opts.from, Open: cfg.Open, Rewind: c.opts.rewind, TakeOver: c.opts.takeOver, Log: c.log,
	}.Begin(own)
}

// signals makes the context that the first signal ends; the second one ends the process. stop waits for the goroutine.
func (c *command) signals() (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	got, done, gone := make(chan os.Signal, 2), make(chan struct{}), make(chan struct{})
	c.pr.notify(got)
	go func() {
		defer close(gone)
		for n := 1; ; n++ {
			select {
			case s := <-got:
				if n > 1 {
					c.log.Warn("second signal: leaving at once; the next run goes on from the last checkpoint", "signal", s.String())
					c.pr.exit(exitSignal)
					return
				}
				c.log.Info("stopping after a last checkpoint; a second signal leaves at once", "signal", s.String())
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() {
		c.pr.forget(got)
		close(done)
		<-gone
		cancel()
	}
}

// run runs the pipeline, or shows it.
func (c *command) run(ctx context.Context, _ []string) error {
	switch {
	case c.opts.plan != "":
		return c.plan(ctx)
	case c.opts.check:
		return c.check(ctx)
	}
	return c.start(ctx)
}

// build makes the pipeline and checks it.
func (c *command) build(ctx context.Context) (p *engine.Pipeline, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fault.New(fault.UserPanic, "building the pipeline panicked: %v\n%s", r, debug.Stack())
		}
	}()
	p, err = c.app.Build(ctx, c.env)
	switch {
	case err != nil && fault.CodeOf(err) == "" && !errors.Is(err, context.Canceled):
		return nil, fault.Wrap(fault.BadPipeline, err, "build the pipeline").WithFix("mend the cause; nothing was started")
	case err != nil:
		return nil, err
	case p == nil:
		return nil, fault.New(fault.BadPipeline, "the Build function returned no pipeline")
	}
	return p, p.Check()
}

func (c *command) plan(ctx context.Context) error {
	p, err := c.build(ctx)
	if err != nil {
		return err
	}
	pl := p.Plan()
	text := planText(pl)
	switch c.opts.plan {
	case "dot":
		text = planDOT(pl)
	case "json":
		text = planJSON(pl)
	}
	_, err = io.WriteString(c.pr.out, text)
	return err
}

func (c *command) check(ctx context.Context) error {
	p, err := c.build(ctx)
	if err != nil {
		return err
	}
	if err := p.Preflight(ctx); err != nil {
		return err
	}
	_, err = io.WriteString(c.pr.out, planText(p.Plan())+"ok\n")
	return err
}

// start runs the pipeline between Before and After.
func (c *command) start(ctx context.Context) error {
	if c.app.Before != nil {
		if err := c.app.Before(ctx, c.env); err != nil {
			return c.stopped(ctx, err)
		}
	}
	err := c.work(ctx)
	if c.app.After != nil {
		err = c.app.After(c.env, err)
	}
	return c.stopped(ctx, err)
}

// stopped turns the error of a start that a signal interrupted into a log line.
func (c *command) stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) && fault.CodeOf(err) == "" {
		c.log.Info("stopped before the job ran")
		return nil
	}
	return err
}

func (c *command) work(ctx context.Context) error {
	p, err := c.build(ctx)
	if err != nil {
		return err
	}
	pl := p.Plan()
	for _, g := range pl.Guarantees {
		log := c.log.With("sources", strings.Join(g.Sources, ", "), "sink", g.Sink, "promise", g.Promise, "why", g.Why)
		if g.Limit != "" {
			log = log.With("limited_by", g.Limit, "fix", g.Fix)
		}
		log.Info("guarantee")
	}
	if c.opts.addr != "" {
		web, err := c.serve(p, pl)
		if err != nil {
			return c.heldInstead(err)
		}
		defer web.close()
	}
	if c.opts.drain {
		p.Stop(engine.Drain)
	}
	defer c.control(p)()
	began := time.Now()
	err = p.Run(ctx)
	if err == nil {
		c.closing(p.Status(), pl, time.Since(began))
	} else if fs := p.Status().Failures; len(fs) > 1 {
		for _, f := range fs[:len(fs)-1] { // the last one is the error
			c.log.Warn("failed before", "region", f.Region, "task", f.Task, "at", f.At, "down", f.Down, "again_from", f.Epoch, "error", f.Error)
		}
	}
	return err
}

// closing says how the job ended and what to do next.
func (c *command) closing(st engine.Status, pl engine.Plan, took time.Duration) {
	sources := map[string]bool{}
	for _, op := range pl.Operators {
		sources[op.Name] = op.Kind == "source"
	}
	read := int64(0)
	for _, t := range st.Tasks {
		for _, op := range t.Operators {
			if sources[op.Name] {
				read += op.In
			}
		}
	}
	log := c.log.With("epoch", st.Epochs.Last, "records_read", read, "uncommitted", st.Uncommitted, "took", took.Round(time.Millisecond))
	switch {
	case st.Outcome == "finished":
		log.Info("done: the input has ended")
	case st.Outcome == "drained":
		log.Info("drained: windows have fired; run again to go on with what comes")
	case !st.Stored:
		log.Info("stopped: nothing is stored, a new run begins anew")
	case st.Outcome == "suspended":
		log.Info("suspended; run again to go on")
	default:
		log.Warn("stopped between two attempts; run again to go on from the last checkpoint", "last_error", st.LastError)
	}
	if st.Uncommitted > 0 {
		log.Warn("some transactions are prepared and not committed; the next run commits them first")
	}
}

// print writes the answer of a command that runs nothing.
func (c *command) print(s string) int {
	if _, err := io.WriteString(c.pr.out, s); err != nil {
		return exitFailed
	}
	return exitDone
}

// report prints an error, the parts of a joined one apart, and returns the exit code.
func (c *command) report(err error) int {
	if err == nil {
		return exitDone
	}
	parts := []error{err}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		parts = joined.Unwrap()
	}
	var b strings.Builder
	for _, e := range parts {
		b.WriteString("error: " + printable(e.Error()) + "\n")
	}
	io.WriteString(c.pr.err, b.String()) //nolint:errcheck // nowhere to report it to
	return exitCode(err)
}

func exitCode(err error) int {
	id := fault.CodeOf(err)
	if r, ok := errors.AsType[*remote](err); ok {
		id = r.code
	}
	switch id {
	case fault.ClaimHeld.ID, fault.Fenced.ID:
		return exitHeld
	case fault.Usage.ID, fault.PortTaken.ID, fault.NoSecret.ID, fault.BadPipeline.ID, fault.BadType.ID, fault.Parallelism.ID,
		fault.OtherJob.ID, fault.DroppedState.ID, fault.Preflight.ID, fault.SavepointTaken.ID, fault.NoCheckpoint.ID, fault.NewerThere.ID,
		fault.UnknownName.ID, fault.UncommittedOp.ID, fault.HarmByTxn.ID:
		return exitUsage
	}
	return exitFailed
}

// printable keeps data inside an error from steering the terminal or looking like another message.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString("\n    ")
		case r == '\t' || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
