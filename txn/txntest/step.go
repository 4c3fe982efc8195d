package txntest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/sink"
)

// Step is a place in the commit protocol where a process dies.
type Step string

// The steps, in the order of an epoch and then of the recovery that follows a death.
const (
	BeforeFlush    Step = "before flush"      // a batch was written, its barrier hasn't come
	BeforePrepare  Step = "before prepare"    // at the barrier, nothing flushed
	InPrepare      Step = "in prepare"        // at some instant of it: after a flush, after a request and before its answer
	AfterPrepare   Step = "after prepare"     // prepared, and nobody else knows of it
	AfterAck       Step = "after the ack"     // every task has acked, the epoch isn't complete
	AfterPointer   Step = "after the pointer" // it is complete, nothing is committed
	InCommit       Step = "in commit"         // at some instant of it: after a request and before its answer
	HalfCommitted  Step = "half committed"    // of the epoch's transactions
	BeforeRecorded Step = "commit unrecorded" // all committed, which isn't recorded
	AfterRecorded  Step = "commit recorded"   // and the tasks haven't heard that slots are free

	BeforeRecover Step = "before recovery"
	HalfKept      Step = "half recovered"      // of what is kept is committed
	BeforeClear   Step = "before clearing"     // all of it is, and no leftover is cleared
	HalfCleared   Step = "half cleared"        // of the slots
	AfterRecover  Step = "recovery unrecorded" // all cleared, which isn't recorded
)

// Steps are all of them, in order.
func Steps() []Step {
	return []Step{
		BeforeFlush, BeforePrepare, InPrepare, AfterPrepare, AfterAck, AfterPointer, InCommit, HalfCommitted, BeforeRecorded, AfterRecorded,
		BeforeRecover, HalfKept, BeforeClear, HalfCleared, AfterRecover,
	}
}

// recovers says whether a step is one of a recovery, which needs something that an earlier death has left.
func (s Step) recovers() bool {
	return s == BeforeRecover || s == HalfKept || s == BeforeClear || s == HalfCleared || s == AfterRecover
}

// Child is what the process of a job is told.
type Child struct {
	Args        map[string]string // those of [Kills] or [Mishaps]
	Parallelism int
	Step        Step // where it dies; "" for the one that lives to the end of the input
	Lossy       bool // its sink is to accept losses

	told    told
	job     string // its name
	weather weather
	left    atomic.Int64 // times the step is passed, and one
	began   sync.Map     // numbers of epochs to the times of their begins
	busy    sync.Map     // names of slots to tokens of what was prepared in them and isn't recorded as committed
}

// NewChild is for a job whose process something else than [Kills] starts: it dies when it reaches step the first time.
func NewChild(step Step) *Child {
	c := &Child{Step: step}
	c.left.Store(1)
	return c
}

// At dies if step is the one, and it was passed as often as it should be. A job may call it for steps of its own.
func (c *Child) At(step Step) {
	if c.Step == step && c.left.Add(-1) == 0 {
		die()
	}
}

// die ends the process as kill -9 does.
func die() {
	self, err := os.FindProcess(os.Getpid())
	if err := errors.Join(err, self.Kill()); err != nil {
		panic(err)
	}
	select {}
}

// during runs f and, if step is the one, dies at a random instant of it, at its end if that is sooner. last is how long
// such calls take.
func (c *Child) during(step Step, last *time.Duration, f func() error) error {
	if c.Step != step {
		return f()
	}
	if c.left.Add(-1) == 0 {
		time.AfterFunc(time.Duration(rand.Float64()*float64(*last)), die)
		_ = f() // the timer was late
		die()
	}
	began := time.Now()
	defer func() { *last = time.Since(began) }()
	return f()
}

// Store is what the engine's Config.Store wants: the store in dir, in a process that may die before and after an epoch
// becomes complete.
func (c *Child) Store(dir string) func(o store.Options) (store.Store, error) {
	return func(o store.Options) (store.Store, error) {
		s, err := store.Open(dir, o)
		if err != nil {
			return nil, err
		}
		c.job = o.Job
		return mortalStore{s, c}, nil
	}
}

type mortalStore struct {
	store.Store
	c *Child
}

// lingers is how long a process waits with its death at most, so that what somebody began too early is done by then.
const lingers = 20 * time.Millisecond

// epoch is when an epoch began, and how long after the one before.
func (c *Child) epoch(n uint64) (began time.Time, since time.Duration) {
	if at, is := c.began.Load(n); is {
		began = at.(time.Time)
	}
	if before, is := c.began.Load(n - 1); is {
		since = began.Sub(before.(time.Time))
	}
	return began, since
}

func (s mortalStore) NextEpoch() (uint64, error) {
	n, err := s.Store.NextEpoch()
	s.c.began.Store(n, time.Now())
	return n, err
}

