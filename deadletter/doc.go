// Package deadletter is what becomes of records that a pipeline can't use: the letter that tells of each, the places where letters
// lie, and the way back into the destination that refused them.
//
//	p.DeadLettersTx(files.TxSink[deadletter.Letter]{Dir: "dead", Format: parts.JSON[deadletter.Letter]{}})
//
// engine.DeadLetter is [Letter]. Any sink takes letters; as JSON their form is the one its tags say and doesn't change. The command dlq of
// package engine/cli reads them back from a directory ([Files]), or from where App.DeadLetters says (kafka.DeadLetters).
//
// # Writing them again
//
// A [Replay] reads a [Log] and writes what a [Filter] chooses through an operator's sink again. The engine makes an [Outlet] for each
// sink of a pipeline (Pipeline.Outlet), which knows the type of its records:
//
//	now, out := p.Outlet("orders")
//	res, err := deadletter.Replay{From: deadletter.Files{Path: "dead"}, Operator: "orders", To: out, Task: task, Refused: keep}.Run(ctx)
//
// What was written is remembered by the Log, as ranges of places, so that no letter goes twice by accident:
//
//   - Through a two-phase sink all goes in one transaction, under a slot of its own. Its handle is remembered before it is committed, so a
//     replay that dies at any moment is finished, or undone, by the next one: exactly once.
//   - Through a plain sink it is remembered after each flush. A replay that dies writes what wasn't flushed once more: at least
//     once, or once in effect if the sink is idempotent.
//
// Two replays of one operator's letters must not run at once. A directory is locked for that, a topic isn't.
//
// A Replay belongs to one goroutine and starts none; it waits for the destination as long as its context lasts.
package deadletter
