// Package hybrid reads one source after another: first the archive, then the queue.
//
// It is for pipeline builders. The smallest use:
//
//	hybrid.Of(
//		hybrid.First(files.Source[string]{Paths: archive, Decode: files.Text}),
//		hybrid.Then(kafka.Source[string]{Topics: topics, Decode: kafka.Text}))
//
// Where the next stage has to start depends on what the one before read, [ThenFrom] derives it:
//
//	hybrid.ThenFrom(
//		func(ctx context.Context, done []files.Split) (Start, error) { ... },
//		func(at Start) (source.Source[string, kafka.Partition], error) { ... })
//
// There may be any number of stages, of any split types, all of one record type. Every stage but the last must be bounded.
//
// # The switch
//
// When all splits of a stage are finished, the engine calls Next, which derives the start of the following stage once. It
// is data: stored with the checkpoint that makes the switch, and with every split of that stage, so that readers can make
// the stage's source without asking anybody. It should therefore be small (offsets, a time), and it is not derived again
// by a restore: that is either wholly before the switch or wholly after it. The new stage's splits are discovered only
// when that checkpoint is durable. What symbolic positions mean is settled then, by the stage's own enumerator.
//
// # Readers
//
// A reader opens a stage when it gets the first split of it. It reads the splits of the lowest stage it has first and keeps
// the others. A stage is closed when a later one was opened and none of its splits is left; if it wants acknowledgements,
// after the next one. Pause, Resume and Ack go to the stage's own reader with its own IDs and positions.
//
// No goroutine is started; the rules of package source apply to each stage as if it were alone.
package hybrid
