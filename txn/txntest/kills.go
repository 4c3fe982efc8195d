package txntest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// childEnv holds what a child is told.
const childEnv = "WEIRLINE_TXN_CHILD"

// order is what a child is told, as it stands in its environment.
type order struct {
	Args        map[string]string
	Parallelism int
	Step        Step
	Times       int64 // the step is reached before the child dies there
	Told        told
}

// Main is called first in TestMain. In a process that [Kills] or [Mishaps] has started it runs job, resumed from what earlier children left,
// and exits; in any other it returns at once.
func Main(job func(c *Child) error) {
	told := os.Getenv(childEnv)
	if told == "" {
		return
	}
	var o order
	err := json.Unmarshal([]byte(told), &o)
	if err == nil {
		c := &Child{Args: o.Args, Parallelism: o.Parallelism, Step: o.Step, Lossy: o.Told.Lossy, told: o.Told}
		c.left.Store(o.Times)
		c.weather.some = make(chan struct{})
		err = job(c)
		c.note("ended with %q", fault.CodeOf(err))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// Kills runs the job given to [Main] in one process after another, each of which dies at a step, and the last to its end.
type Kills struct {
	// Args tell the job where its state and its destination are. They stay the same from child to child.
	Args map[string]string

	// Steps are where children die, several in a row at each. Unset: all of [Steps]. Empty, not nil: none dies.
	Steps []Step

	// Deaths is how many die in a row at a step, at most three. Unset: 2.
	Deaths int

	// Parallelism is that of the job. A child that follows a dead one runs at the same, at half or at double its parallelism;
	// after three deaths each of them has been. Unset: 2.
	Parallelism int

	// Notes is a file to which children add what they do with transactions; [Traces] reads it. Unset: nothing is noted.
	Notes string

	// Limit bounds the life of a child. Unset: one minute.
	Limit time.Duration

	// Check looks at the destination after each death, and, with over set, when the job has come to its end: then each
	// result must be there once, and nothing be prepared or open.
	Check func(over bool) error
}

// Run is the test. Its choices come from a seed, which it logs; WEIRLINE_SEED replays one.
func (k Kills) Run(t *testing.T) {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("WEIRLINE_SEED=%d replays this", seed)
	if err := k.Do(t.Context(), seed, t.Logf); err != nil {
		t.Fatal(err)
	}
}

// Do is Run outside of tests: it returns what went wrong. Its choices come from seed; logf, which is called by one goroutine at
// a time, is told of each child.
func (k Kills) Do(ctx context.Context, seed uint64, logf func(format string, args ...any)) error {
	rnd := rand.New(rand.NewPCG(seed, 5))
	for _, o := range k.orders(rnd) {
		err := k.child(ctx, o, logf)
		if err == nil {
			err = errors.New("success")
		}
		if !Killed(err) {
			return fmt.Errorf("%s, the time %d, parallelism %d: the child should have been killed, it ended with %w", o.Step, o.Times, o.Parallelism, err)
		}
		if err := k.Check(false); err != nil {
			return fmt.Errorf("after a death %s, the time %d, parallelism %d: %w", o.Step, o.Times, o.Parallelism, err)
		}
	}
	for range 2 { // the second has nothing left to do
		if err := k.child(ctx, order{Args: k.Args, Parallelism: k.base()}, logf); err != nil {
			return fmt.Errorf("the child that lives: %w", err)
		}
		if err := k.Check(true); err != nil {
			return fmt.Errorf("at the end: %w", err)
		}
	}
	return nil
}

func (k Kills) base() int { return max(k.Parallelism, 2) }

// orders are the deaths at each step. One before a recovery's step leaves the recovery something to do.
func (k Kills) orders(rnd *rand.Rand) (out []order) {
	steps := k.Steps
	if steps == nil {
		steps = Steps()
	}
	p := k.base()
	for _, s := range steps {
		o := order{Args: k.Args, Step: s, Times: 1}
		if s.recovers() {
			before := AfterPrepare
			if s == HalfKept || s == BeforeClear {
				before = AfterPointer
			}
			out = append(out, order{Args: k.Args, Parallelism: p, Step: before, Times: 1 + rnd.Int64N(3)})
		}
		for _, o.Parallelism = range k.path(rnd) {
			switch {
			case s == BeforeFlush:
				o.Times = 1 + rnd.Int64N(20)
			case s == InPrepare, s == InCommit:
				o.Times = 2 + rnd.Int64N(3) // the first says how long it takes
			case !s.recovers():
				o.Times = 1 + rnd.Int64N(3)
			}
			if s == HalfCommitted {
				o.Parallelism = max(o.Parallelism, 2)
			}
			out = append(out, o)
		}
	}
	return out
}

// path is the parallelism of each child that dies at a step: the first one's is the job's, and the same, half and double follow in
// any order, the last of which is back at the job's.
func (k Kills) path(rnd *rand.Rand) []int {
	changes := [3]func(p int) int{
		func(p int) int { return p }, func(p int) int { return p / 2 }, func(p int) int { return p * 2 },
	}
	ps := []int{k.base()}
	for _, i := range rnd.Perm(len(changes)) {
		ps = append(ps, changes[i](ps[len(ps)-1]))
	}
	return ps[:min(cmp.Or(k.Deaths, 2), 3)]
}

// child runs one and logs what it has to say.
func (k Kills) child(ctx context.Context, o order, logf func(format string, args ...any)) error {
	o.Told.Notes = k.Notes
	began := time.Now()
	err := o.run(ctx, cmp.Or(k.Limit, time.Minute))
	logf("%-20s time %d, parallelism %d: %v after %v", o.Step, o.Times, o.Parallelism, err, time.Since(began).Round(time.Millisecond))
	return err
}

// run runs a child.
func (o order) run(ctx context.Context, limit time.Duration) error {
	told, err := json.Marshal(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(told))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if err != nil && out.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("it lives longer than %v: %w", limit, context.Cause(ctx))
	}
	return err
}

// Killed says whether the error of a process says that it died by SIGKILL.
func Killed(err error) bool {
	e, ok := errors.AsType[*exec.ExitError](err)
	return ok && e.String() == "signal: killed"
}
