// Package sourcetest tests that a source keeps the contract of package source.
//
// It is for connector authors. The smallest use:
//
//	sourcetest.Run(t, sourcetest.Case[string, File]{Source: Lines(dir + "/*.txt"), Want: want})
//
// Run drives the source as the engine does, with a miniature of it: one enumerator, some readers, splits that are found,
// assigned, read and finished. It reads everything; stops at batch boundaries, passes the positions through their codec and
// goes on with new objects; cancels reads at random moments; lets readers come and go; pauses splits; writes over the
// memory that a batch lent; and looks for goroutines left behind. Each time exactly Want must have come out.
//
// Everything runs on the test's goroutine but Read, so that one that never returns is found out, and Resume, which comes at
// any time. What is random follows from a seed that
// is logged; set Case.Seed to it to see a failure again.
package sourcetest
