// Package kafka reads topics of Apache Kafka, from and to exact offsets, and writes to them at least once, or exactly once.
//
// The smallest source and sinks:
//
//	kafka.Source[string]{Brokers: brokers, Topics: []string{"orders"}, Decode: kafka.Text}
//	kafka.Sink[string]{Brokers: brokers, Topic: "copies", Encode: kafka.TextRecord}
//	kafka.TxSink[string]{Brokers: brokers, Topic: "copies", Encode: kafka.TextRecord}
//
// # Reading
//
// A split is one partition. Its positions are plain offsets, fixed when the partition is found: "latest", "committed" or
// "at noon" are resolved once, by the enumerator, and stored. The broker's consumer groups take no part in assignment;
// [Source].Group only receives the positions of durable checkpoints, so that outside tools can show progress.
//
// Per task there is one client, which fetches ahead in the background within [Source].FetchBytes per broker. Read blocks
// until records are there or its context ends; while brokers are down it waits, for ever, and says so in the log once.
//
// Values share memory with the fetched block they came in. That memory belongs to the process and is never recycled, so
// strings and byte slices may be kept, but one small kept value keeps its block (up to 1 MiB compressed): copy what is
// kept for long.
//
// Records that are gone before they are read, and partitions that disappear, are never passed over in silence: see
// [OutOfRange] and [Deleted].
//
// # Writing
//
// Batches are sent by an idempotent producer; the records of a key keep their order. After a crash what was sent since
// the last checkpoint may be there twice.
//
// # Writing exactly once
//
// A [TxSink] writes each epoch's records of a task in a transaction. Its id is the name of the slot; its client belongs to the
// writer, which makes it when the slot is used first and uses it again when the slot comes back. At the barrier the writer waits
// until the brokers have everything; from then on only the committer, over clients of its own, touches the transaction. Write
// never waits for the brokers, Begin and Prepare do.
//
// The brokers roll a transaction back when it is older than [TxSink].Timeout. What that means at which moment, and how the fate
// of a transaction is proved, is in docs/connectors/kafka.md.
package kafka
