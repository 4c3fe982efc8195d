package txntest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// bank is a destination in memory with at most one fault.
type bank struct {
	mu      sync.Mutex
	fault   string
	away    bool
	fenced  map[string]int   // how often a slot was cleared
	ready   map[string]*deal // prepared, by name
	log     map[string]bool  // by name: true is committed
	visible []int
}

type deal struct {
	name  string
	vs    []int
	since time.Time
}

func newBank(fault string) *bank {
	return &bank{fault: fault, fenced: map[string]int{}, ready: map[string]*deal{}, log: map[string]bool{}}
}

func (b *bank) see() ([]int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.visible), nil
}

func (b *bank) left(s sink.Slot) (names []string, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name := range b.ready {
		if slot, _, _ := txn.SlotOf(name); slot == s.Name {
			names = append(names, name)
		}
	}
	return names, nil
}

func (b *bank) rollBack(_ context.Context, h sink.Handle) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	name := txn.NameOf(h.Slot.Name, h.Token)
	delete(b.ready, name)
	b.log[name] = false
	return nil
}

func (b *bank) forget(_ context.Context, h sink.Handle) (sink.Handle, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.log, txn.NameOf(h.Slot.Name, h.Token))
	return h, nil
}

func (b *bank) kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = true
	if b.fault == "loses prepared ones in a crash" {
		clear(b.ready)
	}
	b.fenced["*"]++ // connections are broken
}

func (b *bank) restart(context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.away = false
	return nil
}

// bankSink is the sink. Its writers' methods find the bank's fault.
type bankSink struct {
	*bank
	lost txn.Loss
}

func (s bankSink) TxWriter(_ context.Context, t sink.Task) (sink.TxWriter[int], error) {
	return &bankWriter{bank: s.bank, op: t.Operator}, nil
}

func (s bankSink) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
	c := txn.NewCommitter(&banker{s.bank}, t, s.lost)
	switch s.fault {
	case "clears before it commits", "takes a cancelled commit for done", "counts no loss":
		return faultyCommitter{c, &banker{s.bank}}, nil
	}
	return c, nil
}

type bankWriter struct {
	*bank
	op    string
	slot  sink.Slot
	since [2]int // of the fences, at Begin
	name  string
	vs    []int
}

const bankSlot = 60

func (w *bankWriter) Begin(_ context.Context, s sink.Slot) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := txn.CheckSlot(s, bankSlot); err != nil && w.fault != "takes any name" {
		return err
	}
	w.slot, w.since, w.vs = s, [2]int{w.fenced[s.Name], w.fenced["*"]}, nil
	w.name = txn.NameOf(s.Name, txn.NewToken())
	return nil
}

func (w *bankWriter) Write(_ context.Context, batch []int) error {
	w.vs = append(w.vs, batch...)
	return nil
}

func (w *bankWriter) Prepare(_ context.Context, epoch uint64) (sink.Handle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since != [2]int{w.fenced[w.slot.Name], w.fenced["*"]} && w.fault != "fences nobody" {
		return sink.Handle{}, errors.New("the session was ended")
	}
	if len(w.vs) > 0 || w.fault != "prepares nothing of nothing" {
		w.ready[w.name] = &deal{w.name, w.vs, time.Now()}
	}
	native, err := json.Marshal(w.slot.Name)
	_, token, _ := txn.SlotOf(w.name)
	return sink.Handle{Operator: w.op, Slot: w.slot, Token: token, Epoch: epoch, Native: native}, err
}

func (w *bankWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fault == "an old writer's Close ends the slot's session" && w.slot.Name != "" {
		w.fenced[w.slot.Name]++
	}
	return nil
}

// banker is the bank's resource.
type banker struct{ *bank }

var errAway = errors.New("the bank is closed")

func (r *banker) Commit(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := txn.NameOf(h.Slot.Name, h.Token)
	d := r.ready[name]
	switch {
	case r.away && r.fault == "gives up when it is away":
		return txn.Stop, errAway
	case r.away:
		return txn.Again, errAway
	case d == nil:
		return txn.Absent, errors.New("not prepared")
	}
	delete(r.ready, name)
	r.log[name] = true
	r.visible = append(r.visible, d.vs...)
	return txn.Done, nil
}

func (r *banker) Prove(_ context.Context, h sink.Handle) (txn.Outcome, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done, known := r.log[txn.NameOf(h.Slot.Name, h.Token)]
	switch {
	case done, !known && r.fault == "unknown is done", known && r.fault == "rolled back is done":
		return txn.Done, nil
	case known:
		return txn.Lost, errors.New("rolled back")
	}
	return txn.Unknown, errors.New("nobody knows")
}

func (r *banker) Clear(_ context.Context, slots []sink.Slot) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range slots {
		r.fenced[s.Name]++
		for name := range r.ready {
			slot, _, _ := txn.SlotOf(name)
			if slot == s.Name || r.fault == "clears by prefix" && strings.HasPrefix(slot, s.Name) {
				delete(r.ready, name)
				r.log[name] = false
			}
		}
	}
	return nil
}

func (r *banker) Close() error { return nil }

func (r *banker) List(_ context.Context, prefix string) (out []txn.Pending, _ error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ds := slices.SortedFunc(maps.Values(r.ready), func(a, b *deal) int {
		return cmp.Or(a.since.Compare(b.since), strings.Compare(a.name, b.name))
	})
	for _, d := range ds {
		slot, token, _ := txn.SlotOf(d.name)
		if txn.Under(slot, prefix) || r.fault == "lists everything" {
			out = append(out, txn.Pending{Name: d.name, Slot: slot, Token: token, Age: time.Since(d.since)})
		}
	}
	return out, nil
}

func (r *banker) Finish(ctx context.Context, p txn.Pending, commit bool) error {
	h := sink.Handle{Slot: sink.Slot{Name: p.Slot}, Token: p.Token}
	if !commit {
		return r.rollBack(ctx, h)
	}
	if o, err := r.Commit(ctx, h); o != txn.Done {
		return fmt.Errorf("commit by hand: %w", err)
	}
	return nil
}

// faultyCommitter breaks rules that package txn keeps.
type faultyCommitter struct {
	sink.Committer
	r *banker
}

func (c faultyCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	if c.r.fault == "takes a cancelled commit for done" && ctx.Err() != nil {
		return nil
	}
	err := c.Committer.Commit(ctx, hs)
	if c.r.fault == "counts no loss" && sink.IsPermanent(err) {
		return c.Commit(ctx, hs[1:])
	}
	return err
}

func (c faultyCommitter) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	if c.r.fault == "clears before it commits" {
		if err := c.r.Clear(ctx, slots); err != nil {
			return err
		}
	}
	return c.Committer.Recover(ctx, keep, slots)
}
