package sinktest

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// memory is a destination of ints that can be made to hang.
type memory struct {
	mu   sync.Mutex
	got  []int
	gate chan struct{} // closed while it answers
	down bool
}

func newMemory() *memory {
	m := &memory{gate: make(chan struct{})}
	close(m.gate)
	return m
}

func (m *memory) put(ctx context.Context, vs []int) error {
	m.mu.Lock()
	gate := m.gate
	m.mu.Unlock()
	select {
	case <-gate:
	case <-ctx.Done():
		return ctx.Err()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errRefuses
	}
	m.got = append(m.got, vs...)
	return nil
}

func (m *memory) read() ([]int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]int(nil), m.got...), nil
}

func (m *memory) block() func() {
	m.mu.Lock()
	defer m.mu.Unlock()
	gate := make(chan struct{})
	m.gate = gate
	return func() { close(gate) }
}

func (m *memory) fail() func() {
	set := func(down bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.down = down
	}
	set(true)
	return func() { set(false) }
}

func (m *memory) testCase(s sink.Sink[int]) Case[int] {
	return Case[int]{
		Sink: s, Make: func(i int) int { return i + 1 }, Read: m.read, Block: m.block, Fail: m.fail,
		Records: 50, Limit: 200 * time.Millisecond,
	}
}

func TestAsyncSinkPasses(t *testing.T) {
	m := newMemory()
	c := m.testCase(async.Sink[int]{Send: m.put, MaxBatch: 10, MaxBuffered: 200})
	c.Limit = 5 * time.Second
	Run(t, c)
}

func TestSimpleSinkPasses(t *testing.T) {
	m := newMemory()
	c := m.testCase(faulty{m: m})
	c.Limit = 5 * time.Second
	c.Block = nil // it has nothing in the background that could go on meanwhile
	Run(t, c)
}

// faulty is a simple buffering sink with at most one fault.
type faulty struct {
	m     *memory
	fault string
	leaks chan struct{}
}

func (s faulty) Idempotent() bool { return s.fault == "claims to be idempotent" }

func (s faulty) Writer(context.Context, sink.Task) (sink.Writer[int], error) {
	w := &faultyWriter{faulty: s}
	if s.fault == "leaves a goroutine" {
		go func() { <-s.leaks }()
	}
	return w, nil
}

type faultyWriter struct {
	faulty
	buf    []int
	kept   [][]int
	closed bool
}

func (w *faultyWriter) Write(ctx context.Context, batch []int) error {
	switch w.fault {
	case "keeps the slice":
		w.kept = append(w.kept, batch)
	case "ignores the context":
		return w.m.put(context.WithoutCancel(ctx), batch)
	case "writes twice":
		w.buf = append(append(w.buf, batch...), batch...)
	default:
		w.buf = append(w.buf, batch...)
	}
	return nil
}

func (w *faultyWriter) Flush(ctx context.Context) error {
	if w.fault == "flushes nothing" {
		return nil
	}
	for _, b := range w.kept {
		w.buf = append(w.buf, b...)
	}
	buf := w.buf
	w.buf, w.kept = nil, nil
	if w.fault == "forgets the last record" && len(buf) > 0 {
		buf = buf[:len(buf)-1]
	}
	return w.m.put(ctx, buf)
}

func (w *faultyWriter) Snapshot() ([]byte, error) {
	var state []byte
	vs := w.buf
	switch w.fault {
	case "stores too little":
		vs = vs[:len(vs)/2]
	case "waits in Snapshot":
		return nil, w.m.put(context.Background(), vs)
	case "keeps sent records in its state":
		vs = append(vs, w.m.got...)
	}
	for _, v := range vs {
		state = binary.AppendVarint(state, int64(v))
	}
	return state, nil
}

func (w *faultyWriter) Restore(states [][]byte) error {
	if w.fault == "restores one state only" && len(states) > 1 {
		states = states[:1]
	}
	for _, s := range states {
		for len(s) > 0 {
			v, n := binary.Varint(s)
			w.buf, s = append(w.buf, int(v)), s[n:]
		}
	}
	return nil
}

func (w *faultyWriter) Close() error {
	if w.fault == "can't be closed twice" && w.closed {
		return errors.New("closed already")
	}
	w.closed = true
	if w.fault == "hangs in Close" {
		return w.m.put(context.Background(), nil)
	}
	return nil
}

func TestBrokenSinksAreCaught(t *testing.T) {
	broken := map[string]string{ // fault to the promise that must be found broken
		"flushes nothing":                 "all that was written is delivered",
		"forgets the last record":         "all that was written is delivered",
		"writes twice":                    "all that was written is delivered",
		"keeps the slice":                 "the batch slice isn't kept",
		"ignores the context":             "a cancelled context ends Write and Flush while",
		"stores too little":               "a state holds what is not delivered",
		"keeps sent records in its state": "the state of a writer with nothing to send",
		"restores one state only":         "several states are merged",
		"waits in Snapshot":               "Snapshot doesn't wait",
		"claims to be idempotent":         "a sink that says it is idempotent is",
		"can't be closed twice":           "Close can be called unused and twice",
		"hangs in Close":                  "Close ends while the destination hangs",
		"leaves a goroutine":              "all that was written is delivered",
	}
	for fault, promise := range broken {
		t.Run(fault, func(t *testing.T) {
			m := newMemory()
			leaks := make(chan struct{})
			defer close(leaks)
			p := newPlain(m.testCase(faulty{m: m, fault: fault, leaks: leaks}))
			if err := broke(t, p.checks(), promise, p.run); err == nil {
				t.Errorf("%q holds", promise)
			}
		})
	}
}

// broke runs the check whose name begins with promise.
func broke(t *testing.T, cs []check, promise string, run func(context.Context, check) error) error {
	t.Helper()
	for _, ch := range cs {
		if strings.HasPrefix(ch.name, promise) {
			err := run(t.Context(), ch)
			t.Log(err)
			return err
		}
	}
	t.Fatalf("no promise begins with %q", promise)
	return nil
}
