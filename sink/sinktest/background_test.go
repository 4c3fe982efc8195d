package sinktest

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/sink"
)

const hastyBatch, hastyRoom = 10, 100

// hasty is a sink that sends in the background, with at most one fault.
type hasty struct {
	m     *memory
	fault string
}

func (s hasty) Writer(ctx context.Context, _ sink.Task) (sink.Writer[int], error) {
	w := &hastyWriter{hasty: s, changed: make(chan struct{}, 1), wake: func() {}}
	w.base, w.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return w, nil
}

type hastyWriter struct {
	hasty
	base    context.Context
	cancel  context.CancelFunc
	sending sync.WaitGroup
	changed chan struct{}

	mu     sync.Mutex
	wake   func()
	buf    []int
	flying []int
	timer  *time.Timer
	closed bool
}

func (w *hastyWriter) Write(ctx context.Context, batch []int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf = append(w.buf, batch...)
	w.dispatch(time.Millisecond)
	return nil
}

// dispatch sends full batches at once and others after a while. mu is held.
func (w *hastyWriter) dispatch(wait time.Duration) {
	if w.closed || len(w.flying) > 0 || len(w.buf) == 0 {
		return
	}
	if len(w.buf) >= hastyBatch {
		w.send()
		return
	}
	if w.timer == nil {
		w.timer = time.AfterFunc(wait, func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.timer = nil
			if !w.closed && len(w.flying) == 0 && len(w.buf) > 0 {
				w.send()
			}
		})
	}
}

func (w *hastyWriter) send() {
	n := min(hastyBatch, len(w.buf))
	w.flying, w.buf = slices.Clone(w.buf[:n]), w.buf[n:]
	ctx := w.base
	if w.fault == "goes on after Close" {
		ctx = context.WithoutCancel(ctx)
	}
	batch := w.flying
	w.sending.Go(func() {
		err := w.m.put(ctx, batch)
		w.mu.Lock()
		if w.closed && w.fault != "goes on after Close" {
			w.mu.Unlock()
			return
		}
		w.flying = nil
		if err != nil && w.fault != "ignores errors" {
			w.buf = append(batch, w.buf...)
		}
		w.dispatch(time.Millisecond)
		wake := w.wake
		w.mu.Unlock()
		select {
		case w.changed <- struct{}{}:
		default:
		}
		wake()
	})
}

func (w *hastyWriter) Flush(ctx context.Context) error {
	for {
		w.mu.Lock()
		done := len(w.buf) == 0 && len(w.flying) == 0
		w.dispatch(0)
		w.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (w *hastyWriter) Room() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.buf)+len(w.flying) < hastyRoom
}

func (w *hastyWriter) OnRoom(wake func()) { w.wake = wake }

func (w *hastyWriter) Snapshot() ([]byte, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	vs := slices.Concat(w.flying, w.buf)
	if w.fault == "stores what is on its way twice" {
		vs = append(vs, w.flying...)
	}
	var state []byte
	for _, v := range vs {
		state = binary.AppendVarint(state, int64(v))
	}
	return state, nil
}

func (w *hastyWriter) Restore(states [][]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range states {
		for len(s) > 0 {
			v, n := binary.Varint(s)
			w.buf, s = append(w.buf, int(v)), s[n:]
		}
	}
	if w.fault != "sets no timer after Restore" {
		w.dispatch(time.Millisecond)
	}
	return nil
}

func (w *hastyWriter) Close() error {
	w.mu.Lock()
	w.closed = true
	if w.timer != nil {
		w.timer.Stop()
	}
	w.mu.Unlock()
	w.cancel()
	if w.fault != "goes on after Close" {
		w.sending.Wait()
	}
	return nil
}

var errRefuses = errors.New("memory takes nothing for the time being")

func TestBackgroundSinkPasses(t *testing.T) {
	m := newMemory()
	c := m.testCase(hasty{m: m})
	c.Limit = 5 * time.Second
	Run(t, c)
}

func TestBrokenBackgroundSinksAreCaught(t *testing.T) {
	for fault, promise := range map[string]string{
		"stores what is on its way twice": "a state holds each record once",
		"ignores errors":                  "Flush says yes only to what is delivered",
		"sets no timer after Restore":     "a writer that works in the background sends restored records",
		"goes on after Close":             "nothing is called after Close",
	} {
		t.Run(fault, func(t *testing.T) {
			m := newMemory()
			p := newPlain(m.testCase(hasty{m: m, fault: fault}))
			if err := broke(t, p.checks(), promise, p.run); err == nil {
				t.Errorf("%q holds", promise)
			}
		})
	}
}
