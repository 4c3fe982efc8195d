// Package txn has what every destination with two-phase transactions shares: names, handles, and the committer with its rules.
//
// It is for authors of connectors. A connector writes the [sink.TxWriter] itself and, for the other half, a [Resource]: how one
// prepared transaction is committed, how its fate is proved when it is gone, and how leftovers are cleared.
//
//	func (s TxSink[T]) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
//		return txn.NewCommitter(&resource{o: s.settings()}, t, s.Lost), nil
//	}
//
//	func (r *resource) Commit(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
//		n, err := txn.Decode[native](h, 1)
//		if err != nil {
//			return txn.Stop, err
//		}
//		err = r.db.CommitPrepared(ctx, n.Name)
//		return outcomeOf(err), err // the connector's table, from native errors to outcomes
//	}
//
// # Names
//
// A prepared transaction is called <slot>-<token> ([NameOf], [SlotOf]), so that recovery finds what is left under a slot
// whatever process prepared it. A destination whose ids are few and used again, as Kafka's are, takes the slot's name alone. The
// token is random ([NewToken]) and stands in the handle, and where the destination can keep it, beside the rows, as proof.
// [CheckSlot] refuses names that a destination can't take.
//
// # Outcomes
//
// A commit has an [Outcome], which the connector reads off a table of native errors. Only Done goes on. Again is repeated with
// the same request, by the engine and with back-off, until the answer is definite. Absent is no answer: the transaction isn't
// prepared any more, and Prove has to say why, by evidence (a commit log, a row with the token). Without any the outcome is
// Unknown, which is never success. Lost and Unknown are what the user's [Loss] decides about.
//
// # Recovery
//
// Recover commits what is kept first and calls Clear only when all of it is done: the other order would roll back what the
// restored epoch holds. Clear fences whoever may still prepare something under the slots, then rolls back what is left there.
// It gets every slot that was ever granted, the kept ones' too, and touches no others.
//
// # Who owns what
//
// Everything is called by the committer's goroutine, one call at a time, and may wait for the destination within ctx. The
// committer owns the resource and closes it. Handles outlive processes: Commit, Prove and Clear rest on nothing but the handle,
// the slots and the destination.
package txn
