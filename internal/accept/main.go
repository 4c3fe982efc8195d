// Command accept checks what the project promises, with the real binaries, brokers, servers and browser, and prints a line for
// each promise:
//
//	go run ./internal/accept                     # all; `make accept` builds first
//	go run ./internal/accept -only 'answers/'    # those whose name matches
//	go run ./internal/accept -list
//
//	ok   answers/embedded/parallelism=2  4812 rows equal, late 0, 1.4 s
//	FAIL ...
//	accept: 51 of 52 hold
//
// The exit code is 1 if one doesn't hold. What a check's processes wrote is kept in bin/accept/. The access log that the
// counts are checked on is named by WEIRLINE_ACCESS_LOG (plain or .gz); without it a log is made up, and the figure says so.
//
// It runs in the repository's root, wants bin/weblog and bin/workloads (make build) and what `make deps` installs. Checks run
// one after the other, since many of them measure. Nothing is shared between checks but the binaries and two servers.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout)
	stop()
	os.Exit(code)
}

// check is one promise.
type check struct {
	name string
	run  func(ctx context.Context, e *env) (figure string, err error)
}

// groups are all checks, in the order of the list of promises.
func groups() []check {
	var all []check
	for _, g := range [][]check{pageChecks(), answerChecks(), killChecks(), faultChecks(), inputChecks(), benchChecks(), workloadChecks(), servicesChecks(), trustChecks(), txnChecks(), asyncChecks(), docChecks()} {
		all = append(all, g...)
	}
	return all
}

// run is the whole program.
func run(ctx context.Context, args []string, out io.Writer) int {
	fs := flag.NewFlagSet("accept", flag.ContinueOnError)
	only := fs.String("only", "", "run the checks whose name matches this regular `expression`")
	list := fs.Bool("list", false, "print the names and exit")
	quick := fs.Bool("quick", false, "shorter measurements; figures are then only a hint")
	seed := fs.Uint64("seed", uint64(time.Now().UnixNano()), "`number` that decides what is random")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	want, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(out, "accept: flag -only:", err)
		return 2
	}
	var chosen []check
	for _, c := range groups() {
		if want.MatchString(c.name) {
			chosen = append(chosen, c)
		}
	}
	if *list {
		for _, c := range chosen {
			fmt.Fprintln(out, c.name)
		}
		return 0
	}
	e, err := newEnv(*quick, *seed)
	if err != nil {
		fmt.Fprintln(out, "accept:", err)
		return 2
	}
	defer e.close()
	return report(ctx, e, chosen, out)
}

// report runs the checks and prints a line for each.
func report(ctx context.Context, e *env, checks []check, out io.Writer) int {
	held, began := 0, time.Now()
	for _, c := range checks {
		figure, err := c.try(ctx, e)
		switch {
		case err == nil:
			held++
			fmt.Fprintf(out, "ok   %s  %s\n", c.name, oneLine(figure))
		case figure != "":
			fmt.Fprintf(out, "FAIL %s  %s: %s\n", c.name, oneLine(figure), oneLine(err.Error()))
		default:
			fmt.Fprintf(out, "FAIL %s  %s\n", c.name, oneLine(err.Error()))
		}
	}
	fmt.Fprintf(out, "took %.1f minutes, seed %d\n", time.Since(began).Minutes(), e.seed)
	fmt.Fprintf(out, "accept: %d of %d hold\n", held, len(checks))
	if held < len(checks) || len(checks) == 0 {
		return 1
	}
	return 0
}

// try runs the check in a directory of its own, whose logs are kept.
func (c check) try(ctx context.Context, e *env) (figure string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v: %s", r, debug.Stack())
		}
	}()
	if err := ctx.Err(); err != nil {
		return "", fmt.Errorf("not run: %w", err)
	}
	e.kept = filepath.Join(e.root, "bin", "accept", strings.NewReplacer("/", "_", " ", "_").Replace(c.name))
	e.files = 0
	if err := os.RemoveAll(e.kept); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	return c.run(ctx, e)
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > 500 {
		s = s[:500] + " ..."
	}
	return s
}
