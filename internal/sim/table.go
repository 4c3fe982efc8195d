package sim

import (
	"context"
	"fmt"
	"sync"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// Row is what every tail writes. Which fields count depends on the tail.
type Row struct {
	ID    int64
	Key   int
	Start int64
	N     int64
	Sum   int64
}

// name is what an idempotent destination keeps rows by.
func (r Row) name() string { return fmt.Sprintf("%d %d %d", r.ID, r.Key, r.Start) }

// table is a destination of any kind.
type table struct {
	w    *world
	name string

	mu       sync.Mutex
	rows     []Row // visible, in the order in which they became so
	byName   map[string]Row
	prepared map[string]*transaction // by token
	slots    map[int]string          // token last prepared under a slot
	done     map[string]bool         // tokens committed
	tokens   int
}

type transaction struct {
	slot  sink.Slot
	epoch uint64
	rows  []Row
}

func newTable(w *world, name string) *table {
	return &table{
		w: w, name: name, byName: map[string]Row{}, prepared: map[string]*transaction{}, slots: map[int]string{},
		done: map[string]bool{},
	}
}

// side is a table as one incarnation sees it.
type side struct {
	*table
	inc *incarnation
}

// TxWriter implements sink.TwoPhase.
func (s side) TxWriter(context.Context, sink.Task) (sink.TxWriter[Row], error) {
	return &txWriter{side: s}, nil
}

// Committer implements sink.TwoPhase.
func (s side) Committer(context.Context, sink.Task) (sink.Committer, error) {
	return &committer{side: s}, nil
}

type txWriter struct {
	side
	slot sink.Slot
	open []Row
}

func (w *txWriter) Begin(ctx context.Context, slot sink.Slot) error {
	if err := w.inc.at(ctx, atBegin); err != nil {
		return err
	}
	w.mu.Lock()
	token := w.slots[slot.ID]
	w.mu.Unlock()
	if token != "" && !w.inc.isDead() {
		w.w.mu.Lock()
		free := w.w.recorded[token]
		w.w.mu.Unlock()
		if !free {
			w.w.wrong("%s: slot %d begins a transaction, but the commit of %s under it isn't recorded", w.name, slot.ID, token)
		}
	}
	w.slot, w.open = slot, nil
	return nil
}

func (w *txWriter) Write(ctx context.Context, rows []Row) error {
	if err := w.inc.at(ctx, atWrite); err != nil {
		return err
	}
	w.open = append(w.open, rows...)
	return nil
}

func (w *txWriter) Prepare(ctx context.Context, epoch uint64) (sink.Handle, error) {
	if err := w.inc.at(ctx, atPrepare); err != nil {
		return sink.Handle{}, err
	}
	w.mu.Lock()
	if w.inc.isDead() {
		w.mu.Unlock()
		return sink.Handle{}, sink.Permanent(errDead)
	}
	w.tokens++
	token := fmt.Sprintf("%s-%d-%d", w.name, w.slot.ID, w.tokens)
	w.prepared[token] = &transaction{slot: w.slot, epoch: epoch, rows: w.open}
	w.slots[w.slot.ID] = token
	w.mu.Unlock()
	w.open = nil
	return sink.Handle{Token: token}, w.inc.at(ctx, atPrepared)
}

func (w *txWriter) Close() error { return nil }

type committer struct {
	side
	last uint64 // epoch
}

func (c *committer) Commit(ctx context.Context, hs []sink.Handle) error {
	if err := c.inc.at(ctx, atCommit); err != nil {
		return err
	}
	for i, h := range hs {
		if h.Epoch < c.last && !c.isDone(h) { // a retry may begin with what is done
			c.w.wrong("%s: epoch %d is committed after %d", c.name, h.Epoch, c.last)
		}
		c.last = max(c.last, h.Epoch)
		if err := c.commit(h); err != nil {
			return err
		}
		if i == 0 && len(hs) > 1 {
			if err := c.inc.at(ctx, atMidCommit); err != nil {
				return err
			}
		}
	}
	return c.inc.at(ctx, atCommitted)
}

func (c *committer) isDone(h sink.Handle) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done[h.Token]
}

