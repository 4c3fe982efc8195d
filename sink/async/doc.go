// Package async makes a sink from one function that sends a batch. It batches, keeps several batches on their way, waits
// and tries again while the destination is down, and never holds up a barrier: what is not delivered is stored with the
// epoch and sent again after a restore. It is at least once; a Send whose effect is the same when repeated makes it
// effectively once.
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
//   - [sink.Permanent]: the task fails. A panic does the same.
//   - [sink.RetryAfter] and any other error: the whole batch is sent again after a delay.
//
// Only what failed is sent again. With Key there is one exception: a record that has to be sent again takes along the
// later records of its key in the same batch, so that the last one written is the last one to take effect.
//
// # Who calls what
//
// The task's goroutine calls the writer. Send runs on goroutines the writer owns, up to MaxInFlight at once; Close cancels
// their context and waits for them. Write waits only when there was no room ([sink.Gated]) and takes one whole batch over
// the limit otherwise; Flush waits for the destination; Snapshot, Restore, Room, Rejects and Err never do.
//
// # What is counted
//
// Counters: attempts (calls of Send), sent (records delivered), retries (records sent again). Gauges: in_flight (batches on
// their way), buffered (records not delivered yet, those on their way included), oldest_seconds (age of the oldest of
// them). Distribution: send_seconds (how long calls of Send take).
package async
