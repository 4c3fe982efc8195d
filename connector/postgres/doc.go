// Package postgres writes records to a PostgreSQL table: by [TxSink] each exactly once, with its checkpoint, or by [Sink] as they come.
//
//	out := postgres.TxSink[Order]{
//		URL:     "postgres://shop@db.example/shop",
//		Table:   "orders",
//		Columns: []string{"id", "customer", "total"},
//		Row:     func(o Order) ([]any, error) { return []any{o.ID, o.Customer, o.Total}, nil },
//	}
//
// # As they come
//
// [Sink] has the same settings. Package async batches, sends again and stores with the checkpoint what isn't written yet. With Keys a
// batch is one statement, INSERT ... SELECT FROM unnest(...) ON CONFLICT DO UPDATE, after its rows have been reduced to the last of
// each key and sorted by it, so that tasks don't wait for each other in a circle; records of which Delete says so are removed by
// another. Both may be repeated. Without Keys a batch is a COPY. A statement that the server refuses for a row's sake is halved until the
// row is found. A session that broke is ended in the server before its batch is repeated: what it still did would come late. Behind
// a pooler that isn't possible, and statements aren't prepared.
//
// # How, with transactions
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
// Of TxSink: Write, Begin and Prepare wait for the server and are called by the task's goroutine; Commit and Recover by the
// committer's. Row is called by all tasks at once. No goroutine is started here, the client library starts some for the
// time of a call. Nothing given to Write is kept. For XA, connections are direct ones: a pooler that shares sessions takes
// away the locks this rests on. Of Sink: each batch on its way has a connection, which the writer keeps for the next and closes.
package postgres