func (c *committer) commit(h sink.Handle) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inc.isDead() {
		return sink.Permanent(errDead)
	}
	if c.done[h.Token] {
		return nil
	}
	tx := c.prepared[h.Token]
	if tx == nil {
		c.w.wrong("%s: transaction %s of epoch %d is gone before its commit", c.name, h.Token, h.Epoch)
		return sink.Permanent(errPlanned)
	}
	c.rows = append(c.rows, tx.rows...)
	delete(c.prepared, h.Token)
	c.done[h.Token] = true
	return nil
}

func (c *committer) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	if err := c.inc.at(ctx, atRecover); err != nil {
		return err
	}
	for _, h := range keep {
		if err := c.commit(h); err != nil {
			return err
		}
	}
	c.clear(slots)
	return c.inc.at(ctx, atRecovered)
}

// clear gives up what is left under the slots.
func (c *committer) clear(slots []sink.Slot) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inc.isDead() {
		return
	}
	for _, s := range slots {
		token := c.slots[s.ID]
		if c.prepared[token] != nil {
			for t, tx := range c.prepared {
				if tx.slot.ID == s.ID {
					delete(c.prepared, t)
				}
			}
			delete(c.slots, s.ID)
		}
	}
}

func (c *committer) Close() error { return nil }

// plain is a table that takes rows at once.
type plain struct {
	side
	same bool // by name
}

// Writer implements sink.Sink.
func (p plain) Writer(context.Context, sink.Task) (sink.Writer[Row], error) {
	return &plainWriter{plain: p}, nil
}

// Idempotent implements sink.Idempotent.
func (p plain) Idempotent() bool { return p.same }

type plainWriter struct {
	plain
	held []Row
}

func (p *plainWriter) Write(ctx context.Context, rows []Row) error {
	if err := p.inc.at(ctx, atWrite); err != nil {
		return err
	}
	p.held = append(p.held, rows...)
	return nil
}

func (p *plainWriter) Flush(ctx context.Context) error {
	if err := p.inc.at(ctx, atFlush); err != nil {
		return err
	}
	p.put(p.inc, p.held)
	p.held = nil
	return nil
}

func (p *plainWriter) Close() error { return nil }

// put makes rows visible.
func (t *table) put(inc *incarnation, rows []Row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if inc.isDead() {
		return
	}
	t.rows = append(t.rows, rows...)
	for _, r := range rows {
		t.byName[r.name()] = r
	}
}

// background is a table behind sink/async.
func (s side) background() sink.Sink[Row] {
	return async.Sink[Row]{
		MaxBatch: 1 + s.inc.draw(6), MaxInFlight: 1 + s.inc.draw(3), Linger: 1e6,
		Retry: async.Retry{Base: 1e6, Max: 20e6},
		Send: func(ctx context.Context, rows []Row) error {
			if err := s.inc.at(ctx, atSend); err != nil {
				return err
			}
			s.put(s.inc, rows)
			return s.inc.at(ctx, atSent)
		},
	}
}

// deadLetters counts bad records by what they say of themselves.
type deadLetters struct {
	mu   sync.Mutex
	seen map[string]int
}

type deadSink struct {
	*deadLetters
	inc *incarnation
}

// Writer implements sink.Sink.
func (d deadSink) Writer(context.Context, sink.Task) (sink.Writer[engine.DeadLetter], error) {
	return d, nil
}

// Write keeps a batch.
func (d deadSink) Write(_ context.Context, ls []engine.DeadLetter) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inc.isDead() {
		return sink.Permanent(errDead)
	}
	for _, l := range ls {
		if l.Raw != nil {
			d.seen[string(l.Raw)]++
		} else {
			d.seen[l.Value]++
		}
	}
	return nil
}

// Flush has nothing to do.
func (d deadSink) Flush(context.Context) error { return nil }

// Close has nothing to do.
func (d deadSink) Close() error { return nil }
