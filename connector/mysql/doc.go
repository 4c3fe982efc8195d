// Package mysql writes records to a table of MariaDB or MySQL: by [TxSink] each exactly once, with its checkpoint, or by [Sink] as
// they come.
//
//	out := mysql.TxSink[Order]{
//		DSN:     "shop:secret@tcp(db.example:3306)/shop",
//		Table:   "orders",
//		Columns: []string{"id", "customer", "total"},
//		Row:     func(o Order) ([]any, error) { return []any{o.ID, o.Customer, o.Total}, nil },
//	}
//
// # As they come
//
// [Sink] has the same settings. Package async batches, sends again and stores with the checkpoint what isn't written yet. With Keys a
// batch is reduced to the last record of each key and goes as INSERT ... ON DUPLICATE KEY UPDATE, or as DELETE where Delete says so; both
// may be repeated. Without Keys it is an INSERT. What doesn't fit into a packet becomes several statements in a transaction. A
// statement that the server refuses for a row's sake is halved until the row is found. A session that broke is ended in the server
// before its batch is repeated: what it still did would come late.
//
// # How, with transactions
//
// Each task has one XA transaction an epoch. Rows go in by INSERT with many rows, ON DUPLICATE KEY UPDATE if Keys are set. At the
// barrier a row with the transaction's token is added and the transaction is prepared (XA PREPARE): it survives a crash of the
// job and of the server, and nobody sees it. When the epoch is complete the committer finishes it (XA COMMIT). After a crash what
// the epoch's record names is committed and what else is prepared under the job's names is rolled back.
//
// # Guarantee
//
// A commit that finds no prepared transaction counts as done only if the token's row can be seen. A transaction that was rolled
// back from outside, or of which nothing is known any more, stops the job (see [txn.Loss]). A session whose process has gone, or
// is about to, can't prepare anything late: a transaction's session holds a lock (GET_LOCK) named after its slot, and recovery ends
// the sessions that still hold one before it looks.
//
// # Connections
//
// The server leaves a prepared transaction to the connection that prepared it, until that ends. So each transaction has its own: it
// is kept, for the committer in the same process to finish the transaction on, and then closed; the next transaction opens
// another. After a crash, when the old connections have gone, any other one serves. It then waits 0.1 s first, and looks for the token's row
// afterwards: MariaDB answers an XA COMMIT with success and does nothing if it comes in the moment in which it parts the transaction from
// its old connection.
//
// # What blocks
//
// A prepared transaction keeps its row locks until its epoch is committed. Whoever writes the same key meanwhile waits,
// this sink's other tasks too, so a stream with Keys, or into a table with unique keys, has to be keyed by them.
// LockTimeout ends such a wait.
//
// # Who owns what
//
// Of TxSink: Write, Begin and Prepare wait for the server and are called by the task's goroutine; Commit and Recover by the committer's. Row
// is called by all tasks at once. The connections of prepared transactions belong to the operator's committer, which closes
// them. The client library starts a goroutine for each connection, which ends with it. Nothing given to Write is kept. Of
// Sink: each batch on its way has a connection, which the writer keeps for the next and closes.
package mysql
