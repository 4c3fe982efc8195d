package cli

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
)

// App is a pipeline binary. Name and Build are required.
type App struct {
	// Name names the job, its environment variables and its default state directory. Required.
	Name string

	// About says in a sentence what the binary does, for -help.
	About string

	// Version is what -version prints. "" = what the Go toolchain recorded.
	Version string

	// State is the default of -state. "" = Name + ".state", "none" = nothing is stored unless -state says where.
	State string

	// Store lets -state be a URL such as s3://bucket/prefix: it is what Config.Store gets for that, blob.At for one. nil = -state
	// is a directory.
	Store func(location string) func(o store.Options) (store.Store, error)

	// Addr is the default of -addr. "" = no HTTP unless told.
	Addr string

	// Flags declares flags of the binary's own, beside those every binary and its commands have: one with the name of such a
	// flag is a WL1001 at every start. Called once, before parsing, with an empty set. nil = none.
	Flags func(fs *flag.FlagSet)

	// Before is called before Build when the pipeline is going to run: it may do I/O. nil = nothing.
	Before func(ctx context.Context, e *Env) error

	// Build makes the pipeline, usually with engine.New(e.Config). It does no I/O, since -plan and -check call it too. ctx
	// ends at the first signal.
	Build func(ctx context.Context, e *Env) (*engine.Pipeline, error)

	// Handlers adds pages, such as prom.Handler(p) under "GET /metrics". Called once before the start, and only if there is
	// HTTP. "/healthz", "/readyz", "/status" and "/debug/pprof/" are taken. nil = none.
	Handlers func(mux *http.ServeMux, p *engine.Pipeline)

	// DeadLetters says where the dead letters lie that the command dlq reads unless -letters is given, such as kafka.DeadLetters or
	// deadletter.Files. nil = only -letters says it.
	DeadLetters func(ctx context.Context, e *Env) (deadletter.Log, error)

	// After is called when the pipeline has ended, with its error, and also if Build or the start failed after Before. What
	// it returns replaces that error, nil included. nil = nothing.
	After func(e *Env, err error) error
}

// Env is what a Build function gets. It belongs to the caller for the life of the process.
type Env struct {
	// Config is filled from the flags: Name, Dir, Parallelism, CheckpointEvery, Log, Fallback and AllowDropped. Build may
	// set the other fields, and give the result to engine.New.
	Config engine.Config

	// Flags is the parsed flag set.
	Flags *flag.FlagSet

	// Log writes to standard error as -log-level and -log-format say.
	Log *slog.Logger

	// Out is standard output with all secrets cut out.
	Out io.Writer

	secret func(name string) (Secret, error)
}

// Secret is the secret with a name as a flag would have: "db-password" of the app "hits" is read from HITS_DB_PASSWORD,
// which holds the value, or @ and the name of a file that does. An absent one is a WL1503 that names the variable.
func (e *Env) Secret(name string) (Secret, error) { return e.secret(name) }

// Main runs a binary that has nothing but a pipeline. It doesn't return.
func Main(name string, build func(ctx context.Context, e *Env) (*engine.Pipeline, error)) {
	App{Name: name, Build: build}.Main()
}

// Main parses the command line, does what it says, and ends the process with an exit code. It doesn't return.
func (a App) Main() {
	os.Exit(a.run(process{
		args: os.Args[1:], env: os.LookupEnv, out: os.Stdout, err: os.Stderr, exit: os.Exit,
		notify: func(c chan<- os.Signal) { signal.Notify(c, os.Interrupt, syscall.SIGTERM) },
		forget: signal.Stop,
	}))
}

// process is the outside of a binary.
type process struct {
	args     []string
	env      func(string) (string, bool)
	out, err io.Writer
	notify   func(chan<- os.Signal)
	forget   func(chan<- os.Signal)
	exit     func(code int)
}
