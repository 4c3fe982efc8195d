package async

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink"
)

func TestSnapshotDoesNotWait(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		d := &dest{answer: func(context.Context, []rec) error { <-gate; return nil }}
		w := open(t, d, Sink[rec]{MaxBatch: 2, MaxInFlight: 2})
		write(t, w, seq("a", 0, 5)...)
		synctest.Wait() // two batches hang, one record is buffered
		begun := time.Now()
		state, err := w.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "time", time.Since(begun), 0)
		equal(t, "state", stored(t, state), "[a0 a1 a2 a3 a4]")
		close(gate)
		flush(t, w)
		state, err = w.Snapshot()
		equal(t, "error", err, nil)
		equal(t, "state when all is delivered", stored(t, state), "[]")
	})
}

func TestSnapshotKeepsOrderAcrossRetries(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		d := &dest{answer: script(&Partial{map[int]error{1: errDown}})}
		w := open(t, d, Sink[rec]{MaxBatch: 3})
		write(t, w, seq("a", 0, 4)...)
		synctest.Wait()
		state, err := w.Snapshot()
		equal(t, "error", err, nil)
		equal(t, "state", stored(t, state), "[a1 a3]")
	})
}

func TestRestoreTakesSeveralStatesOverTheLimits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		hang := &dest{answer: func(ctx context.Context, _ []rec) error { <-ctx.Done(); return ctx.Err() }}
		var states [][]byte
		for _, k := range []string{"a", "b"} {
			w := open(t, hang, Sink[rec]{})
			write(t, w, seq(k, 0, 10)...)
			state, err := w.Snapshot()
			if err != nil {
				t.Fatal(err)
			}
			states = append(states, state)
		}
		d := &dest{}
		w := open(t, d, Sink[rec]{
			MaxBatch: 3, MaxBytes: 5, MaxBuffered: 3, MaxInFlight: 1, Linger: linger,
			Size: func(r rec) int { return 10 }, Key: func(r rec) string { return r.K },
		})
		if err := w.Restore(states); err != nil {
			t.Fatal(err)
		}
		equal(t, "room", w.Room(), false)
		<-time.After(linger) // nothing is written: the timer must run
		synctest.Wait()
		equal(t, "delivered", len(d.delivered()), 20)
	})
}

func TestRestoreArmsTheTimer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		hang := &dest{answer: func(ctx context.Context, _ []rec) error { <-ctx.Done(); return ctx.Err() }}
		old := open(t, hang, Sink[rec]{})
		write(t, old, rec{"a", 1})
		state, err := old.Snapshot()
		equal(t, "error", err, nil)
		d := &dest{}
		w := open(t, d, Sink[rec]{Linger: linger})
		equal(t, "error", w.Restore([][]byte{state}), nil)
		<-time.After(linger)
		synctest.Wait()
		equal(t, "delivered", d.sent(), "[a1]")
	})
}

