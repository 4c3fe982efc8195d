package txntest

import (
	"bytes"
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
)

// childEnv holds what a child is told.
const childEnv = "WEIRLINE_TXN_CHILD"

// order is what a child is told, as it stands in its environment.
type order struct {
	Args        map[string]string
	Parallelism int
	Step        Step
	Times       int64 // the step is reached before the child dies there
}

// Main is called first in TestMain. In a process that [Kills] has started it runs job, resumed from what earlier children left,
// and exits; in any other it returns at once.
func Main(job func(c *Child) error) {
	told := os.Getenv(childEnv)
	if told == "" {
		return
	}
	var o order
	err := json.Unmarshal([]byte(told), &o)
	if err == nil {
		c := &Child{Args: o.Args, Parallelism: o.Parallelism, Step: o.Step}
		c.left.Store(o.Times)
		err = job(c)
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

	// Steps are where children die, two in a row at each. Unset: all of [Steps].
	Steps []Step

	// Parallelism is that of the job; children run at it, at half and at double. Unset: 2.
	Parallelism int

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
	rnd := rand.New(rand.NewPCG(seed, 5))
	for _, o := range k.orders(rnd) {
		if err := k.child(t, o); !Killed(err) {
			t.Fatalf("%s, the time %d, parallelism %d: the child should have been killed, it ended with %v", o.Step, o.Times, o.Parallelism, err)
		}
		if err := k.Check(false); err != nil {
			t.Fatalf("after a death %s: %v", o.Step, err)
		}
	}
	for _, o := range []order{{k.Args, k.base(), "", 0}, {k.Args, k.base(), "", 0}} { // the second has nothing left to do
		if err := k.child(t, o); err != nil {
			t.Fatalf("the child that lives: %v", err)
		}
		if err := k.Check(true); err != nil {
			t.Errorf("at the end: %v", err)
		}
	}
}

func (k Kills) base() int { return max(k.Parallelism, 2) }

// orders are two deaths at each step. One before a recovery's step leaves the recovery something to do.
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
			out = append(out, order{k.Args, p, before, 1 + rnd.Int64N(3)})
		}
		for _, o.Parallelism = range pick(rnd, p) {
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

// pick draws two of the same, half and double.
func pick(rnd *rand.Rand, p int) []int {
	all := []int{p, p / 2, 2 * p}
	rnd.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:2]
}

// child runs one and logs what it has to say.
func (k Kills) child(t *testing.T, o order) error {
	t.Helper()
	told, err := json.Marshal(o)
	if err != nil {
		return err
	}
	limit := k.Limit
	if limit == 0 {
		limit = time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(told))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err = cmd.Run()
	if err != nil && out.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	if ctx.Err() != nil {
		return fmt.Errorf("it lives longer than %v: %w", limit, context.Cause(ctx))
	}
	t.Logf("%-20s time %d, parallelism %d: %v after %v", o.Step, o.Times, o.Parallelism, err, time.Since(began).Round(time.Millisecond))
	return err
}

// Killed says whether the error of a process says that it died by SIGKILL.
func Killed(err error) bool {
	e, ok := errors.AsType[*exec.ExitError](err)
	return ok && e.String() == "signal: killed"
}
