package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// asyncChecks are what makes people let a job write into destinations that are slow, throttle, refuse and fail: it stays fast, and
// nothing is lost.
func asyncChecks() []check {
	all := []check{
		{"async/storms", lastLine{"storms", []string{"storms"}, `storms: (\d+) of (\d+) hold`, 15 * time.Minute}.check},
		{"async/planted", lastLine{"planted-async", []string{"planted-async"}, `async: (\d+) of (\d+) caught`, 20 * time.Minute}.check},
	}
	for _, g := range []struct {
		prefix string
		tests  []tested
	}{{"async/contracts/", asyncContracts}, {"async/", asyncSinks}, {"async/letters/", deadLetters}} {
		for _, t := range g.tests {
			all = append(all, check{g.prefix + t.name, t.check})
		}
	}
	for _, variant := range []string{"plain", "keys=8", "shards=8"} {
		all = append(all, overhead(variant))
	}
	return append(all, besidePlain("services/http", "HTTP", 1.25), besidePlain("services/opensearch", "OpenSearch", 1.25))
}

// asyncContracts are the connectors whose plain sinks keep all promises of sink/sinktest.
var asyncContracts = []tested{
	{name: "kit", pkg: "./sink/sinktest", match: "^TestBroken(Background)?SinksAreCaught$|^Test(Async|Background|Simple)SinkPasses$", least: 5},
	{name: "redis", pkg: "./connector/redis", match: "^TestConformance$", least: 13},
	{name: "redis-cluster", pkg: "./connector/redis", match: "^TestClusterConformance$", least: 13},
	{name: "kafka", pkg: "./connector/kafka", match: "^TestSinkKit$", least: 9},
	{name: "http", pkg: "./connector/http", match: "^TestConformance$", least: 9},
	{name: "opensearch", pkg: "./connector/opensearch", match: "^TestConformance$", least: 9},
	{name: "postgres", pkg: "./connector/postgres", match: "^TestSinkContract$", least: 9},
	{name: "mysql", pkg: "./connector/mysql", match: "^TestSinkContract$", least: 9},
	{name: "guides", pkg: "./docs/...", match: "^Test(Latest|Post|Append|Orders|Queues|Count|Lines)$", least: 7},
}