func (s mortalStore) Publish(r *store.Record) error {
	if s.c.Step == AfterAck {
		<-time.After(time.Duration(rand.Int64N(int64(lingers))))
		s.c.At(AfterAck)
	}
	err := s.c.call(true, func() error { return s.Store.Publish(r) })
	if err == nil {
		s.c.At(AfterPointer)
	}
	return err
}

func (s mortalStore) Committed(hs []sink.Handle) error {
	err := s.c.call(false, func() error { return s.Store.Committed(hs) })
	if err == nil {
		for _, h := range hs {
			s.c.busy.Delete(h.Slot.Name)
		}
		s.c.At(AfterRecorded)
	}
	return err
}

// Wrap returns the sink in a process that may die.
func Wrap[T any](c *Child, s sink.TwoPhase[T]) sink.TwoPhase[T] { return mortal[T]{s, c} }

type mortal[T any] struct {
	sink.TwoPhase[T]
	c *Child
}

func (m mortal[T]) Unwrap() any { return m.TwoPhase }

func (m mortal[T]) TxWriter(ctx context.Context, t sink.Task) (sink.TxWriter[T], error) {
	w, err := m.TwoPhase.TxWriter(ctx, t)
	if err != nil {
		return nil, err
	}
	return &mortalWriter[T]{TxWriter: w, c: m.c, op: t.Operator}, nil
}

func (m mortal[T]) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	c, err := m.TwoPhase.Committer(ctx, m.c.noting(t))
	if err != nil {
		return nil, err
	}
	return &mortalCommitter{Committer: c, c: m.c, op: t.Operator}, nil
}

type mortalWriter[T any] struct {
	sink.TxWriter[T]
	c    *Child
	op   string
	tx   Trace // the open transaction
	last time.Duration
}

func (w *mortalWriter[T]) Unwrap() any { return w.TxWriter }

// Begin ends the process, with a word, if the slot is used again too early.
func (w *mortalWriter[T]) Begin(ctx context.Context, s sink.Slot) error {
	if token, is := w.c.busy.Load(s.Name); is {
		fmt.Fprintf(os.Stderr, "slot %s is used again before the commit of its transaction %s is recorded\n", s.Name, token)
		os.Exit(1)
	}
	err := w.TxWriter.Begin(ctx, s)
	w.tx = Trace{Begun: time.Now()}
	return err
}

func (w *mortalWriter[T]) Write(ctx context.Context, batch []T) error {
	if err := w.c.fails(w.op); err != nil {
		return err
	}
	err := w.TxWriter.Write(ctx, batch)
	if err == nil {
		w.tx.Records += len(batch)
		w.c.At(BeforeFlush)
	}
	return err
}

func (w *mortalWriter[T]) Prepare(ctx context.Context, epoch uint64) (h sink.Handle, err error) {
	w.c.At(BeforePrepare)
	err = w.c.during(InPrepare, &w.last, func() error {
		h, err = w.TxWriter.Prepare(ctx, epoch)
		return err
	})
	if err == nil {
		w.c.busy.Store(h.Slot.Name, h.Token)
		w.tx.Epoch, w.tx.Since = w.c.epoch(epoch)
		w.tx.Handle = sink.Handle{Token: h.Token, Epoch: epoch, Native: h.Native}
		w.c.prepared(w.tx)
		w.c.At(AfterPrepare)
	}
	return h, err
}

type mortalCommitter struct {
	sink.Committer
	c    *Child
	op   string
	last time.Duration
}

func (m *mortalCommitter) Unwrap() any { return m.Committer }

func (m *mortalCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	if m.c.Step == HalfCommitted && len(hs) > 1 {
		if err := m.Committer.Commit(ctx, hs[:len(hs)/2]); err != nil {
			return err
		}
		m.c.At(HalfCommitted)
	}
	err := m.c.during(InCommit, &m.last, func() error { return m.Committer.Commit(ctx, hs) })
	if err == nil {
		m.c.note("committed %s", m.op)
		m.c.finished(hs, false)
		m.c.At(BeforeRecorded)
	}
	return err
}

// Recover is cut into pieces where a process dies between them: what is left of it the next process does.
func (m *mortalCommitter) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	m.c.At(BeforeRecover)
	var err error
	switch m.c.Step {
	case HalfKept:
		err = m.Committer.Recover(ctx, keep[:len(keep)/2], nil)
	case BeforeClear:
		err = m.Committer.Recover(ctx, keep, nil)
	case HalfCleared:
		err = m.Committer.Recover(ctx, keep, slots[:len(slots)/2])
	}
	if err != nil {
		return fmt.Errorf("part of a recovery: %w", err)
	}
	m.c.At(HalfKept)
	m.c.At(BeforeClear)
	m.c.At(HalfCleared)
	if err := m.Committer.Recover(ctx, keep, slots); err != nil {
		return err
	}
	for _, s := range slots {
		m.c.busy.Delete(s.Name)
	}
	m.c.note("recovered %s", m.op)
	m.c.finished(keep, true)
	m.c.At(AfterRecover)
	return nil
}
