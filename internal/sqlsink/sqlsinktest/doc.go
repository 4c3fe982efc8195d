// Package sqlsinktest shows what plain sinks into tables promise, with a real server: the contract, which rows are refused and which
// win, and what the writer makes of servers and networks that fail. A connector describes its server in a [Kit] and calls the tests
// from tests of the same names:
//
//	func TestSinkServerDies(t *testing.T) { kit.ServerDies(t) }
//
// The helpers, all about tables of [Point], are for its other tests too.
package sqlsinktest
