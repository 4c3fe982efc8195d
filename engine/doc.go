// Package engine runs pipelines: sources, operators with keyed state and event time, sinks, and checkpoints that cut through
// all of them at once.
//
//	p := engine.New(engine.Config{Name: "hits", Dir: "state"})
//	lines := engine.From(p, "log", files.Source[string]{Paths: []string{"logs"}, Decode: files.Text})
//	hits := engine.TryMap(lines, "parse", parse)
//	timed := hits.EventTime(func(h Hit) time.Time { return h.At }, engine.Watermarks{Delay: time.Minute})
//	perMinute := engine.Window(engine.KeyBy(timed, func(h Hit) string { return h.Page }), "count", engine.Tumbling{Size: time.Minute})
//	engine.To(engine.Aggregate(perMinute, add, emit), "store", redis.Sink[Result]{...})
//	err := p.Run(ctx)
//
// Names are addresses: state and positions are found again under the operator's name. Mistakes in building are collected
// with the line they were made on and returned by Check and Run.
//
// # Who runs what
//
// Neighbouring operators of equal parallelism joined one to one run in one task, a goroutine that owns all their state. A
// task is a loop: control messages, then unfinished work, then one batch of input, then sleep. User code runs inside it and
// never waits for another task: what it emits is handed over between input batches, and input is taken only while outputs
// and writers have room. A source's task has a fetch goroutine beside it, which is what waits for the outside. One goroutine
// a source discovers splits, one commits, and one, the coordinator, owns split tables and epochs.
//
// # Epochs
//
// A checkpoint is an epoch. The coordinator takes down its split tables, tells the sources' tasks, and barriers flow through
// all channels; each task aligns them, lets its operators prepare, sends the barrier on, and captures its state, which costs
// microseconds. The state is then copied between batches, piece by piece, anything about to change being copied first, and
// written by another goroutine. The ack carries where it is, the positions and the prepared transactions. When all have
// acked, the record is written and one pointer write decides. What two-phase sinks prepared is then committed, in order.
//
// # Failure
//
// A task's error, a panic in user code included, ends the attempt; the graph is made anew from the newest complete epoch, at
// any parallelism. Whatever an older attempt still sends reaches nobody, since inboxes belong to one attempt.
package engine
