// Package files reads files of lines (text, JSON lines, any line a function can decode, plain or gzip), and writes files, each record
// exactly once ([TxSink]).
//
// It is for pipeline builders. The smallest uses:
//
//	files.Source[string]{Paths: []string{"logs/*.log"}, Decode: files.Text}
//	files.TxSink[string]{Dir: "out"}
//
// What follows is of the source.
//
// A line ends with "\n" or "\r\n", which isn't part of it. An empty line is a record, and so is a last line without an
// end. A line longer than MaxLine, or one that Decode refuses, is rejected on its own and reading goes on after it.
//
// # Splits and positions
//
// A split is a file, an equal share of the bytes of all files, or a directory. A position is the byte offset of the next
// line in the uncompressed file. Compressed files aren't cut; after a restart they are decompressed again up to the
// position. A file must not change while a job reads it, and must still be there, at least as long, when the job is
// restored.
//
// # Memory
//
// Files are read in blocks. Text makes one string of each block and values that are parts of it: a value that is kept keeps
// its block (256 KiB, or the length of its longest line). Values of type []byte are borrowed: they point into memory that is
// recycled with their batch, and the source says so (source.Borrower). Nothing is allocated for a line in either case.
//
// # Goroutines
//
// None is started. Decode and EventTime are called by all tasks at once.
package files
