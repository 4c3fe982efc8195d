package main

import (
	"net/http"
	"time"
)

const (
	shards = 8
	rate   = 8000 // records a second, of all shards

	calmFor   = 6 * time.Second
	stormFor  = 10 * time.Second
	healedFor = 12 * time.Second // at most: the job ends when it is at its full rate again
	settle    = 2 * time.Second  // after each change of the weather, before rates are measured

	timeout = 1500 * time.Millisecond // of one call of Send
)

// mostRecords is more than come in the time of a trial.
const mostRecords = int64(2 * rate * (calmFor + stormFor + healedFor) / time.Second)

// storm is a row of the table.
type storm struct {
	name string

	// hits is how many shards it hits; the others are healthy. 0 = all.
	hits int

	// open starts the destination.
	open func(t *trial) (destination, error)

	rate    float64 // of the records, if not the usual one
	allowed float64 // requests a second that the hit shards allow together; 0 = doesn't matter
	repeats bool    // records may well arrive twice
	refuses bool    // one record of a hundred is refused, also in calm weather
}

// What may be left out.
const (
	breakShard   = "shard"   // the sink isn't told of shards
	breakPace    = "pace"    // its window and pace are fixed
	breakRetry   = "retry"   // a batch that failed counts as delivered
	breakLetters = "letters" // refused records are skipped
	breakWait    = "wait"    // a failed batch is tried again inside of Send, and a barrier waits for it
)

var parts = []string{breakShard, breakPace, breakRetry, breakLetters, breakWait}

// storms is the table.
var storms = []storm{
	{name: "http/calm", open: web(nil)},
	{name: "http/slow", open: web(slow(time.Second))},
	{name: "http/slow shard", hits: 1, open: web(slow(time.Second))},
	{name: "http/throttled", open: web(throttled(shardAllows)), allowed: shards * shardAllows},
	{name: "http/throttled shard", hits: 1, open: web(throttled(shardAllows)), allowed: shardAllows},
	{name: "http/flapping", open: web(flapping(2*time.Second, 2*time.Second))},
	{name: "http/bad shard", hits: 1, open: web(answer(http.StatusServiceUnavailable))},
	{name: "http/rejects", open: web(nil), refuses: true},
	{name: "http/hanging", open: web(hanging)},
	{name: "http/hanging shard", hits: 1, open: web(hanging)},
	{name: "http/late answers", open: web(late(timeout + time.Second)), repeats: true},
	{name: "http/late shard", hits: 1, open: web(late(timeout + time.Second)), repeats: true},
	{name: "redis/slow", open: server(slowNetwork)},
	{name: "redis/cut", open: server(cutNetwork)},
	{name: "redis/silent", open: server(silentNetwork)},
	{name: "redis/full", open: server(fullMemory)},
	{name: "redis/read-only", open: server(readOnly)},
	{name: "postgres/cut", open: table(cutFromTable)},
	{name: "postgres/silent", open: table(silentFromTable)},
	{name: "postgres/locked", open: table(lockedTable)},
	{name: "postgres/killed", open: table(killedServer)},
	{name: "opensearch/slow", open: index(slowToIndex), rate: 2000},
	{name: "opensearch/cut", open: index(cutFromIndex), rate: 2000},
	{name: "opensearch/silent", open: index(silentToIndex), rate: 2000},
	{name: "opensearch/read-only", open: index(closedForWrite), rate: 2000},
}

// shardAllows is how many requests a second a throttled shard allows: with full batches half of what comes.
const shardAllows = 20

// The job's sink.
const (
	maxBatch    = 25
	maxInFlight = 32      // for each shard
	maxBuffered = 200_000 // more than what a storm keeps from any shard
)
