package kafka

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// testRecords has keys, headers, times, tombstones and topics of the records' own, and a reader of committed records.
func testRecords(t *testing.T, k *testsvc.KafkaServer) {
	topic, other := name("records"), name("records-other")
	create(t, k.Addr, topic, 3)
	create(t, k.Addr, other, 1)
	at := time.Date(2026, 2, 3, 4, 5, 6, 7e6, time.UTC)
	s := TxSink[string]{Brokers: []string{k.Addr}, Topic: topic, Partitioner: AsEncoded, Compression: Zstd, MaxBytes: 10_000}
	s.Encode = func(v string) (Record, error) {
		r := Record{Key: []byte("k"), Value: []byte(v), Headers: []Header{{Key: "h", Value: []byte(v)}}, Time: at, Partition: 2}
		switch v {
		case "tombstone":
			r.Value = nil
		case "elsewhere":
			r.Topic, r.Partition = other, 0
		case "skip":
			return r, ErrSkip
		case "bad":
			return r, errors.New("bad value")
		case "no topic":
			r.Topic = "no/topic"
		}
		return r, nil
	}
	w, c := openTx(t, s)
	if err := w.Begin(t.Context(), slot(topic, 1)); err != nil {
		t.Fatal(err)
	}
	batch := []string{"a", "bad", "tombstone", "skip", strings.Repeat("x", 10_000), "elsewhere", "no topic", "b"}
	rejected, ok := errors.AsType[*sink.Rejected](w.Write(t.Context(), batch))
	if !ok || len(rejected.Errs) != 3 || rejected.Errs[1] == nil || rejected.Errs[4] == nil || rejected.Errs[6] == nil {
		t.Fatalf("rejected: %v", rejected)
	}
	h, err := w.Prepare(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := k.ReadAll(t.Context(), topic); err != nil || len(all) > 0 {
		t.Errorf("before the commit: %v, %v", all, err)
	}
	if err := errors.Join(c.Commit(t.Context(), []sink.Handle{h}), settled(t.Context(), k)); err != nil {
		t.Fatal(err)
	}
	all, err := k.ReadAll(t.Context(), topic)
	if err != nil || len(all) != 3 {
		t.Fatalf("%d records, %v", len(all), err)
	}
	for i, want := range []string{"a", "", "b"} {
		r := all[i]
		if string(r.Value) != want || (r.Value == nil) != (i == 1) || string(r.Key) != "k" || r.Partition != 2 || !r.Timestamp.Equal(at) || len(r.Headers) != 1 {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	wantVisible(t, k, other, "elsewhere")
}

// testEmpty has transactions into which nothing was written, of which the broker knows nothing.
func testEmpty(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("empty")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	s.Encode = func(v string) (Record, error) {
		if v == "skip" {
			return Record{}, ErrSkip
		}
		return TextRecord(v)
	}
	w, c := openTx(t, s)
	h1 := prepare(t, w, slot(topic, 1), 1, "skip")
	h2 := prepare(t, w, slot(topic, 2), 2)
	if err := c.Commit(t.Context(), []sink.Handle{h1, h2, h1}); err != nil {
		t.Fatal(err)
	}
	h3 := prepare(t, w, slot(topic, 1), 3, "a")
	if err := finisher(t, s, sinkTask()).Recover(t.Context(), []sink.Handle{h2, h3}, []sink.Slot{h1.Slot, h2.Slot}); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, topic, "a")
}

// testRecover clears what no handle is kept of, and leaves strangers alone, also those whose names begin alike.
func testRecover(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("recover")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	w, _ := openTx(t, s)
	strange, _ := openTx(t, s)
	kept := prepare(t, w, slot(topic, 1), 1, "kept")
	prepare(t, w, slot(topic, 2), 2, "left")
	if err := errors.Join(w.Begin(t.Context(), slot(topic, 3)), w.Write(t.Context(), []string{"open"})); err != nil {
		t.Fatal(err)
	}
	theirs := prepare(t, strange, slot(topic, 10), 2, "theirs")
	if err := errors.Join(strange.Begin(t.Context(), slot(topic, 11)), strange.Write(t.Context(), []string{"their open one"})); err != nil {
		t.Fatal(err)
	}
	mine := []sink.Slot{slot(topic, 1), slot(topic, 2), slot(topic, 3), slot(topic, 4)}
	for range 2 { // the second time as after a crash before the first was recorded
		if err := finisher(t, s, sinkTask()).Recover(t.Context(), []sink.Handle{kept}, mine); err != nil {
			t.Fatal(err)
		}
	}
	wantVisible(t, k, topic, "kept")
	left, err := unfinished(t.Context(), k)
	if err != nil || !slices.Contains(left, theirs.Slot.Name) || slices.ContainsFunc(mine, func(s sink.Slot) bool { return slices.Contains(left, s.Name) }) {
		t.Errorf("left: %q, %v", left, err)
	}
	if known, err := listed(t.Context(), k); err != nil || slices.ContainsFunc(known, func(l kadm.ListedTransaction) bool { return l.TxnID == slot(topic, 4).Name }) {
		t.Errorf("an id was made that no writer has used: %v", err)
	}
	last, err := strange.Prepare(t.Context(), 3)
	if err := errors.Join(err, finisher(t, s, sinkTask()).Commit(t.Context(), []sink.Handle{theirs, last})); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, topic, "kept", "theirs", "their open one")
}

// testZombie has a writer that goes on after another process has recovered.
func testZombie(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("zombie")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	zombie, c := openTx(t, s)
	old := prepare(t, zombie, slot(topic, 1), 1, "prepared")
	if err := errors.Join(zombie.Begin(t.Context(), slot(topic, 2)), zombie.Write(t.Context(), []string{"before"})); err != nil {
		t.Fatal(err)
	}
	if err := finisher(t, s, sinkTask()).Recover(t.Context(), nil, []sink.Slot{slot(topic, 1), slot(topic, 2)}); err != nil {
		t.Fatal(err)
	}
	werr := zombie.Write(t.Context(), []string{"after"})
	_, perr := zombie.Prepare(t.Context(), 2)
	if err := errors.Join(werr, perr); err == nil || sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), "another job has the same name") {
		t.Errorf("the zombie wrote on: %v", err)
	}
	if err := c.Commit(t.Context(), []sink.Handle{old}); !sink.IsPermanent(err) || fault.CodeOf(err) != fault.LostCommit.ID {
		t.Errorf("commit of what was cleared: %v", err)
	}
	w, c := openTx(t, s)
	h := prepare(t, w, slot(topic, 2), 3, "new")
	if err := zombie.Close(); err != nil {
		t.Error(err)
	}
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, topic, "new")
}

