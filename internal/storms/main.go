// Command storms runs a real job into destinations that misbehave, and checks that its async sink stays fast and honest meanwhile:
//
//	make storms                                # all of them
//	go run ./internal/storms -only '^http/'    # some
//	go run ./internal/storms -only 'bad shard' -break shard    # with a part left out: the row must fail
//
//	ok    http/bad shard     lost 0, twice 0, dead 0, healthy 99 %, full rate after 0.8 s, 9 checkpoints of at most 21 ms
//	...
//	storms: 16 of 16 hold
//
// Records come at a steady rate and are dealt to eight shards. First the weather is calm, which says what a shard's full rate
// is; then comes the storm; then it is over, and the rest of the input is delivered. Checkpoints are taken each second all the
// time. What a row says, and what it must be:
//
//   - lost: records that neither arrived nor are among the dead letters; none. Arrivals are counted record by record.
//   - twice: arrivals of a record beyond its first; counted, and none where the storm gives no reason for any.
//   - dead: dead letters; just those that the destination refuses, each with the destination's cause.
//   - healthy: the rate of those shards that the storm leaves alone, as a part of their rate in calm weather; at least 80 %.
//   - requests: those that a throttling server gets, as a part of what it allows; 80 to 120 %.
//   - full rate: the time from the end of the storm until each shard gets 80 % of its full rate, within a second; at most 10 s.
//   - checkpoints: those completed during the storm; one for each second but two, none longer than two seconds, none failed.
//
// The exit code is 1 if a row doesn't hold. The seed decides which shards are hit, and how a flapping destination begins.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	silence()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}

// run is the whole program.
func run(ctx context.Context, args []string, out io.Writer) int {
	fs := flag.NewFlagSet("storms", flag.ContinueOnError)
	only := fs.String("only", "", "run the storms whose name matches this regular `expression`")
	seed := fs.Uint64("seed", uint64(time.Now().UnixNano()), "`number` that decides what is random")
	without := fs.String("break", "", "leave a `part` out, to see that its rows fail: "+strings.Join(parts, ", "))
	verbose := fs.Bool("v", false, "print rates for each second, and what the job logs")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	want, err := regexp.Compile(*only)
	if err != nil || fs.NArg() > 0 || *without != "" && !slices.Contains(parts, *without) {
		fmt.Fprintln(out, "storms: -only is a regular expression, -break one of", parts, "and there is nothing else:", err)
		return 2
	}
	dir, err := os.MkdirTemp("", "weirline-storms-")
	if err != nil {
		fmt.Fprintln(out, "storms:", err)
		return 2
	}
	defer os.RemoveAll(dir)
	tried, held := 0, 0
	for _, s := range storms {
		if !want.MatchString(s.name) {
			continue
		}
		tried++
		r := &trial{storm: s, dir: dir, without: *without, rnd: rand.New(rand.NewPCG(*seed, 1))}
		if *verbose {
			r.log = out
		}
		f, err := r.run(ctx)
		if err == nil {
			err = f.judge(s)
		}
		if err != nil {
			fmt.Fprintf(out, "FAIL  %-22s %s\n      %s\n", s.name, f.line(s), strings.ReplaceAll(err.Error(), "\n", "\n      "))
			continue
		}
		held++
		fmt.Fprintf(out, "ok    %-22s %s\n", s.name, f.line(s))
	}
	fmt.Fprintf(out, "\nseed %d\nstorms: %d of %d hold\n", *seed, held, tried)
	if held < tried || tried == 0 {
		return 1
	}
	return 0
}
