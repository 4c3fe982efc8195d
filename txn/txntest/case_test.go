package txntest

import (
	"strings"
	"testing"

	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
)

func bankCase(b *bank) Case[int] {
	return Case[int]{
		TxCase:   sinktest.TxCase[int]{Sink: bankSink{b, txn.FailOnLoss}, Make: func(i int) int { return i }, Visible: b.see, Left: b.left},
		Lossy:    bankSink{b, txn.AcceptLoss},
		RollBack: b.rollBack,
		Forget:   b.forget,
		MaxSlot:  bankSlot,
		Kill:     b.kill,
		Restart:  b.restart,
	}
}

func TestDestinationPasses(t *testing.T) { Run(t, bankCase(newBank(""))) }

// TestBrokenDestinationsAreCaught plants each fault and wants the promise named to be found broken.
func TestBrokenDestinationsAreCaught(t *testing.T) {
	broken := map[string]string{
		"prepares nothing of nothing":                   "a transaction without records",
		"takes any name":                                "names",
		"clears by prefix":                              "Recover leaves jobs",
		"rolled back is done":                           "a transaction rolled back from outside",
		"clears before it commits":                      "a transaction rolled back from outside",
		"counts no loss":                                "a loss can be accepted",
		"unknown is done":                               "a fate that nobody knows",
		"takes a cancelled commit for done":             "a cancelled Commit",
		"fences nobody":                                 "a writer that was taken for dead prepares",
		"an old writer's Close ends the slot's session": "a writer that was taken for dead doesn't",
		"lists everything":                              "what is prepared can be listed",
		"gives up when it is away":                      "prepared transactions outlive",
		"loses prepared ones in a crash":                "prepared transactions outlive",
	}
	for fault, name := range broken {
		t.Run(fault, func(t *testing.T) {
			c := bankCase(newBank(fault))
			if fault == "counts no loss" {
				c.Lossy = c.Sink
			}
			b := newBench(c)
			for _, p := range b.promises() {
				if strings.HasPrefix(p.name, name) {
					err := b.keep(t.Context(), p)
					if err == nil {
						t.Errorf("%q holds", p.name)
					}
					t.Log(err)
					return
				}
			}
			t.Fatalf("no promise %q", name)
		})
	}
}
