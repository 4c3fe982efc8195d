// Package services holds the benchmarks of sinks on real servers, each beside the bare client library, which does the same work in
// the same run.
//
//	go test -run '^$' -bench . ./benchmarks/services/
//
// The contenders of a benchmark run in turn, several rounds, each time in another order. Reported are, as medians of the rounds:
//
//	xlimit           time of the job / of the bare client
//	xlimit-min       the same in the best round
//	rec/s, bare/s    the rates of both
//	%slower          what exactly once costs beside our own at-least-once
//	pause-ms         longest time between two batches of a task that writes; in Pause at a steady rate
//	pause-once-ms    the same of a job that commits once, at its end
//	pause-held-ms    the same with each commit held up by half a second
//
// HTTP and OpenSearch have the first four only: their sinks are at least once or idempotent, beside loops that post batches.
//
// With -short there is one round of few records, to show that all works. Every run's answer is read back and checked. See README.md
// beside this directory for what the figures mean.
package services
