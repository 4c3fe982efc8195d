// Command workloads runs one of the reference workloads, checks its answer and prints what it measured as one line of JSON.
//
//	workloads W N [options]
//
// W is w1 (chain), w2 (running sum by key), w3 (counts in windows), w2lat (w2 at a fixed rate, with latencies), w9 (w2 with a
// failure in the middle, with the time it takes to recover), q5 (hot auctions in sliding windows), q8 (newcomers by a window
// join), w4 (a Kafka topic into another, exactly once), w6 (rows into PostgreSQL, exactly once) or w6upsert (the same rows, replaced by
// key without transactions); N is the number of records. The clock runs from before the first record is made until the last one has
// gone through the last operator, of w4 and w6 until all is committed; the answer is computed afterwards. See ../README.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/state/pebble"
)

// options are the settings of a run.
type options struct {
	records     int64
	keys        uint32
	parallelism int
	checkpoint  time.Duration
	rate        float64
	state       string
	backend     state.Backend // nil: memory
	announce    bool
	throwAfter  time.Duration
	profile     string
	postgres    string
	kafka       string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "workloads:", err)
		os.Exit(1)
	}
}

// run is the whole program. A wrong answer is printed and is an error.
func run(ctx context.Context, args []string, out io.Writer) error {
	name, o, err := parse(args)
	if err != nil {
		return err
	}
	if o.state == "" {
		dir, err := os.MkdirTemp("", "workloads-")
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		o.state = dir
	}
	stop, err := profile(o.profile)
	if err != nil {
		return err
	}
	r, err := workloads[name](ctx, o)
	stop()
	if err != nil {
		return fmt.Errorf("run %s: %w", name, err)
	}
	r.Workload = name
	if err := json.NewEncoder(out).Encode(r); err != nil {
		return err
	}
	if !r.OK {
		return errors.New("the answer is wrong")
	}
	return nil
}

func parse(args []string) (name string, o options, err error) {
	const usage = "usage: workloads w1|w2|w3|w2lat|w4|w6|w6upsert|w9|q5|q8 N [options]; -h after N lists the options"
	if len(args) < 2 || workloads[args[0]] == nil {
		return "", o, errors.New(usage)
	}
	if o.records, err = strconv.ParseInt(args[1], 10, 64); err != nil || o.records < 1 {
		return "", o, fmt.Errorf("%q is not a number of records; %s", args[1], usage)
	}
	keys, backend := uint64(0), ""
	f := flag.NewFlagSet("workloads "+args[0], flag.ContinueOnError)
	f.Uint64Var(&keys, "keys", 10_000, "number of keys, below 2^32")
	f.IntVar(&o.parallelism, "parallelism", 2, "tasks per operator")
	f.DurationVar(&o.checkpoint, "checkpoint", time.Second, "time between checkpoints, 0 = none; w1 has none")
	f.Float64Var(&o.rate, "rate", 200_000, "records per second of w2lat")
	f.StringVar(&o.state, "state", "", "new directory for the checkpoints (default a temporary one)")
	f.StringVar(&backend, "backend", "memory", "where keyed state lives: memory or pebble")
	f.DurationVar(&o.throwAfter, "throw-after", 500*time.Millisecond, "time from a completed checkpoint to the failure of w9")
	f.BoolVar(&o.announce, "announce", false, "say on stderr when the first record has reached the sink")
	f.StringVar(&o.kafka, "kafka", "", "address, host:port, of the broker whose topics w4 reads and writes")
	f.StringVar(&o.postgres, "postgres", "", "URL of the server that w6 and w6upsert write to; its table delivered is dropped")
	f.StringVar(&o.profile, "cpuprofile", "", "file for a CPU profile of the run")
	if err := f.Parse(args[2:]); err != nil {
		return "", o, err
	}
	if keys < 1 || keys >= 1<<32 || f.NArg() > 0 || o.rate <= 0 {
		return "", o, errors.New(usage)
	}
	if args[0] == "w4" && o.kafka == "" || strings.HasPrefix(args[0], "w6") && o.postgres == "" {
		return "", o, errors.New("w4 needs -kafka, the address of a broker, and w6 and w6upsert -postgres, the URL of a server")
	}
	switch o.keys = uint32(keys); backend {
	case "memory":
	case "pebble":
		o.backend = pebble.New(pebble.Options{})
	default:
		return "", o, fmt.Errorf("-backend %q: use memory or pebble", backend)
	}
	if o.checkpoint == 0 {
		o.checkpoint = -1
	}
	return args[0], o, nil
}

// profile starts a CPU profile and returns what ends it.
func profile(path string) (stop func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() {
		pprof.StopCPUProfile()
		if err := f.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "workloads: write profile:", err)
		}
	}, nil
}
