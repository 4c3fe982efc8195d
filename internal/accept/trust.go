package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// trustChecks are what makes people bet their data on a job: simulation, state, checkpoints elsewhere, upgrades, failures, and
// the figures of state that is large or has to come back.
func trustChecks() []check {
	all := []check{{"trust/links-no-database", linksNoDatabase}}
	for _, t := range trusted {
		all = append(all, check{"trust/" + t.name, t.check})
	}
	for _, l := range []lastLine{
		{"soak", []string{"soak", "SEEDS=10000"}, `soak: 10000 seeds hold`, 40 * time.Minute},
		{"mutants", []string{"mutants"}, `mutants: (\d+) of (\d+) caught`, 30 * time.Minute},
		{"leaks", []string{"leaks"}, `ok\s.*internal/leaks.*`, 10 * time.Minute},
		{"chaos", []string{"chaos", "MINUTES=5"}, `chaos: sums exact, \d+ kills`, 20 * time.Minute},
	} {
		all = append(all, check{"trust/" + l.name, l.check})
	}
	for _, b := range []string{"memory", "pebble"} {
		all = append(all,
			check{"trust/recovery/" + b, recoveryCheck(b)},
			check{"trust/first-output/" + b, firstOutput(b)})
	}
	return all
}

// trusted are the promises that tests keep, in the order of the list of promises.
var trusted = []tested{
	{name: "simulation", pkg: "./internal/sim", match: "TestSim", least: 1},
	{name: "scripts", pkg: "./engine", match: "^TestScript(Coord|Task)$", least: 12},
	{name: "state/kinds", pkg: "./state", match: "TTL|Broadcast|Union|Reducing|Aggregating|OperatorLists|Compatible|FieldsMay|WrongType|Wid", least: 12},
	{name: "state/backends", pkg: "./state", match: "SnapshotIsTheState|Incremental|FailingDisk|RestoreAtAny", least: 5},
	{name: "state/backends-in-jobs", pkg: "./engine", match: "StateOnDisk|Backends|DiskTakesOver|DamagedBackend|Pebble", least: 4},
	{name: "stores/directory", pkg: "./engine/store", match: ".", least: 20},
	{name: "stores/objects", pkg: "./engine/store/blob", match: ".", least: 12, limit: 10 * time.Minute},
	{name: "stores/zombie-is-fenced", pkg: "./engine/store/blob", match: "TestZombie|TestConditionalCreate", least: 2},
	{
		name: "options", pkg: "./engine", least: 9,
		match: "SeveralCheckpoints|SplitsThatEnd|AtLeastOnceBlocks|Backlog|CountedOnce|DroppedAtTheEnd|ExcludeEachOther|CheckpointTimeouts|PauseBetween",
	},
	{name: "unaligned", pkg: "./engine", match: "Unaligned", least: 3},
	{name: "savepoints", pkg: "./engine", match: "Savepoint|BeginFrom|NamesOfTransactions|WatermarksSurvive", least: 8},
	{name: "upgrades", pkg: "./engine", match: "Upgrade|BadSavepoints|DroppedOperators", least: 4},
	{name: "guarantee", pkg: "./engine", match: "^TestGuarantee|^TestPlanGuarantees", least: 10},
	{name: "commands", pkg: "./engine/cli", match: "Command|Verify|Diff|Export|Show", least: 3},
	{
		name: "failure", pkg: "./engine", least: 12,
		match: "Region|RestartStrategies|Jitter|FailuresAreRemembered|StopDuringRecovery|SourcesThatHaveEnded|LastCheckpoint|ARequested|SlotsThatWait|Watchdog|AlignmentGroupIsOne",
	},
	{name: "streams/windows-and-broadcast", pkg: "./engine", match: "Sliding|Connect|Broadcast|Errors(AreA|HaveA|Beside)|Batch", least: 12},
	{name: "streams/joins", pkg: "./operators", match: ".", least: 6},
	{name: "rescale-while-running", pkg: "./engine", match: "Rescale|FixedParallelismBeside", least: 4},
	{name: "alignment", pkg: "./engine", match: "Alignment|SomethingAlwaysRuns|Idle", least: 4},
}

// recoveryCheck lets w9 fail in its middle: a failure of a job with a million keys, half a second after a checkpoint.
func recoveryCheck(backend string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		const atOnce, after = 100.0, 600.0 // ms
		records, n := int64(800_000_000), 5
		if backend == "pebble" {
			records = 500_000_000
		}
		if e.quick {
			n = 1
		}
		var first, caught []float64
		for range n {
			o, err := e.work(ctx, "w9", records, "-keys", "1000000", "-backend", backend)
			if err != nil {
				return "", err
			}
			if o.Recovery == nil {
				return "", errors.New("it printed no recovery")
			}
			if o.Seconds < 20 {
				return "", fmt.Errorf("it took %.0f s only: half of it must be longer than 10 s", o.Seconds)
			}
			first, caught = append(first, o.Recovery.First), append(caught, o.Recovery.CaughtUp-o.Recovery.First)
		}
		slices.Sort(first)
		slices.Sort(caught)
		figure := fmt.Sprintf("first record after %.0f ms (at most %.0f), caught up %.0f ms after that (at most %.0f); medians of %d runs, %.0f to %.0f and %.0f to %.0f ms",
			first[n/2], atOnce, caught[n/2], after, n, first[0], first[n-1], caught[0], caught[n-1])
		return figure, want(first[n/2] <= atOnce && caught[n/2] <= after, "too slow")
	}
}

// firstOutput kills a job with a million keys and measures how long another process takes until its first record is through.
func firstOutput(backend string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		const most = 3 * time.Second
		bin, err := e.binary("workloads")
		if err != nil {
			return "", err
		}
		var took []time.Duration
		for range 3 {
			dir, err := e.dir("first")
			if err != nil {
				return "", err
			}
			args := []string{"w2", "100000000000", "-keys", "1000000", "-backend", backend, "-state", dir, "-announce"}
			p, err := e.start(ctx, nil, bin, args...)
			if err != nil {
				return "", err
			}
			rest(5 * time.Second) // some checkpoints, all keys in them
			if p.kill(); !strings.Contains(p.text(), "first output") {
				return "", fmt.Errorf("nothing came out: %s", p.tail())
			}
			began := time.Now()
			if p, err = e.start(ctx, nil, bin, args...); err != nil {
				return "", err
			}
			err = p.await(time.Minute, "a first output", func() bool { return strings.Contains(p.text(), "first output") })
			took = append(took, time.Since(began))
			p.kill()
			if err != nil {
				return "", err
			}
		}
		slices.Sort(took)
		figure := fmt.Sprintf("first output %s after the start of a process that resumes 1M keys (at most %v); %d runs, %v to %v",
			took[1].Round(time.Millisecond), most, len(took), took[0].Round(time.Millisecond), took[2].Round(time.Millisecond))
		return figure, want(took[1] <= most, "too slow")
	}
}

// linksNoDatabase wants that a binary that doesn't ask for a backend or an object store has none.
func linksNoDatabase(ctx context.Context, e *env) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-deps", "./examples/hello").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	for _, heavy := range []string{"cockroachdb", "aws-sdk-go"} {
		if strings.Contains(string(out), heavy) {
			return "", fmt.Errorf("examples/hello links %s", heavy)
		}
	}
	return strconv.Itoa(strings.Count(string(out), "\n")) + " packages in examples/hello, no database and no cloud among them", nil
}