// testTakenOver has two jobs with one name: the second takes the first one's id over.
func testTakenOver(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("taken")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	first, _ := openTx(t, s)
	second, c := openTx(t, s)
	if err := errors.Join(first.Begin(t.Context(), slot(topic, 1)), first.Write(t.Context(), []string{"first"})); err != nil {
		t.Fatal(err)
	}
	h := prepare(t, second, slot(topic, 1), 1, "second")
	if err := first.Write(t.Context(), []string{"more"}); err == nil {
		_, err = first.Prepare(t.Context(), 1)
		if fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(err.Error(), "another job has the same name") {
			t.Errorf("Prepare of the first: %v", err)
		}
	}
	if err := errors.Join(first.Close(), c.Commit(t.Context(), []sink.Handle{h})); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, topic, "second")
}

// testTimedOut has transactions that the broker rolls back since they are too old.
func testTimedOut(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("late")
	create(t, k.Addr, topic, 1)
	s := lines(k, topic)
	s.Timeout = time.Second
	w, c := openTx(t, s)
	lost := prepare(t, w, slot(topic, 1), 1, "lost")
	if err := errors.Join(w.Begin(t.Context(), slot(topic, 2)), w.Write(t.Context(), []string{"open"})); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		left, err := unfinished(t.Context(), k)
		return err == nil && !slices.Contains(left, lost.Slot.Name) && !slices.Contains(left, slot(topic, 2).Name)
	})
	if h, err := w.Prepare(t.Context(), 2); err == nil || sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID {
		t.Errorf("prepared though it was rolled back: %v, %v", h, err)
	}
	s.Timeout = 0
	young, _ := openTx(t, s)
	kept := prepare(t, young, slot(topic, 3), 1, "kept")
	hs := []sink.Handle{lost, kept}
	for _, err := range []error{c.Commit(t.Context(), hs), c.Recover(t.Context(), hs, []sink.Slot{lost.Slot, kept.Slot})} {
		if !sink.IsPermanent(err) || fault.CodeOf(err) != fault.LostCommit.ID {
			t.Errorf("got %v, want a permanent %s", err, fault.LostCommit.ID)
		}
	}
	wantVisible(t, k, topic)
	s.Lost = txn.AcceptLoss
	own := sinkTask()
	if err := finisher(t, s, own).Recover(t.Context(), hs, []sink.Slot{lost.Slot, kept.Slot}); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, topic, "kept")
	if n := own.Metrics.(*counts).get("lost_transactions"); n != 1 {
		t.Errorf("%d transactions counted as lost, want 1", n)
	}
}

