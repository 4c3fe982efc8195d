// Package benchmarks holds the benchmarks of whole pipelines, each measured against its limit: the same work in a plain
// loop, without an engine.
//
//	go test -run '^$' -bench . ./benchmarks/
//
// A case and its limit run in turn, several times, with the same number of records and the same number of tasks. Reported
// are, as medians:
//
//	xlimit            time per record of the case / of its limit next to it
//	rec/s, limit-ns   the case's rate, and the limit's nanoseconds per record
//	allocs/record     of the case, what starting a job allocates included
//
// A pipeline's clock runs from its first record to the moment the last one is through the last operator; building, opening
// state and the last checkpoint aren't in it. See README.md for what the figures mean, and package main in workloads for
// long runs.
package benchmarks
