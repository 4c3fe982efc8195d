// Command matrix runs a job from a real Kafka topic through a keyed sum into each destination that writes exactly once, and kills
// it at each step of the commit protocol:
//
//	make matrix                                      # all of it
//	go run ./internal/matrix -only '^postgres-xa/'   # one destination
//	go run ./internal/matrix -only '/half' -seed 7 -v
//	make timeouts                                    # the other table, of what happens beside deaths
//
//	ok    postgres-xa/after prepare      3.2 s
//	...
//	                    files  postgres-xa  postgres-ledger  mariadb-xa  kafka  kafka-tv1  s3   ahead-redis
//	before flush        ok     ok           ok               ok          ok     ok         ok   ok
//	...
//	broker killed       ok     ok           ok               ok          ok     ok         ok   ok
//	database killed     -      ok           ok               ok          -      -          ok   ok
//	network cut         ok     ok           ok               ok          ok     ok         ok   ok
//	network slow        ok     ok           ok               ok          ok     ok         ok   ok
//
//	matrix: 149 of 149 hold
//
// A cell of the table is some jobs, each with a topic, table, directory or prefix of its own, in processes that die by SIGKILL: three in a
// row at the cell's step, then two that live to the end of the input. Of those that follow a death one runs at the same, one at
// half and one at double the parallelism of the one that died. In the last rows nobody dies but a server, or the network is
// cut, silent or slow, twice while the job runs. After each death no result may be wrong or visible twice; at the end each must
// be there, and nothing be prepared, staged, open, hidden or half uploaded.
//
// A cell of the other table, -set timeouts, is a job to which one of the mishaps of package txntest happens.
//
// The exit code is 1 if a cell doesn't hold; the fate of its processes is then printed below it. The seed decides how often a
// step is passed before the process dies there, and the order of the parallelisms.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/weirline/weirline/txn/txntest"
)

func main() {
	silence()
	txntest.Main(job)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}

// run is the whole program.
func run(ctx context.Context, args []string, out io.Writer) int {
	fs := flag.NewFlagSet("matrix", flag.ContinueOnError)
	set := fs.String("set", matrix, "the `table`: matrix, or timeouts, which is all that happens beside a death")
	only := fs.String("only", "", "try the cells whose `destination/row` matches this regular expression")
	seed := fs.Uint64("seed", uint64(time.Now().UnixNano()), "`number` that decides what is random")
	rounds := fs.Int("rounds", 3, "jobs for each step and destination")
	verbose := fs.Bool("v", false, "print what becomes of each process")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	want, err := regexp.Compile(*only)
	if err != nil || *rounds < 1 || fs.NArg() > 0 || *set != matrix && *set != timeouts {
		fmt.Fprintln(out, "matrix: -set is matrix or timeouts, -only a regular expression, -rounds at least 1, and there is nothing else:", err)
		return 2
	}
	dir, err := os.MkdirTemp("", "weirline-matrix-")
	if err != nil {
		fmt.Fprintln(out, "matrix:", err)
		return 2
	}
	b := newBoard(dir, *seed, *rounds)
	defer b.close(out)
	chosen := matching(*set, want)
	for _, c := range chosen {
		b.judge(ctx, c, *verbose, out)
	}
	b.table(*set, chosen, out)
	for _, name := range slices.Sorted(maps.Keys(b.waits)) {
		fmt.Fprintf(out, "\n%s: the wait of a reader of committed records that came nearest to its bound, or beyond: %v", name, b.waits[name])
	}
	fmt.Fprintf(out, "\nseed %d\n%s: %d of %d hold\n", *seed, *set, b.held, len(chosen))
	if b.held < len(chosen) || len(chosen) == 0 {
		return 1
	}
	return 0
}

// judge tries a cell and prints how it went.
func (b *board) judge(ctx context.Context, c cell, verbose bool, out io.Writer) {
	began := time.Now()
	var said []string
	err := b.try(ctx, c, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	outcome := "ok"
	if err != nil {
		outcome = "FAIL"
	} else {
		b.held++
	}
	b.outcomes[c.name()] = outcome
	fmt.Fprintf(out, "%-5s %-36s %5.1f s\n", outcome, c.name(), time.Since(began).Seconds())
	if err != nil || verbose {
		for _, line := range said {
			fmt.Fprintln(out, "     ", line)
		}
	}
	if err != nil {
		fmt.Fprintf(out, "      %v\n", err)
	}
}

// table prints the outcomes of those cells that were tried: rows by destinations.
func (b *board) table(set string, cells []cell, out io.Writer) {
	var names []string
	tried := map[string]bool{}
	for _, c := range cells {
		tried[c.row] = true
		if !tried[c.dest.name] {
			tried[c.dest.name] = true
			names = append(names, c.dest.name)
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w)
	for _, name := range names {
		fmt.Fprintf(w, "\t%s", name)
	}
	fmt.Fprintln(w)
	for _, row := range rows(set) {
		if !tried[row] {
			continue
		}
		fmt.Fprint(w, row)
		for _, name := range names {
			outcome := b.outcomes[name+"/"+row]
			if outcome == "" {
				outcome = "-"
			}
			fmt.Fprintf(w, "\t%s", outcome)
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush() // out is the terminal
}
