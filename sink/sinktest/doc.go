// Package sinktest checks that a sink keeps the promises of package sink. Connector authors call it from a test:
//
//	func TestSink(t *testing.T) {
//		sinktest.Run(t, sinktest.Case[string]{
//			Sink: mySink,
//			Make: func(i int) string { return fmt.Sprint("record ", i) },
//			Read: readBack, // everything the destination holds now
//		})
//	}
//
// [Run] is for plain sinks and [RunTx] for two-phase ones. Each promise is a subtest whose name says which one was broken.
// The destination may be shared by all of them and needn't be emptied: records made with different numbers must differ,
// and each promise uses numbers of its own. The kits call everything as the engine would, from one goroutine at a time.
//
// Writers that do their I/O in the background (they are [sink.Gated]) have to show more, if Block and Fail are set: that
// what is on its way is in a state once, that an answer after Flush or after Close is not mistaken, that restored records
// go by themselves.
//
// Crashes are played by dropping a writer without closing it. What that can't show is a process that dies inside a call:
// a connector's own tests kill a child process for that.
package sinktest
