// Package objects writes records into objects of S3 and compatible stores: by [TxSink] many into an object, each exactly once, or by
// [Sink] each into one of its own, as they come.
//
//	out := objects.TxSink[Order]{Bucket: "lake", Prefix: "orders", Format: parts.JSON[Order]{}}
//
// # As they come
//
// [Sink] writes an object by one request under a key that the record determines, so that writing it again changes nothing. Package
// async keeps several on their way, of one key one at a time, sends again, slows down when the server asks for it, and stores with
// the checkpoint what isn't written yet. A request that timed out may still come through later than its repetition, with the same bytes.
//
// # How, with transactions
//
// Objects are made by multipart uploads, which nobody sees until they are completed. While an epoch runs, a task cuts what it
// writes into parts of PartSize and sends them in the background. At the barrier the rest goes up, as the last part or, of a small
// epoch, as the only one, and the handle names each upload with the ETags of its parts. When the epoch is complete the committer
// completes the uploads. After a crash what the epoch's record names is completed, and what else is being uploaded under the job's
// slots is aborted. An epoch without records makes no request.
//
// An epoch gives one object per task and folder that had records, or more if Rolling ends them, named
//
//	<Prefix>/<Folder>/<slot>-<token>_<number><Suffix>      orders/job-out-2-9f86d081884c7d659a2feaa0c55ad015_0.jsonl
//
// A key stands in its upload from the beginning, when nobody knows the number of the epoch yet, so it isn't in it. Records stand in
// an object in the order they were written. Objects of several jobs may share a bucket and a prefix.
//
// # Guarantee
//
// A commit counts as done only when the object is seen: under its key, with its size, and with the transaction's token in its
// metadata, after each completion, whatever the server answered to that. If the upload is gone and the object isn't there, it is
// lost; another object in its place proves nothing. Both stop the job unless the loss is accepted (see [txn.Loss]). So readers may
// read an object at once, but move or delete it only when a later epoch is complete.
//
// # Writers that were taken for dead
//
// A transaction's first upload is made with its first record, and its first part is sent last: with it, and not before, the
// transaction is prepared. Recovery aborts the uploads of its slots, so a writer that made its first upload before can't prepare
// any more. Tokens are random, keys and upload ids are never used twice, so nothing a stale writer does touches an upload or an
// object of another. What it can do: begin, after that recovery, a transaction it had not begun, and prepare it. No record
// names that, nobody completes it, and it is aborted at the job's next start; until then its parts take up space. A stale
// committer can only complete what a complete epoch names, which is right.
//
// # Memory
//
// A task holds, in buffers of PartSize, the unsent end of each open object (MaxOpen), the parts on their way and waiting (Uploads),
// the first part of an epoch's first object until the barrier, and two to be used again. That is (MaxOpen + Uploads + 3) *
// PartSize at most: without Folder, where one object is open, 56 MiB if nothing is set. Buffers grow with what is in them, so small
// epochs take little. It isn't part of Config.Memory, which bounds queues.
//
// # Who owns what
//
// Of TxSink: Write, Begin and Prepare are called by the task's goroutine, Commit and Recover by the committer's. Parts are sent by goroutines
// of package sink/async, Uploads at most, which end with Close. Write waits when as many parts are on their way (see
// [sink.Gated]), and for one request with the first record of an epoch; Prepare waits until all is sent. An error of a part
// shows at the next Write, at Prepare, or when the task asks ([sink.Failing]). Requests are repeated by the client, ten times
// with pauses that grow, within Timeout; what outlasts that restarts the task, or is repeated as a commit by the engine. Nothing given to
// Write is kept.
package objects
