// Package ahead makes a two-phase sink of a plain one, for destinations without transactions: rows wait outside of the
// destination until their epoch is complete, and are written then.
//
//	engine.ToTx(orders, "out", ahead.Sink[Order]{
//		To:  redis.Sink[Order]{Do: setOrder},
//		Dir: filepath.Join(state, "ahead"), // beside the checkpoints
//	})
//
// A connector's author writes nothing for it. One whose destination can keep a few bytes in one step with the rows may offer
// [Marked], and the sink is exactly once.
//
// # What is promised
//
// Nothing of an epoch that never becomes complete reaches the destination. What a crash in the middle of a commit does depends
// on the destination, and is what a start and -plan print ([sink.Qualified]):
//
//   - To is [Marked]: exactly once. The mark says how many rows of the transaction are there, and the rest follows.
//   - To is [sink.Idempotent]: exactly once in effect. The rows are written again just as they were, also where the
//     pipeline would make them anew in another form.
//   - any other To: at least once. Rows of the transactions under way at the crash, and of no others, may be there several times.
//
// A reader of the destination can see a part of an epoch, since its rows come one batch after another.
//
// # Where rows wait
//
// A transaction's rows are a segment: files of 4 MiB or so in Dir, or objects in Place, named
//
//	<slot>-<token>.open         begun
//	<slot>-<token>.00000        rows
//	<slot>-<token>.00001.end    the last rows, and how many there are: prepared
//	<slot>.applied              what became of the slot's transactions
//
// The handle in the checkpoint says how many parts and rows there are, and their checksum. A segment stays until its commit is
// recorded, whatever is retained of checkpoints. Whoever moves or restores the checkpoints needs Dir with them; it may be a
// directory inside that of the state, and with checkpoints in an object store Place may be the same bucket (blob.PlaceAt). Jobs may share a
// place, of which each touches its own slots only.
//
// # Order
//
// One committer writes all: epoch by epoch, within an epoch task by task, and each task's rows in the order they came in.
// Between the rows that different tasks had at the same time no order is kept. What To does with them is its own: a sink that
// sends several batches at once keeps the order it promises.
//
// # What happens when
//
//   - Dir is full: the task fails with the error, its epoch isn't completed, and its records come again.
//   - The destination is away: the commit is tried again with back-off. Epochs wait meanwhile, and when none may wait any more
//     input does. After Patience the job stops; the rows go on waiting, and a restart writes them.
//   - The destination refuses a row: the job stops and shows it, or it goes to Rejects. Other rows of the transaction may be
//     written by then.
//   - A segment is gone, cut or changed: its rows are lost, which Lost decides about. It is looked through before its first row is
//     written.
//
// # Who calls what
//
// A task's goroutine encodes rows, and waits for the place when a part is full and at barriers. The committer's goroutine
// reads segments and calls To's writer, or its [MarkWriter], as a task would; both are closed after an error and made anew. It
// starts no goroutine of its own.
//
// Counters of the committer: applied_rows, rejected_rows, lost_transactions.
package ahead
