// Package enumerator has ready-made enumerators: the half of a source that finds splits and says who reads them.
//
// It is for connector authors. The smallest use is one function that lists splits:
//
//	source.Of(enumerator.List(listFiles), reader.Poll(readSome))
//
// [Static] knows its splits beforehand, [List] asks once, [Watch] asks again and again. None of them keeps state: the
// engine remembers which IDs it has seen, who reads what and how far, so listing everything each time is right.
//
// # Who calls what
//
// The engine calls Discover from a goroutine of its own, which is where the listing function runs and may do I/O. It calls
// Assign at each event; here a [Policy] answers, without I/O or memory. Both may run at once; nothing is shared between
// them. [Deal] is that answer as a function, for enumerators written by hand.
//
// # Order
//
// Splits are given out in the order in which they were listed. Where that is the order of their event times, [With] can
// say so (Options.Ordered), and listed but unstarted splits don't hold back the watermark.
//
// [EqualBytes] and [Directories] cut a list of files into splits.
package enumerator