func TestRestoreRefusesDamage(t *testing.T) {
	w := open(t, &dest{answer: func(ctx context.Context, _ []rec) error { <-ctx.Done(); return nil }}, Sink[rec]{})
	write(t, w, seq("a", 0, 3)...)
	good, err := w.Snapshot()
	equal(t, "error", err, nil)
	newer := append([]byte{stateFormat + 1}, good[1:]...)
	for name, bad := range map[string][]byte{
		"newer": newer, "longer": append(good[:len(good):len(good)], 0),
		"count": {stateFormat, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		if err := open(t, &dest{}, Sink[rec]{}).Restore([][]byte{good, bad}); err == nil {
			t.Errorf("%s state was taken", name)
		}
	}
	for n := 1; n < len(good); n++ { // of no bytes is that of a writer with nothing unsent
		if err := open(t, &dest{}, Sink[rec]{}).Restore([][]byte{good[:n]}); err == nil {
			t.Errorf("state cut at byte %d was taken", n)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte{1, 1, 2, 0x18, 0x20})
	f.Add([]byte{stateFormat, 1, 3, 2, 0x18, 0x20})
	f.Add([]byte{stateFormat, 0})
	f.Fuzz(func(t *testing.T, state []byte) {
		w, err := Sink[int]{Send: func(context.Context, []int) error { return nil }}.Writer(t.Context(), sink.Task{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		if err := w.(sink.Stateful).Restore([][]byte{state}); err == nil && (len(state) == 0 || state[0] > stateFormat) {
			t.Errorf("took %x", state)
		}
	})
}

// TestModel runs random writes, snapshots, crashes and restores against a destination that fails at random. Nothing may be
// lost, and with a key the first appearances of its records and the last one must be in order.
func TestModel(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	for i := range uint64(150) {
		t.Run(fmt.Sprint("seed=", seed+i), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { runModel(t, seed+i) })
			if t.Failed() {
				t.Logf("again: WEIRLINE_SEED=%d go test -run TestModel ./sink/async", seed+i)
			}
		})
	}
}

type model struct {
	t       *testing.T
	r       *rand.Rand
	cfg     Sink[rec]
	d       *dest
	w       *writer[rec]
	next    map[string]int // next number of each key
	state   []byte         // of the last complete epoch
	at      map[string]int // next, at that epoch
	refused map[rec]bool   // collected before that epoch, or since
}

func runModel(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	m := &model{
		t: t, r: r, d: &dest{}, next: map[string]int{}, at: map[string]int{}, refused: map[rec]bool{},
		cfg: Sink[rec]{
			MaxBatch: 1 + r.IntN(8), MaxInFlight: 1 + r.IntN(4), MaxBuffered: 1 + r.IntN(40), Linger: linger,
			Timeout: 500 * time.Millisecond,
		},
	}
	if r.IntN(3) > 0 {
		m.cfg.Key = func(r rec) string { return r.K }
	}
	if r.IntN(2) > 0 {
		m.cfg.Shard = func(r rec) string { return string('0' + (r.K[0]-'a')/2) }
	}
	if r.IntN(2) > 0 {
		m.cfg.Size, m.cfg.MaxBytes = func(r rec) int { return 1 + r.N%7 }, 1+r.IntN(20)
	}
	m.d.answer = m.answer(rand.New(rand.NewPCG(seed, 2)))
	m.w = open(t, m.d, m.cfg)
	for range 120 {
		m.step()
	}
	flush(t, m.w)
	m.collect()
	m.check()
}

// answer fails at random. It is called by several goroutines: mu makes its draws whole, not their order.
func (m *model) answer(r *rand.Rand) func(context.Context, []rec) error {
	draws := make(chan *rand.Rand, 1)
	draws <- r
	return func(ctx context.Context, batch []rec) error {
		r := <-draws
		wait, what, bad := time.Duration(r.IntN(700))*time.Millisecond, r.IntN(10), r.IntN(len(batch))
		draws <- r
		if what < 5 {
			wait /= 50
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
		switch what {
		case 0:
			return errDown
		case 1:
			return &Partial{map[int]error{bad: errDown}}
		case 2:
			return &Partial{map[int]error{bad: sink.RetryAfter(errDown, time.Second)}}
		case 3:
			return &sink.Rejected{Errs: map[int]error{bad: errors.New("refused")}}
		case 4:
			return Refuse(errBad)
		}
		return nil
	}
}

func (m *model) step() {
	switch n := m.r.IntN(20); {
	case n < 13:
		var batch []rec
		for range 1 + m.r.IntN(6) {
			k := string(rune('a' + m.r.IntN(4)))
			batch = append(batch, rec{k, m.next[k]})
			m.next[k]++
		}
		write(m.t, m.w, batch...)
		clear(batch) // the slice is recycled
	case n < 16:
		<-time.After(time.Duration(m.r.IntN(300)) * time.Millisecond)
	case n < 18:
		m.collect()
		m.snapshot()
	default:
		m.crash()
	}
}

func (m *model) collect() {
	for _, r := range m.w.Rejects() {
		m.refused[r.Value.(rec)] = true
	}
}

func (m *model) snapshot() {
	state, err := m.w.Snapshot()
	if err != nil {
		m.t.Fatal(err)
	}
	m.state, m.at = state, map[string]int{}
	for k, n := range m.next {
		m.at[k] = n
	}
}

// crash loses the writer and everything since the last epoch; the source will write that again.
func (m *model) crash() {
	if err := m.w.Close(); err != nil {
		m.t.Fatal(err)
	}
	m.w = open(m.t, m.d, m.cfg)
	m.next = map[string]int{}
	for k, n := range m.at {
		m.next[k] = n
	}
	if m.state != nil {
		if err := m.w.Restore([][]byte{m.state}); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *model) check() {
	got := m.d.delivered()
	last := map[string]int{}
	seen := map[rec]bool{}
	for _, r := range got {
		seen[r], last[r.K] = true, r.N
	}
	for k, n := range m.next {
		want := -1
		for i := range n {
			r := rec{k, i}
			if !seen[r] && !m.refused[r] {
				m.t.Errorf("%v is lost", r)
			}
			if !m.refused[r] {
				want = i
			}
		}
		if m.cfg.Key != nil && want >= 0 && last[k] < want {
			m.t.Errorf("the last effect of key %s is record %d, want %d", k, last[k], want)
		}
	}
}
