// Package app puts weblog together: flags, services, the pipeline, the page.
//
//	func main() { app.New().CLI().Main() }
//
// What is called in which order is said in package cli. Before starts or connects to the services and publishes what is to
// be published; After writes the results and ends what Before began. In the state directory are
//
//	job/        the engine's state
//	services/   the claim on the directory, taken before anything else is touched
//	run         the identity of the run; the keys in Redis belong to it
//	kafka/, redis/, history/, demo.json   what is embedded or made up
package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/cli"
	"github.com/weirline/weirline/engine/prom"
	"github.com/weirline/weirline/examples/weblog/internal/job"
	"github.com/weirline/weirline/examples/weblog/internal/page"
	"github.com/weirline/weirline/examples/weblog/internal/results"
)

// App is one run of weblog. Its methods are called by package cli, one after the other.
type App struct {
	o        options
	brokers  []string
	redis    string
	ends     map[int32]int64 // where to stop, by partition; nil = never
	db       *results.DB
	pipeline *engine.Pipeline
	closers  []func() error // what Before began, in that order
	log      *slog.Logger
}

// New is an App with default settings.
func New() *App { return &App{} }

// CLI is the App's command line.
func (a *App) CLI() cli.App {
	return cli.App{
		Name:     "weblog",
		About:    "Counts page views and unique visitors per page and minute: log files first, then a Kafka topic, into Redis.",
		Addr:     "127.0.0.1:8080",
		Flags:    a.o.declare,
		Before:   a.Before,
		Build:    a.Build,
		Handlers: a.Handlers,
		After:    a.After,
	}
}

// Before starts the services and publishes what is to be published.
func (a *App) Before(ctx context.Context, e *cli.Env) error {
	a.log = e.Log
	redis.SetLogger(clientLog{e.Log})
	if a.o.once && !given(e.Flags, "addr") {
		if err := e.Flags.Set("addr", ""); err != nil { // a bounded run has no page unless told
			return err
		}
	}
	err := a.prepare(ctx, e.Config.Dir)
	if err != nil {
		return errors.Join(err, a.close())
	}
	return nil
}

// clientLog takes what the Redis client logs by itself; the connector reports what matters.
type clientLog struct{ log *slog.Logger }

// Printf implements the client's logger.
func (c clientLog) Printf(ctx context.Context, format string, v ...any) {
	c.log.DebugContext(ctx, "redis client: "+fmt.Sprintf(format, v...))
}

func given(fs *flag.FlagSet, name string) (found bool) {
	fs.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

// Build makes the pipeline.
func (a *App) Build(_ context.Context, e *cli.Env) (*engine.Pipeline, error) {
	if err := a.o.validate(e.Config.Dir); err != nil {
		return nil, err
	}
	in := job.Input{Logs: a.o.logs, Splits: a.o.splits, Rate: a.o.rate}
	if a.o.hasTopic() {
		in.Brokers, in.Topic, in.Ends = a.brokers, a.o.topic, a.ends
		if len(in.Brokers) == 0 { // nothing was started: only a plan or a check is wanted
			in.Brokers, in.Unchecked = a.o.brokers(), a.o.kafka == ""
			if a.o.once {
				in.Ends = map[int32]int64{}
			}
		}
	}
	t := job.Timing{Delay: a.o.delay}
	if !a.o.once {
		t.Idle = a.o.idle
	}
	cfg := e.Config
	cfg.Dir = filepath.Join(cfg.Dir, "job")
	out := job.Output{Addr: a.redis, Password: a.o.password.Reveal(), Prefix: a.o.prefix, Keep: a.o.keep}
	if out.Addr == "" {
		out.Addr, out.Unchecked = a.o.redis, a.o.redis == ""
	}
	a.pipeline = job.New(cfg, in, t, out)
	return a.pipeline, nil
}

// Handlers serves the page and the metrics.
func (a *App) Handlers(mux *http.ServeMux, p *engine.Pipeline) {
	mux.Handle("GET /metrics", prom.Handler(p))
	mux.Handle("GET /", page.Handler(page.Config{DB: a.db, Status: p.Status, Speed: a.shownSpeed(), Log: a.log}))
}

// shownSpeed is how fast the page's time runs, 1 if it is the clock's.
func (a *App) shownSpeed() float64 {
	if a.o.madeUp() {
		return a.o.speed
	}
	return 1
}

// After writes the results of -once and ends the services.
func (a *App) After(_ *cli.Env, err error) error {
	if err == nil && a.o.once {
		err = a.finish(context.Background())
	}
	return errors.Join(err, a.close())
}

// close ends what Before began, the last first.
func (a *App) close() error {
	var errs []error
	for i := len(a.closers) - 1; i >= 0; i-- {
		errs = append(errs, a.closers[i]())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// brokers is -kafka as a list.
func (o *options) brokers() []string {
	if o.kafka == "" {
		return []string{"embedded.invalid:9092"}
	}
	return strings.Split(o.kafka, ",")
}
