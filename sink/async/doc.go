// Package async makes a sink from one function that sends a batch. It batches, keeps several batches on their way, waits
// and tries again while the destination is down, and never holds up a barrier: what is not delivered is stored with the
// epoch and sent again after a restore. It is at least once; a Send whose effect is the same when repeated makes it
// effectively once, and Repeatable says so.
//
//	out := async.Sink[Event]{
//		Send: func(ctx context.Context, batch []Event) error { return client.Put(ctx, batch) },
//		Key:  func(e Event) string { return e.User }, // keeps the order of each user's events
//	}
//
// # What Send answers
//
//   - nil: all delivered.
//   - *[sink.Rejected]: those records are refused for good, the rest is delivered. The engine collects them by
//     [sink.Rejecter] and applies the pipeline's policy (fail, skip, dead letter).
//   - *[Partial]: those records failed, each for its own reason; the rest is delivered.
//   - [Refuse] of the whole batch: the destination takes a batch whole or not at all, and refused this one. Its halves
//     are sent one after the other until the records to blame stand alone; those are refused for good.
//   - [sink.Permanent]: the task fails. A panic does the same.
//   - [sink.RetryAfter]: the destination throttles. The whole batch is sent again after the delay, and everything goes
//     more slowly.
//   - any other error: the whole batch is sent again after a delay.
//
// Only what failed is sent again, never without a delay. With Key there is one exception: a record that has to be sent
// again takes along the later records of its key in the same batch, so that the last one written is the last one to take
// effect.
//
// # How much is sent
//
// Each shard of the destination has a gate of three parts, which says when the next batch may go:
//
//   - the window, batches on their way at once: it grows as long as it is full and answers come about as fast as with few
//     of them, shrinks when they become slow and halves when batches fail;
//   - the pace, requests a second: none until the destination throttles, then just below the rate it let through; after
//     some seconds it looks whether more is possible;
//   - the breaker: after some failures in a row only one batch at a time tries the shard. When it is answered, all that waits goes
//     within a moment.
//
// Records sent again are limited to a share of all (Retry.Budget), and a record that can't be delivered for a day (Retry.Age) is
// refused. docs/async-sinks.md tells what comes of it.
//
// # Who calls what
//
// The task's goroutine calls the writer. Send runs on goroutines the writer owns, up to MaxInFlight at once for each
// shard; Close cancels their context and waits for them. Write waits only when there was no room ([sink.Gated]) and takes
// one whole batch over the limit otherwise; Flush waits for the destination; Snapshot, Restore, Room, Rejects and Err
// never do.
//
// # What is counted
//
// Counters: attempts (calls of Send), sent (records delivered), rejected (refused for good), and records to send again by
// cause: retries_throttled, retries_timeout (the whole batch, by Timeout), retries_failed (the whole batch, otherwise),
// retries_partial (some of a batch). Gauges: in_flight (batches on their way), window (how many may be), pace (requests a second where
// shards throttle, 0: none does), breakers_open (shards that count as down), batch_records (of the last batch), buffered
// and buffered_bytes (not delivered yet, those on their way included), oldest_seconds (age of the oldest of them). Window
// and pace are sums over all shards. Distribution: send_seconds (how long calls of Send take).
package async
