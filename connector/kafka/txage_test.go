package kafka

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

// TestTxAge has a transaction that gets old: at half of its timeout an epoch is asked for, at 70 % it takes no more, and what is
// too old isn't prepared.
func TestTxAge(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("age")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	s.Timeout = 2 * time.Second
	var asked atomic.Int64
	m := &counts{}
	of := sinkTask()
	of.Metrics, of.Request = m, func() { asked.Store(time.Now().UnixNano()) }
	w, err := s.TxWriter(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	gated, _ := sink.As[sink.Gated](w)
	failing, _ := sink.As[sink.Failing](w)
	woken := make(chan struct{}, 100)
	gated.OnRoom(func() { woken <- struct{}{} })

	begun := time.Now()
	if err := errors.Join(w.Begin(t.Context(), slot(topic, 1)), w.Write(t.Context(), []string{"a"})); err != nil {
		t.Fatal(err)
	}
	if !gated.Room() {
		t.Error("a young transaction is held")
	}
	eventually(t, func() bool { return !gated.Room() })
	held := time.Since(begun)
	if at := time.Unix(0, asked.Load()).Sub(begun); at < s.Timeout/2 || at > held || held < s.Timeout*7/10 {
		t.Errorf("an epoch was asked for after %v, no more was taken after %v, of %v", at, held, s.Timeout)
	}
	h, err := w.Prepare(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if !gated.Room() {
		t.Error("held after Prepare")
	}
	if err := finisher(t, s, sinkTask()).Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, topic, "a")

	if err := errors.Join(w.Begin(t.Context(), slot(topic, 2)), w.Write(t.Context(), []string{"b"})); err != nil {
		t.Fatal(err)
	}
	for failing.Err() == nil { // the task is woken when it is over
		wait(t, woken)
	}
	if _, err := w.Prepare(t.Context(), 1); sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID {
		t.Errorf("prepared in time: %v", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.n["held_transactions"] != 2 || m.g["transaction_age_ratio"] < 1 {
		t.Errorf("metrics: %v, %v", m.n, m.g)
	}
}

// wait is until the task would be woken.
func wait(t *testing.T, woken <-chan struct{}) {
	t.Helper()
	select {
	case <-woken:
	case <-time.After(20 * time.Second):
		t.Fatal("nobody wakes the task")
	}
}

// TestTxOverdue has prepared transactions that get older than their timeout: one that was committed is no concern, one that
// was rolled back must be written again.
func TestTxOverdue(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("overdue")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	s.Timeout = time.Second
	fails := func(n int, commit bool) error {
		w, c := openTx(t, s)
		gated, _ := sink.As[sink.Gated](w)
		failing, _ := sink.As[sink.Failing](w)
		woken := make(chan struct{}, 100)
		gated.OnRoom(func() { woken <- struct{}{} })
		h := prepare(t, w, slot(topic, n), 1, "a")
		if err := failing.Err(); err != nil {
			t.Errorf("before it is old: %v", err)
		}
		if commit {
			if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
				t.Fatal(err)
			}
		}
		for p := w.(*txWriter[string]).resting[h.Slot.Name]; ; {
			wait(t, woken)
			if err := failing.Err(); err != nil || p.deadline.IsZero() {
				return err
			}
		}
	}
	if err := fails(1, true); err != nil {
		t.Errorf("committed, and yet %v", err)
	}
	if err := fails(2, false); sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID {
		t.Errorf("rolled back, and %v", err)
	}
}

// TestTxRoom fills the buffer while records wait for their batch to fill.
func TestTxRoom(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("room")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	s.Buffer, s.Linger = 1000, time.Second
	w, c := openTx(t, s)
	gated, _ := sink.As[sink.Gated](w)
	woken := make(chan struct{}, 100)
	gated.OnRoom(func() { woken <- struct{}{} })
	if err := w.Begin(t.Context(), slot(topic, 1)); err != nil {
		t.Fatal(err)
	}
	var want []string
	for gated.Room() {
		want = append(want, numbered("v", len(want), len(want)+5)...)
		if err := w.Write(t.Context(), want[len(want)-5:]); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(want); n < 10 || n > 20 { // 66 bytes each, as it is counted
		t.Errorf("it took %d records", n)
	}
	wait(t, woken)
	if !gated.Room() {
		t.Error("woken without room")
	}
	h, err := w.Prepare(t.Context(), 1)
	if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{h}), settled(t.Context(), k)); err != nil {
		t.Fatal(err)
	}
	if got := content(t, k.Addr, topic); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
