package sinktest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirline/weirline/sink"
)

// bank is a two-phase destination in memory with at most one fault.
type bank struct {
	mu      sync.Mutex
	fault   string
	tokens  int
	open    map[string]*deal // by token
	ready   map[string]*deal
	done    map[string]bool
	visible []int
}

type deal struct {
	slot string
	vs   [][]int
}

func newBank(fault string) *bank {
	return &bank{fault: fault, open: map[string]*deal{}, ready: map[string]*deal{}, done: map[string]bool{}}
}

func (b *bank) TxWriter(_ context.Context, t sink.Task) (sink.TxWriter[int], error) {
	return &bankWriter{bank: b, op: t.Operator}, nil
}

func (b *bank) Committer(context.Context, sink.Task) (sink.Committer, error) {
	return &banker{bank: b}, nil
}

func (b *bank) see() ([]int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.visible), nil
}

func (b *bank) left(s sink.Slot) (names []string, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range []map[string]*deal{b.open, b.ready} {
		for token, d := range m {
			if d.slot == s.Name {
				names = append(names, token)
			}
		}
	}
	return names, nil
}

func (b *bank) show(d *deal) { b.visible = append(b.visible, slices.Concat(d.vs...)...) }

type bankWriter struct {
	*bank
	op    string
	slot  sink.Slot
	token string // of the open transaction
	last  string // of the last prepared one
}

func (w *bankWriter) Begin(_ context.Context, s sink.Slot) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == "a slot serves once" {
		for token := range w.done {
			if strings.HasPrefix(token, s.Name+"/") {
				return errors.New("slot is used up")
			}
		}
	}
	w.tokens++
	w.slot, w.token = s, fmt.Sprint(s.Name, "/", w.tokens)
	if w.fault == "repeats tokens" {
		w.token = "the token"
	}
	w.open[w.token] = &deal{slot: s.Name}
	return nil
}

func (w *bankWriter) Write(_ context.Context, batch []int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.fault {
	case "shows records at once":
		w.visible = append(w.visible, batch...)
	case "keeps the slice":
		w.open[w.token].vs = append(w.open[w.token].vs, batch)
	default:
		w.open[w.token].vs = append(w.open[w.token].vs, slices.Clone(batch))
	}
	return nil
}

func (w *bankWriter) Prepare(_ context.Context, epoch uint64) (sink.Handle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.open[w.token]
	if w.fault != "prepares nothing" {
		w.ready[w.token] = d
		delete(w.open, w.token)
	}
	if w.fault == "shows records when prepared" {
		w.show(d)
	}
	native, err := json.Marshal(d.slot)
	h := sink.Handle{Operator: w.op, Slot: w.slot, Token: w.token, Epoch: epoch, Native: native}
	if w.fault == "names no epoch" {
		h.Epoch = 0
	}
	w.token, w.last = "", w.token
	return h, err
}

func (w *bankWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault != "leaves it open on Close" {
		delete(w.open, w.token)
	}
	if w.fault == "gives up the prepared on Close" {
		delete(w.ready, w.last)
	}
	return nil
}

type banker struct {
	*bank
	closed bool
}

func (c *banker) Commit(_ context.Context, hs []sink.Handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range hs {
		if err := c.commit(h); err != nil {
			return err
		}
	}
	return nil
}

func (c *banker) commit(h sink.Handle) error {
	if c.fault == "commits by slot" {
		for token, d := range c.ready {
			if d.slot == h.Slot.Name {
				c.show(d)
				delete(c.ready, token)
			}
		}
		return nil
	}
	d := c.ready[h.Token]
	switch {
	case d == nil && c.done[h.Token], d == nil && c.fault == "takes lost for done":
		if c.fault == "refuses a second commit" {
			return errors.New("unknown transaction")
		}
		return nil
	case d == nil:
		return sink.Permanent(errors.New("transaction is lost"))
	}
	c.show(d)
	c.done[h.Token] = true
	if c.fault != "commits again" {
		delete(c.ready, h.Token)
	}
	return nil
}

func (c *banker) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	if c.fault != "clears before it commits" && c.fault != "forgets what to keep" {
		if err := c.Commit(ctx, keep); err != nil {
			return err
		}
	}
	c.mu.Lock()
	for _, m := range []map[string]*deal{c.open, c.ready} {
		if c.fault == "clears the open only" {
			m = c.open
		}
		for token, d := range m {
			if c.mine(d, slots) {
				delete(m, token)
			}
		}
	}
	c.mu.Unlock()
	if c.fault == "clears before it commits" {
		return c.Commit(ctx, keep)
	}
	return nil
}

func (c *banker) mine(d *deal, slots []sink.Slot) bool {
	return slices.ContainsFunc(slots, func(s sink.Slot) bool {
		switch c.fault {
		case "clears nothing":
			return false
		case "clears everything":
			return true
		case "clears by prefix":
			return strings.HasPrefix(d.slot, s.Name)
		}
		return d.slot == s.Name
	})
}

func (c *banker) Close() error {
	if c.fault == "can't be closed twice" && c.closed {
		return errors.New("closed already")
	}
	c.closed = true
	return nil
}

func bankCase(b *bank) TxCase[int] {
	return TxCase[int]{Sink: b, Make: func(i int) int { return i + 1 }, Visible: b.see, Left: b.left}
}

func TestTwoPhaseSinkPasses(t *testing.T) { RunTx(t, bankCase(newBank(""))) }

func TestBrokenTwoPhaseSinksAreCaught(t *testing.T) {
	broken := map[string]string{ // fault to the promise that must be found broken
		"shows records at once":          "invisible before Commit",
		"shows records when prepared":    "invisible before Commit",
		"names no epoch":                 "invisible before Commit",
		"keeps the slice":                "the batch slice isn't kept",
		"prepares nothing":               "Commit can be repeated",
		"commits again":                  "Commit can be repeated",
		"refuses a second commit":        "Commit can be repeated",
		"commits by slot":                "a slot can be used again",
		"a slot serves once":             "a slot can be used again",
		"takes lost for done":            "Commit of a transaction that was cleared",
		"leaves it open on Close":        "Close gives up an open",
		"gives up the prepared on Close": "Close leaves a prepared",
		"can't be closed twice":          "Close can be called",
		"repeats tokens":                 "tokens are unique",
		"clears nothing":                 "crash after Prepare, Recover with 0",
		"clears the open only":           "crash after Prepare, Recover with 0",
		"clears everything":              "Recover touches no other",
		"clears by prefix":               "Recover touches no other",
		"clears before it commits":       "crash after Prepare, Recover with 1",
		"forgets what to keep":           "crash after Prepare, Recover with 1",
	}
	for fault, promise := range broken {
		t.Run(fault, func(t *testing.T) {
			x := newTx(bankCase(newBank(fault)))
			if err := broke(t, x.checks(), promise, x.run); err == nil {
				t.Errorf("%q holds", promise)
			}
		})
	}
}
