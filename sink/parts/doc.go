// Package parts has what sinks share that write records into part files or objects: formats, buckets, names, when a file is ended, and
// the set of those that are open.
//
// It is for authors of such sinks, and for whoever writes a format of their own. A sink gives [NewSet] a [Format], how records
// fall into buckets, and something that makes and finishes files:
//
//	set, err := parts.NewSet(parts.Options[Order]{Format: parts.JSON[Order]{}, Bucket: byDay}, store)
//	...
//	err = set.Write(batch) // calls store.Create, and store.Finish where a file is full
//	err = set.End()        // at the barrier: Finish for all that are open
//
// # Formats
//
// A [Format] makes an [Encoder], which writes one file after another: Begin with what takes the bytes, Append for each record,
// End for what closes the file, such as a footer. The formats here are [Text], [JSON] (a line each) and [CSV]; A format that needs a library
// is a package of its own, so that only those link it who use it. One whose files can be joined into one of the
// same kind is a [Joiner] too.
//
// # Buckets
//
// A bucket is a path below the sink's place, such as dt=2026-01-02/hour=03, made of the record by a function. [ByTime] makes
// one of its event time. [AppendEscaped] puts a text of the record into a path without surprises. A path that [CheckPath] refuses rejects its
// record.
//
// # Who owns what
//
// A set and its encoders belong to one goroutine, the task's. Formats and buckets are called by all tasks at once. The set
// never keeps a record after Write, unless the encoder's documentation says that it buffers values (Parquet does). Nothing blocks but the files' own methods.
package parts
