// Package enginetest tests pipelines without any service: a source that follows a script and crashes where it says, sinks
// that keep what they are given, and Run, which runs the pipeline to its end through all crashes.
//
//	src := &enginetest.Script[string]{Splits: map[string][]enginetest.Step[string]{
//		"a": {enginetest.Rec("x"), enginetest.Crash[string](), enginetest.Rec("y")},
//	}}
//	out := enginetest.NewTx[string]()
//	enginetest.Run(t, engine.Config{Name: "job"}, func(p *engine.Pipeline) {
//		engine.ToTx(engine.From(p, "in", src), "out", out)
//	})
//	// out.Rows() is x and y, once each
//
// Everything may run inside a testing/synctest bubble, where pauses and restart delays cost no time.
package enginetest
