// Package source is the contract between an input and the engine that reads it.
//
// It is for connector authors. An input is cut into splits. A [Split] is a part of the input and, at the same time, the
// place reading has got to in it: plain data, and therefore its own checkpoint. The engine owns positions: it stores the
// split that [Cursor.Read] returned together with everything those records caused, and after a crash it hands exactly
// that split back. An author writes no snapshot, no serializer and no acknowledgement protocol.
//
// The smallest source is two functions, put together with the toolkits:
//
//	source.Of(enumerator.List(listFiles), reader.Poll(readSome))
//
// # Who calls what, in which order
//
// Per job and source there is one [Enumerator]. The engine calls its constructor, then Restore if it is [Stateful] and
// there is state, then Discover (I/O, in a goroutine of its own, may block until its context ends) until it reports
// done; and Assign (pure, never blocks) each time something happened that may let a split be given to a reader. Discover
// and Assign may run at the same time, on different goroutines.
//
// Per task there is one [Reader]. All its methods but those of [Pauser] are called from one fetch goroutine. The engine calls Add when splits
// are assigned (after cancelling a pending Read), Read as long as the task has room, Ack of an [Acker] after a
// checkpoint is durable, and Close once. Read is what may block; it is woken by cancelling its context.
//
// # Codecs
//
// A split is stored as JSON of the plain value, or by its MarshalBinary and UnmarshalBinary methods if it has both.
// Fields may be added later; a position that can't be decoded is refused at restore.
//
// # Optional powers
//
// Small companion interfaces, all in companions.go, are found by [As]: on the value itself or on what it wraps. A wrapper
// implements [Unwrapper] and so never hides a power of what it wraps.
package source
