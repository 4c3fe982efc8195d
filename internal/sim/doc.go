// Package sim proves the engine by simulation: it makes random pipelines and random faults from a seed, runs them in
// testing/synctest bubbles over sources, destinations and a disk that fail as told, and compares what was committed with
// what one goroutine computes from the same input.
//
//	WEIRLINE_SEED=42 go test ./internal/sim -run TestSim // replay one seed
//	make soak SEEDS=10000                                // many
//
// # How a seed runs
//
// [NewPlan] draws everything from the seed: the graph, the input, the settings, and a list of runs, each with its faults.
// [Plan.Run] goes through the runs. A run builds the pipeline anew, perhaps with another parallelism, over the disk as the
// run before left it. A process crash makes the outside world deaf: every call of the old run fails and has no effect from
// that moment, and the next run begins from what the disk keeps. The last run has no faults and must come to its end.
//
// # What is checked
//
// At each published record: every split in one place and not gone back, all tasks present, no slot and no token twice,
// numbers of epochs never used before. At each call of a reader, writer or committer: no split read by two, no slot begun
// before the commit of its last transaction is recorded, commits in the order of epochs. In the end: rows of two-phase sinks
// exactly once and of each key in order, those of idempotent sinks in effect, others at least once, and nothing that the
// input doesn't explain; late records counted once, and no window that takes none emitted twice; no transaction, goroutine or
// open split left. A run that makes no progress for minutes of its own time fails with the position of every task.
//
// # What is deterministic
//
// The plan is. The interleaving of goroutines is not wholly: time is false and stands still while anything can run, but the
// order in which the Go scheduler runs goroutines that could run at the same instant, the choice of select and the order of
// maps vary. With GOMAXPROCS=1, as in the soak, the first nearly doesn't. A replay therefore runs its seed many times.
package sim
