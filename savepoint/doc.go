// Package savepoint is for what a job has written down: begin a job from any of it, look at it, check it.
//
//	cfg := engine.Config{Name: "orders", Dir: "orders.state"}
//	cfg.Begin = savepoint.Start{Job: cfg.Name, From: "/backup/orders-1"}.Begin
//	p := engine.New(cfg) // ... and so on; Run goes on from the savepoint
//
// # What there is
//
// A job keeps its newest checkpoints in a store of its own, and replaces them. A savepoint (engine.Pipeline.Savepoint) is a
// store with one epoch in it: whole, independent of the job's own store and of its state backend. It has the same files, so
// whatever reads one reads the other; it may be moved and copied with the tools of the file system.
//
// # Order of calls, goroutines, waiting
//
// Start.Begin is called once by engine.Pipeline.Run, which holds the job's store. Everything here works on stores that are
// open, keeps nothing, waits for the disk, and may be called from any goroutine.
package savepoint