// testProof has handles whose id somebody else has used since: the log says what became of their transactions, also while an
// older transaction keeps readers of committed records from seeing it.
func testProof(t *testing.T, k *testsvc.KafkaServer) {
	for _, older := range []bool{false, true} {
		t.Run(fmt.Sprint("older=", older), func(t *testing.T) {
			topic := name("proof")
			create(t, k.Addr, topic, 1)
			s := lines(k, topic)
			w, c := openTx(t, s)
			if older {
				cl := transactional(t, k.Addr, topic, topic+"-older")
				if err := errors.Join(cl.BeginTransaction(), cl.ProduceSync(t.Context(), kgo.StringRecord("older")).FirstErr()); err != nil {
					t.Fatal(err)
				}
			}
			done := prepare(t, w, slot(topic, 1), 1, "done")
			lost := prepare(t, w, slot(topic, 2), 1, "lost")
			if err := c.Commit(t.Context(), []sink.Handle{done}); err != nil {
				t.Fatal(err)
			}
			for _, h := range []sink.Handle{done, lost} {
				stranger := transactional(t, k.Addr, topic, h.Slot.Name)
				if err := errors.Join(stranger.BeginTransaction(), stranger.ProduceSync(t.Context(), kgo.StringRecord("strange")).FirstErr(),
					stranger.EndTransaction(t.Context(), kgo.TryCommit)); err != nil {
					t.Fatal(err)
				}
			}
			other := finisher(t, s, sinkTask())
			if err := other.Commit(t.Context(), []sink.Handle{done}); err != nil {
				t.Errorf("commit of what was committed: %v", err)
			}
			if err := other.Commit(t.Context(), []sink.Handle{lost}); !sink.IsPermanent(err) || fault.CodeOf(err) != fault.LostCommit.ID {
				t.Errorf("commit of what was rolled back: %v", err)
			}
			wantVisible(t, k, topic, "done", "strange", "strange")
		})
	}
}

// testNoProof has logs that can't tell any more.
func testNoProof(t *testing.T, k *testsvc.KafkaServer) {
	cl, err := k.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for how, forget := range map[string]func(topic string) error{
		"records deleted": func(topic string) error {
			_, err := adm.DeleteRecords(t.Context(), kadm.Offsets{topic: {0: {Topic: topic, Partition: 0, At: 1}}})
			return err
		},
		"topic deleted": func(topic string) error {
			_, err := adm.DeleteTopic(t.Context(), topic)
			return err
		},
	} {
		t.Run(how, func(t *testing.T) {
			topic := name("no-proof")
			create(t, k.Addr, topic, 1)
			s := lines(k, topic)
			w, c := openTx(t, s)
			h := prepare(t, w, slot(topic, 1), 1, "a")
			if err := errors.Join(c.Commit(t.Context(), []sink.Handle{h}), settled(t.Context(), k)); err != nil {
				t.Fatal(err)
			}
			if err := finisher(t, s, sinkTask()).Recover(t.Context(), nil, []sink.Slot{h.Slot}); err != nil {
				t.Fatal(err)
			}
			if err := forget(topic); err != nil {
				t.Fatal(err)
			}
			if err := c.Commit(t.Context(), []sink.Handle{h}); !sink.IsPermanent(err) || fault.CodeOf(err) != fault.UnknownCommit.ID {
				t.Errorf("got %v, want a permanent %s", err, fault.UnknownCommit.ID)
			}
		})
	}
}

// testEndedBefore has a transaction that somebody ends when the brokers have all of it and it isn't prepared yet.
func testEndedBefore(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("ended")
	create(t, k.Addr, topic, 1)
	w, _ := openTx(t, lines(k, topic))
	if err := errors.Join(w.Begin(t.Context(), slot(topic, 1)), w.Write(t.Context(), []string{"a"}),
		w.(*txWriter[string]).p.cl.Flush(t.Context()), takeOver(t.Context(), k, slot(topic, 1).Name)); err != nil {
		t.Fatal(err)
	}
	if h, err := w.Prepare(t.Context(), 1); sink.IsPermanent(err) || fault.CodeOf(err) != fault.SinkFailed.ID || !strings.Contains(fmt.Sprint(err), "which is gone") {
		t.Errorf("prepared %v, %v", h, err)
	}
	wantVisible(t, k, topic)
}
