package kafka

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// TestTxBrokerKilled kills the broker between the two phases, and while a transaction is open, which outlives that.
func TestTxBrokerKilled(t *testing.T) {
	t.Parallel()
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{})
	create(t, k.Addr, "out", 1)
	s := lines(k, "out")
	w, c := openTx(t, s)
	one := prepare(t, w, slot("out", 1), 1, "one")
	two := prepare(t, w, slot("out", 2), 2, "two")
	if err := errors.Join(w.Begin(t.Context(), slot("out", 3)), w.Write(t.Context(), []string{"three"}),
		c.Commit(t.Context(), []sink.Handle{one})); err != nil {
		t.Fatal(err)
	}
	k.Kill()
	if err := c.Commit(t.Context(), []sink.Handle{two}); err == nil || sink.IsPermanent(err) {
		t.Errorf("commit while the broker is away: %v, want an error that is retried", err)
	}
	if err := w.Write(t.Context(), []string{"four"}); err != nil {
		t.Fatal(err)
	}
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Commit(t.Context(), []sink.Handle{one, two}); err != nil {
			t.Fatal(err)
		}
	}
	three, err := w.Prepare(t.Context(), 3)
	if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{three})); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, "out", "one", "two", "three", "four")
}

// TestTxBrokerRefuses has records that only the broker finds at fault: the transaction can't go on.
func TestTxBrokerRefuses(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("small")
	cl, err := k.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	small := "500"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"max.message.bytes": &small}, topic); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		s    TxSink[string]
		code fault.Code
		says string
	}{
		{lines(k, topic), fault.SinkRejected, "MaxBytes"},
		{lines(k, topic+"-absent"), fault.NoTopic, "topic"},
	} {
		c.s.Compression = Uncompressed
		w, _ := openTx(t, c.s)
		woken := make(chan struct{}, 100)
		gated, _ := sink.As[sink.Gated](w)
		gated.OnRoom(func() { woken <- struct{}{} })
		if err := errors.Join(w.Begin(t.Context(), slot(topic, i)), w.Write(t.Context(), []string{strings.Repeat("x", 600)})); err != nil {
			t.Fatal(err)
		}
		wait(t, woken) // it tells before anybody asks
		failing, _ := sink.As[sink.Failing](w)
		_, perr := w.Prepare(t.Context(), 1)
		for _, err := range []error{failing.Err(), w.Write(t.Context(), []string{"x"}), perr} {
			if fault.CodeOf(err) != c.code.ID || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("got %v, want %s", err, c.code.ID)
			}
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, err := unfinished(t.Context(), k); err != nil || strings.Contains(fmt.Sprint(left), topic) {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestTxClientBeginsAnew has a client that took a new epoch within a transaction, as the library does by itself after some
// errors: what was written before is rolled back, so nothing may be prepared.
func TestTxClientBeginsAnew(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("anew")
	create(t, k.Addr, topic, 1)
	w, _ := openTx(t, lines(k, topic))
	if err := errors.Join(w.Begin(t.Context(), slot(topic, 1)), w.Write(t.Context(), []string{"a"})); err != nil {
		t.Fatal(err)
	}
	w.(*txWriter[string]).p.epoch--
	if h, err := w.Prepare(t.Context(), 1); fault.CodeOf(err) != fault.SinkFailed.ID {
		t.Errorf("prepared %v, %v", h, err)
	}
}

// TestTxVersionIsPinned looks at the version of the requests that end transactions.
func TestTxVersionIsPinned(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("pinned")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	w, _ := openTx(t, s)
	for v := int16(3); v <= 5; v++ {
		x := w.(*txWriter[string]).tx
		x.end = v
		h := prepare(t, w, slot(topic, int(v)), 1, fmt.Sprint(v))
		r := newResource(s.settings(), sinkTask())
		cl, err := r.client(v)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if o, err := r.Commit(t.Context(), h); err != nil {
				t.Errorf("version %d: outcome %d, %v", v, o, err)
			}
		}
		req := kmsg.NewPtrEndTxnRequest()
		n, err := readNative(h)
		if err != nil {
			t.Fatal(err)
		}
		req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = n.ID, n.Producer, n.Epoch, true
		if resp, err := req.RequestWith(t.Context(), cl); err != nil || resp.Version != v {
			t.Errorf("version %d: %+v, %v", v, resp, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	wantVisible(t, k, topic, "3", "4", "5")
}

// testMarks has the marks of a commit written by the committer, as if the broker had left them out: in two partitions, and again.
func testMarks(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("marks")
	create(t, k.Addr, topic, 3)
	s := lines(k, topic)
	s.Partitioner = RoundRobin
	w, c := openTx(t, s)
	h := prepare(t, w, slot(topic, 1), 1, "a", "b", "c", "d")
	other := prepare(t, w, slot(topic, 2), 1, "e")
	n, err := readNative(h)
	if err != nil || len(n.Places) != 3 {
		t.Fatalf("places %v, %v", n.Places, err)
	}
	of := sinkTask()
	r := newResource(s.settings(), of)
	defer r.Close()
	for range 2 {
		if o, err := r.marks(t.Context(), n); o != txn.Done || err != nil {
			t.Errorf("outcome %d, %v", o, err)
		}
	}
	if got := of.Metrics.(*counts).get("repaired_transactions"); got != 1 {
		t.Errorf("%d repairs, want 1", got)
	}
	wantVisible(t, k, topic, "a", "b", "c", "d")
	if err := c.Commit(t.Context(), []sink.Handle{h, other}); err != nil {
		t.Error(err)
	}
	wantVisible(t, k, topic, "a", "b", "c", "d", "e")
}

// TestTxEpochsRunOut takes an id to where its producer's epochs end, which are 16 bits, and the broker goes on with another producer:
// two and a half days for seven slots and a checkpoint each second.
func TestTxEpochsRunOut(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("epochs")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	r := newResource(s.settings(), sinkTask())
	defer r.Close()
	cl, err := r.client(0)
	if err != nil {
		t.Fatal(err)
	}
	id := slot(topic, 1)
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = &id.Name, 60_000, -1, -1
	for epoch := int16(0); epoch < math.MaxInt16-10; {
		resp, err := req.RequestWith(t.Context(), cl)
		if err != nil || (resp.ErrorCode != 0 && resp.ErrorCode != kerr.ConcurrentTransactions.Code) {
			t.Fatal(resp, err)
		}
		epoch = max(epoch, resp.ProducerEpoch)
	}
	w, c := openTx(t, s)
	var want []string
	producers := map[int64]bool{}
	for i := range 20 {
		want = append(want, fmt.Sprint(i))
		h := prepare(t, w, id, uint64(i), want[i])
		n, err := readNative(h)
		if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{h}), c.Commit(t.Context(), []sink.Handle{h}),
			finisher(t, s, sinkTask()).Recover(t.Context(), []sink.Handle{h}, []sink.Slot{id})); err != nil {
			t.Fatalf("producer %d epoch %d: %v", n.Producer, n.Epoch, err)
		}
		producers[n.Producer] = true
	}
	if len(producers) != 2 {
		t.Errorf("producers %v, want two", producers)
	}
	wantVisible(t, k, topic, want...)
}
