package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

// The rows below those of the steps.
const (
	brokerKilled   = "broker killed"
	databaseKilled = "database killed"
	networkCut     = "network cut"
	networkSlow    = "network slow"
)

// rows are all rows of each table, in order.
func rows(set string) (names []string) {
	if set == timeouts {
		for _, m := range txntest.AllMishaps() {
			names = append(names, string(m))
		}
		return names
	}
	for _, s := range txntest.Steps() {
		names = append(names, string(s))
	}
	return append(names, brokerKilled, databaseKilled, networkCut, networkSlow)
}

// The tables.
const (
	matrix   = "matrix"
	timeouts = "timeouts"
)

// cell is one job.
type cell struct {
	dest destination
	row  string
}

func (c cell) name() string { return c.dest.name + "/" + c.row }

// step is where its processes die, "" if they live.
func (c cell) step() txntest.Step {
	if s := txntest.Step(c.row); slices.Contains(txntest.Steps(), s) {
		return s
	}
	return ""
}

// mishap is what happens to its job, if it is of the table of timeouts.
func (c cell) mishap() (m txntest.Mishap, is bool) {
	m = txntest.Mishap(c.row)
	return m, slices.Contains(txntest.AllMishaps(), m)
}

// exists is false if the row means nothing to the destination.
func (c cell) exists() bool {
	return (c.row != databaseKilled || c.dest.server != nil) && (c.row != string(txntest.DownTooLong) || c.dest.expire != nil)
}

// matching are the cells of a table whose names match, by destination.
func matching(set string, want *regexp.Regexp) (cells []cell) {
	for _, d := range destinations {
		for _, row := range rows(set) {
			c := cell{d, row}
			if want.MatchString(c.name()) && c.exists() {
				cells = append(cells, c)
			}
		}
	}
	return cells
}

// board is where cells are tried, one after another.
type board struct {
	services
	seed     uint64
	rounds   int // jobs for each step
	want     map[row]bool
	tried    int
	held     int
	outcomes map[string]string // by name of the cell
	waits    map[string]wait   // of readers, by destination
}

func newBoard(dir string, seed uint64, rounds int) *board {
	return &board{services: services{dir: dir, brokers: map[int]*testsvc.KafkaServer{}}, seed: seed, rounds: rounds, want: truth(), outcomes: map[string]string{}, waits: map[string]wait{}}
}

// close ends the servers and removes everything.
func (b *board) close(out io.Writer) {
	b.kill()
	if err := os.RemoveAll(b.dir); err != nil {
		fmt.Fprintln(out, "matrix:", err)
	}
}

// try returns how the promise was broken. said is told of each process.
func (b *board) try(ctx context.Context, c cell, said func(format string, args ...any)) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	rounds := b.rounds
	if c.step() == "" {
		rounds = 1
	}
	for n := range rounds {
		if err := b.round(ctx, c, b.seedOf(c, n), said); err != nil {
			return fmt.Errorf("round %d: %w", n+1, err)
		}
	}
	return nil
}

// seedOf stays the same whichever other cells are tried.
func (b *board) seedOf(c cell, round int) uint64 {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, b.seed, c.name(), round) // never fails
	return h.Sum64()
}

func (b *board) round(ctx context.Context, c cell, seed uint64, said func(format string, args ...any)) error {
	args, err := b.args(ctx, c)
	if err != nil {
		return err
	}
	if m, is := c.mishap(); is {
		return b.suffer(ctx, c, m, args, said)
	}
	k := txntest.Kills{
		Args: args, Steps: []txntest.Step{}, Deaths: 3,
		Check: func(over bool) error {
			_, err := b.check(ctx, c, args, txntest.Want{Over: over}, said)
			return err
		},
	}
	if step := c.step(); step != "" {
		k.Steps = append(k.Steps, step)
		if c.dest.reader {
			return b.watched(ctx, c, k, seed, said)
		}
		return k.Do(ctx, seed, said)
	}
	return b.torment(ctx, c, k, seed, said)
}

// args are what the cell's processes are told; the places they name exist.
func (b *board) args(ctx context.Context, c cell) (map[string]string, error) {
	broker, err := b.kafka(ctx, c.dest.version)
	if err != nil {
		return nil, err
	}
	b.tried++
	name := fmt.Sprint("matrix", b.tried)
	args := map[string]string{
		argDest: c.dest.name, argJob: name, argDir: filepath.Join(b.dir, name+"-state"), argBroker: broker.Addr, argOut: name,
	}
	return args, c.dest.prepare(ctx, &b.services, args)
}

// results are those that a reader of the destination sees.
func (b *board) results(ctx context.Context, c cell, args map[string]string) (rs []row, _ error) {
	lines, err := c.dest.read(ctx, &b.services, args)
	if err != nil {
		return nil, fmt.Errorf("read the results: %w", err)
	}
	for _, l := range lines {
		r, err := rowOf(l)
		if err != nil {
			return nil, err
		}
		rs = append(rs, r)
	}
	return rs, nil
}

// check says how many results are in the destination, and what is wrong there.
func (b *board) check(ctx context.Context, c cell, args map[string]string, w txntest.Want, said func(format string, args ...any)) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	got, err := b.results(ctx, c, args)
	if err != nil {
		return 0, err
	}
	said("%d results visible", len(got))
	err = compare(got, b.want, w)
	if !w.Over {
		return len(got), err
	}
	left, lerr := c.dest.left(ctx, &b.services, args)
	if lerr == nil && len(left) > 0 {
		lerr = fmt.Errorf("left behind: %q", left)
	}
	return len(got), errors.Join(err, lerr)
}