// asyncSinks are the parts, in the order of the list of promises.
var asyncSinks = []tested{
	{name: "budget", pkg: "./internal/archtest", match: "^Test(AuthorsBudget|BudgetRuleFails)$", least: 2},
	{name: "model", pkg: "./sink/async", match: "^TestModel$", least: 1},
	{name: "batches", pkg: "./sink/async", match: "^Test(RoomAndOverdraft|WriteWaitsForRoom|RestoreArmsTheTimer|SteadyStateDoesNotAllocatePerRecord)$", least: 4},
	{name: "answers", pkg: "./sink/async", match: "^Test(PartialFailureSendsOnlyWhatFailed|RejectedRecords|FatalAnswers|RetryAfterIsKept|LateAnswerCounts|UncollectedRejectsTakeTheRoom)$", least: 6},
	{name: "bisect", pkg: "./sink/async", match: "^Test(RefusedBatchIsHalved|HalvesMeetOtherErrors|EachHalfHasItsTimeout|CloseStopsHalving|PanicInAHalf|RefusedRecordSaysHowOftenItWasSent)$", least: 6},
	{name: "lanes", pkg: "./sink/async", match: "^Test(LanesKeepOrder|SlowKeyHoldsNoOther|KeyKeepsItsShard|BatchesDoNotMixShards|BadShardCostsTheOthersNothing)$", least: 5},
	{name: "retry", pkg: "./sink/async", match: "^Test(RetryDelays|NothingIsSentAgainAtOnce|AttemptLimitRefuses|TooOld|NoAgeLimit|AgeCountsAcrossRestarts)", least: 6},
	{name: "retry-budget", pkg: "./sink/async", match: "^TestBudget", least: 2},
	{name: "breaker", pkg: "./sink/async", match: "^Test(Breaker|NoBreaker|DownAndUpAgain|ThrottlingOpensNoBreaker|FullRateAfterAFailure|GateNamesATime)$", least: 6},
	{name: "tuning", pkg: "./sink/async", match: "^Test(Window|Pace|FailuresHalve)", least: 12},
	{name: "snapshots", pkg: "./sink/async", match: "^Test(Snapshot|Restore|StatesAreMerged|StateOfFormat1)", least: 6},
	{name: "metrics", pkg: "./sink/async", match: "^Test(CausesAreCounted|OldestRecordShows|StreakIsLoggedOnce)", least: 3},
	{name: "checkpoints-while-slow", pkg: "./engine", match: "^TestCheckpointsDontWait", least: 2},
	{name: "order-outlives-a-rescale", pkg: "./engine", match: "^TestOrderByKeyOutlivesARescale$", least: 1},
	{name: "redis/commands", pkg: "./connector/redis", match: "^Test(Commands|Lists|ClusterCommands|AppendingSaysAtLeastOnce)$", least: 4},
	{name: "redis/streams", pkg: "./connector/redis", match: "^TestEntries", least: 8},
	{name: "redis/in-trouble", pkg: "./connector/redis", match: "^Test(KilledAndRestarted|FullServerIsWaitedFor|SnapshotWhileDown|RefusedSessionLosesNothing)$", least: 4},
	{name: "redis/cluster", pkg: "./connector/redis", match: "^TestCluster(NodeKilled|SlotsMove|Shards|Marked|Preflight|TakenForOneServer)$", least: 11},
	{name: "postgres", pkg: "./connector/postgres", match: "^TestSink(Waits|Stops|ServerDies|BadNetwork|FindsBadRows|LastOfAKeyWins|WritersOverlap|Keys|SnapshotWhileDown)$", least: 9},
	{name: "mysql", pkg: "./connector/mysql", match: "^TestSink(Waits|Stops|FindsBadRows|LastOfAKeyWins|WritersOverlap|Keys|SnapshotWhileDown|Packets)$", least: 8},
	{name: "http", pkg: "./connector/http", match: "^Test(Statuses|RetryAfterIsKept|RefusedBatch|Items|NoWholeAnswer|HugeAnswers|ServerAway|Requests)$", least: 8},
	{name: "opensearch", pkg: "./connector/opensearch", match: "^Test(Outages|DeadHosts|Rejects|ConditionsAreWaitedFor|TightLimits|Ops|Versions|DataStream)$", least: 8},
}

// deadLetters are records that a destination refuses: kept in the epoch they came in, limited, and written again.
var deadLetters = []tested{
	{name: "exactly-once", pkg: "./engine", match: "^TestDeadLettersExactlyOnce$", least: 1},
	{name: "budget", pkg: "./engine", match: "^TestBudgetOfRefusedRecords$", least: 1},
	{name: "sinks", pkg: "./engine", match: "^Test(OneSinkOfDeadLetters|Outlets)$", least: 2},
	{name: "forms", pkg: "./deadletter", match: "^Test(Letter|Record|Files|Types|Marks|Ranges)", least: 5},
	{name: "replay", pkg: "./deadletter", match: "Replay", least: 4},
	{name: "dlq", pkg: "./engine/cli", match: "^TestDead(LettersAreReplayed|RowsAreReplayed|LetterUsage)$", least: 3},
}

const (
	overheadNanos  = 150.0 // a record
	overheadAllocs = 1.0
)

// overhead checks what sink/async costs a record if the destination answers at once.
func overhead(variant string) check {
	return check{"async/overhead/" + variant, func(ctx context.Context, e *env) (string, error) {
		b, name := e.benchmarks(ctx), "AsyncSink/"+variant
		ns, err := b.figure(name, "ns/record")
		allocs, aerr := b.figure(name, "allocs/record")
		if err = errors.Join(b.err, err, aerr); err != nil {
			return "", err
		}
		figure := fmt.Sprintf("%.0f ns (at most %.0f) and %.4f allocations a record", ns, overheadNanos, allocs)
		return figure, errors.Join(want(ns <= overheadNanos, "slower than allowed"), want(allocs <= overheadAllocs, "too many allocations"))
	}}
}
