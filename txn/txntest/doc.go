// Package txntest shows that a destination with two-phase transactions keeps its records exactly once: in one process, promise by
// promise, and in processes that are killed at each step of the commit protocol or meet with another mishap. Authors of connectors call both from tests:
//
//	func TestContract(t *testing.T) {
//		txntest.Run(t, txntest.Case[string]{
//			TxCase:   sinktest.TxCase[string]{Sink: mySink, Make: record, Visible: readBack, Left: prepared},
//			RollBack: rollBack, // what an administrator might do
//			MaxSlot:  166,
//		})
//	}
//
//	func TestMain(m *testing.M) {
//		txntest.Main(job) // never returns in a process that Kills has started
//		os.Exit(m.Run())
//	}
//
//	func TestKilled(t *testing.T) {
//		txntest.Kills{Args: map[string]string{"dir": t.TempDir()}, Check: check}.Run(t)
//	}
//
// [Run] begins with what sink/sinktest demands of every two-phase sink and adds what rests on the destination: rollbacks from
// outside, fates nobody knows, writers that were taken for dead, names, a server that restarts. Everything is called as the
// engine would, one goroutine at a time. The destination may be shared: slots and records are the promise's own.
//
// [Kills] runs a job, which is a function given to [Main], in child processes. A child wraps its sink ([Wrap]) and its store
// ([Child.Store]), and dies by SIGKILL at the [Step] it is told, without a last word to anybody. The next one resumes at the
// same, at half or at double the parallelism, dies at the same step, and so on; the last lives to the end of the input.
// A child also ends, which fails the test, if a slot is used again before the commit of the transaction in it was recorded.
// [Kills.Do] is the same for programs.
//
// [Mishaps] lets other things happen to the same job: it is down until the destination has rolled back what was prepared, its
// store fails for longer than it can bear, an administrator rolls a transaction back, somebody begins from a savepoint beside it
// or from an older epoch, one of its regions fails. A child then also uses [Child.Begin] and [Child.Run], and writes what it does
// into a file that outlives it, from which Mishaps knows what was prepared, lost, counted and listed.
package txntest
