package sourcetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/weirline/weirline/source"
)

// Case is a source and what it must yield.
type Case[T any, S source.Split] struct {
	// Source is asked for many enumerators and readers, one job after another. Its input must stay the same throughout.
	Source source.Source[T, S]

	// Want are the values, in any order.
	Want []T

	// Rejects is how many records are rejected.
	Rejects int

	// Bad are splits that can't be read: Add or Read must fail, and Close must work after it.
	Bad []S

	// Readers is the highest parallelism tried. Unset: 3.
	Readers int

	// Batch is how many records fill a batch where the test doesn't need another size. Unset: 3.
	Batch int

	// Restarts is at how many boundaries the source is stopped and restored; all of them if there are no more. Unset: 40.
	Restarts int

	// Key tells values apart. Unset: fmt.Sprintf("%#v", v).
	Key func(v T) string

	// Timeout is how long one pass over the input may take. Unset: 20 seconds.
	Timeout time.Duration

	// Seed repeats a run. Unset: another one each time.
	Seed uint64
}

// Run runs all checks as subtests.
func Run[T any, S source.Split](t *testing.T, c Case[T, S]) {
	t.Helper()
	c = c.withDefaults()
	for _, k := range checks[T, S]() {
		t.Run(k.name, func(t *testing.T) {
			t.Logf("seed %d (set Case.Seed to repeat)", c.Seed)
			if err := c.check(k); err != nil {
				t.Fatalf("%s: %v", k.name, err)
			}
		})
	}
}

// check is one promise of the contract.
type check[T any, S source.Split] struct {
	name string
	run  func(c Case[T, S], rng *rand.Rand) error
}

func checks[T any, S source.Split]() []check[T, S] {
	return []check[T, S]{
		{"reads_everything_once", Case[T, S].whole},
		{"ids_are_unique_and_stable", Case[T, S].ids},
		{"restart_at_every_boundary", Case[T, S].restart},
		{"cancelled_reads_lose_nothing", Case[T, S].cancels},
		{"readers_come_and_go", Case[T, S].comeAndGo},
		{"paused_splits_are_silent", Case[T, S].pauses},
		{"batch_memory_is_not_kept", Case[T, S].memory},
		{"close", Case[T, S].closes},
	}
}

// check runs one check and looks for goroutines that it leaves behind.
func (c Case[T, S]) check(k check[T, S]) error {
	before := runtime.NumGoroutine()
	err := k.run(c, rand.New(rand.NewPCG(c.Seed, 0)))
	return errors.Join(err, settled(before))
}

func (c Case[T, S]) withDefaults() Case[T, S] {
	if c.Readers <= 0 {
		c.Readers = 3
	}
	if c.Batch <= 0 {
		c.Batch = 3
	}
	if c.Restarts <= 0 {
		c.Restarts = 40
	}
	if c.Key == nil {
		c.Key = func(v T) string { return fmt.Sprintf("%#v", v) }
	}
	if c.Timeout <= 0 {
		c.Timeout = 20 * time.Second
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64() | 1
	}
	return c
}

// settled waits a little for goroutines that are on their way out.
func settled(before int) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for range 250 {
		if runtime.NumGoroutine() <= before {
			return nil
		}
		<-tick.C
	}
	stacks := make([]byte, 1<<16)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return fmt.Errorf("%d goroutines are left behind after Close:\n%s", runtime.NumGoroutine()-before, stacks)
}

// compare says which values are lost and which came twice or from nowhere.
func (c Case[T, S]) compare(got []string) error {
	count := map[string]int{}
	for _, v := range c.Want {
		count[c.Key(v)]++
	}
	for _, k := range got {
		count[k]--
	}
	var lost, extra []string
	for k, n := range count {
		for ; n > 0; n-- {
			lost = append(lost, k)
		}
		for ; n < 0; n++ {
			extra = append(extra, k)
		}
	}
	if len(lost)+len(extra) == 0 {
		return nil
	}
	return fmt.Errorf("%d values lost %s, %d values twice or unknown %s", len(lost), some(lost), len(extra), some(extra))
}

func some(keys []string) string {
	if len(keys) > 5 {
		return fmt.Sprintf("%.300s and more", fmt.Sprint(keys[:5]))
	}
	return fmt.Sprintf("%.300s", fmt.Sprint(keys))
}
