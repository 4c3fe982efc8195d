// Package reader has ready-made readers: the half of a source that reads the splits of one task.
//
// It is for connector authors. The smallest use is a function from a position to records and the next position:
//
//	source.Of(enumerator.List(listFiles), reader.Poll(readSome))
//
// [Poll] calls such a function; [Each] keeps a [source.Cursor] open for each split. Both read several splits in turn, one
// batch from one split, and close a split that is finished. Both are a [source.Pauser]: a paused split is silent, a
// pending read of it is woken, and with every split paused Read blocks until one is resumed.
//
// [RateLimit] slows a source down, and [Pausable] makes a Pauser of a reader written by hand.
//
// # Goroutines and waiting
//
// No goroutine is started. Everything but Pause and Resume is called from the engine's fetch goroutine. A function that
// has nothing at the moment may either wait or return nothing: if all splits of a task returned nothing, Read rests for a
// moment (1 to 50 ms) before it asks again. With several splits a call that waits is given a turn of 5 to 100 ms, then its
// context is cancelled and the next split has its turn; as with every cancelled read, nothing may be lost by it.
package reader
