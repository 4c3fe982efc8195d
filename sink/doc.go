// Package sink is the contract between the engine and a destination.
//
// It is for connector authors. Most of them need no more than one function and package sink/async; the rest implement a
// [Writer] (at least once, or idempotent) or a [TxWriter] with a [Committer] (exactly once, in two phases).
//
// # Plain sinks
//
// Per task there is one Writer, called by the task's goroutine only: Restore first if it is [Stateful] and there is
// state; then Write for each batch; at each barrier either Snapshot (Stateful) or Flush; at the end of input Flush; Close
// once. A writer that does its I/O in the background implements [Gated]: the engine asks Room before it takes input, so
// Write needn't block, and barriers, timers and cancellation are served while the destination is slow.
//
// # Two-phase sinks
//
// A transaction lives from the first record after a barrier to the next barrier. Per task there is one TxWriter: Begin
// with a slot the engine has made durable, Write, and at the barrier Prepare, which makes the transaction survive a crash
// and returns everything needed to finish it from another process. That [Handle] is stored in the epoch's record. When
// the epoch is complete the one Committer of the operator gets it, off the data path, in epoch order, and again after
// any crash in between. After a restart Recover gets the handles of the restored epoch (to commit) and the slots to clear.
// What a handle names must outlive the process that made it. A TxWriter too may be [Gated], also because its transaction has
// grown old, and [Failing]: one that has failed is not part of the epoch at hand, its task restarts.
package sink
