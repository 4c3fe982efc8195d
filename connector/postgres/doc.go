// Package postgres writes records to a PostgreSQL table, each exactly once.
//
//	out := postgres.TxSink[Order]{
//		URL:     "postgres://shop@db.example/shop",
//		Table:   "orders",
//		Columns: []string{"id", "customer", "total"},
//		Row:     func(o Order) ([]any, error) { return []any{o.ID, o.Customer, o.Total}, nil },
//	}
//
// # How
//
// Each task has one connection and one transaction an epoch. There are two modes; the default is [XA]. Rows go in by COPY, or by INSERT ... ON CONFLICT DO UPDATE if
// Keys are set. At the barrier the transaction is prepared (PREPARE TRANSACTION): it survives a crash of the job and of the
// server, nobody sees it, and any connection can finish it. When the epoch is complete the committer does (COMMIT PREPARED).
// After a crash what the epoch's record names is committed and what else is prepared under the job's names is rolled back.
// The server must allow prepared transactions, which it doesn't when it is installed: max_prepared_transactions.
//
// [Ledger] does without. Rows go by COPY into a staging table of the transaction's slot, made like the columns that are
// written. At the barrier they are committed there, beside a row of the ledger with the transaction's token. The committer moves
// them into the table and notes it in that row, in one transaction, so that they are moved once however often it comes.
//
// # Guarantee
//
// A commit that finds no prepared transaction counts as done only if the server's commit log says so of the transaction's
// id, which is in the handle. One that was rolled back from outside, or of which nothing is known any more, stops the job
// (see [txn.Loss]). A session whose process has gone, or is about to, can't prepare anything late: a writer holds an advisory
// lock on each slot it uses, and recovery ends the sessions that still hold one before it looks. With a ledger, of which the
// row is the proof, the lock lasts as long as a transaction, and recovery first raises a number in a table that writers who
// began before don't get past.
//
// # What blocks
//
// A staged row locks nothing. A prepared transaction keeps its row locks until its epoch is committed. Whoever writes the same key meanwhile waits,
// this sink's other tasks too, so a stream with Keys, or into a table with unique keys, has to be keyed by them.
// LockTimeout ends such a wait.
//
// # Who owns what
//
// Write, Begin and Prepare wait for the server and are called by the task's goroutine; Commit and Recover by the
// committer's. Row is called by all tasks at once. No goroutine is started here, the client library starts some for the
// time of a call. Nothing given to Write is kept. For XA, connections are direct ones: a pooler that shares sessions takes
// away the locks this rests on.
package postgres
