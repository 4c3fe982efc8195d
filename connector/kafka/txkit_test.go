package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// TestTx runs what rests on the broker's protocol for transactions against both kinds of brokers.
func TestTx(t *testing.T) {
	for version, k := range map[int]*testsvc.KafkaServer{
		2: testsvc.Kafka(t), 1: testsvc.NewKafka(t, testsvc.KafkaOptions{TransactionVersion: 1}),
	} {
		t.Run(fmt.Sprint("version=", version), func(t *testing.T) {
			for name, f := range map[string]func(t *testing.T, k *testsvc.KafkaServer){
				"Contract": testContract, "Records": testRecords, "Empty": testEmpty, "Recover": testRecover, "Zombie": testZombie,
				"TakenOver": testTakenOver, "EndedBefore": testEndedBefore, "TimedOut": testTimedOut, "Marks": testMarks, "Proof": testProof, "NoProof": testNoProof,
			} {
				t.Run(name, func(t *testing.T) { f(t, k) })
			}
		})
	}
}

func testContract(t *testing.T, k *testsvc.KafkaServer) {
	topic := name("txkit")
	create(t, k.Addr, topic, 2)
	lossy := lines(k, topic)
	lossy.Lost = txn.AcceptLoss
	txntest.Run(t, txntest.Case[string]{
		TxCase: sinktest.TxCase[string]{
			Sink:    lines(k, topic),
			Make:    func(i int) string { return fmt.Sprint("record ", i) },
			Visible: func() ([]string, error) { return visible(t.Context(), k, topic) },
			Left: func(s sink.Slot) ([]string, error) {
				open, err := unfinished(t.Context(), k)
				return slices.DeleteFunc(open, func(id string) bool { return id != s.Name }), err
			},
		},
		Lossy: lossy,
		RollBack: func(ctx context.Context, h sink.Handle) error {
			return takeOver(ctx, k, h.Slot.Name)
		},
		Forget: func(_ context.Context, h sink.Handle) (sink.Handle, error) {
			n, err := readNative(h)
			n.Producer += 1000 // of other brokers
			var eerr error
			h.Native, eerr = txn.Encode(handleVersion, n)
			return h, errors.Join(err, eerr)
		},
		MaxSlot: maxID,
	})
}

// takeOver rolls back what is open under an id, as a stranger.
func takeOver(ctx context.Context, k *testsvc.KafkaServer, id string) error {
	cl, err := k.Client(kgo.TransactionalID(id))
	if err != nil {
		return err
	}
	defer cl.Close()
	_, _, err = cl.ProducerID(ctx)
	return err
}

func lines(k *testsvc.KafkaServer, topic string) TxSink[string] {
	return TxSink[string]{Brokers: []string{k.Addr}, Topic: topic, Encode: TextRecord}
}

// visible returns the committed records of a topic, also those behind an open transaction, for which a reader of committed
// records would wait: a record counts if its transaction ends in a mark that commits it.
func visible(ctx context.Context, k *testsvc.KafkaServer, topic string) ([]string, error) {
	if err := settled(ctx, k); err != nil {
		return nil, err
	}
	cl, err := k.Client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	for p, end := range ends[topic] {
		if end.Offset > 0 {
			left[p] = end.Offset
		}
	}
	var out []string
	open := map[string][]string{} // by partition and producer
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return nil, err
		}
		fs.EachRecord(func(r *kgo.Record) {
			who := fmt.Sprint(r.Partition, r.ProducerID)
			switch {
			case !r.Attrs.IsControl() && !r.Attrs.IsTransactional():
				out = append(out, string(r.Value))
			case !r.Attrs.IsControl():
				open[who] = append(open[who], string(r.Value))
			default:
				if binary.BigEndian.Uint16(r.Key[2:]) == 1 {
					out = append(out, open[who]...)
				}
				delete(open, who)
			}
			if r.Offset >= left[r.Partition]-1 {
				delete(left, r.Partition)
			}
		})
	}
	return out, nil
}

// settled waits until no transaction is just being ended.
func settled(ctx context.Context, k *testsvc.KafkaServer) error {
	for {
		found, err := listed(ctx, k)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(found, func(d kadm.ListedTransaction) bool { return strings.HasPrefix(d.State, "Prepare") }) {
			return nil
		}
	}
}

func listed(ctx context.Context, k *testsvc.KafkaServer) ([]kadm.ListedTransaction, error) {
	cl, err := k.Client()
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	found, err := kadm.NewClient(cl).ListTransactions(ctx, nil, nil)
	return found.Sorted(), err
}

// unfinished names the transactions that are neither committed nor rolled back.
func unfinished(ctx context.Context, k *testsvc.KafkaServer) (ids []string, err error) {
	found, err := listed(ctx, k)
	for _, d := range found {
		if !strings.HasPrefix(d.State, "Complete") && d.State != "Empty" {
			ids = append(ids, d.TxnID)
		}
	}
	return ids, err
}

// sinkTask is what the engine would give; each has metrics of its own.
func sinkTask() sink.Task {
	return sink.Task{
		Job: "job", Operator: "out", Parallelism: 1, Metrics: &counts{}, Request: func() {}, Log: slog.New(slog.DiscardHandler),
	}
}

// openTx makes a writer and a committer that end with the test.
func openTx[T any](t testing.TB, s TxSink[T]) (sink.TxWriter[T], sink.Committer) {
	t.Helper()
	w, err := s.TxWriter(t.Context(), sinkTask())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, finisher(t, s, sinkTask())
}

// finisher makes a committer that ends with the test.
func finisher[T any](t testing.TB, s TxSink[T], of sink.Task) sink.Committer {
	t.Helper()
	c, err := s.Committer(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// slot is one that no other test has, nor another run of the same.
func slot(topic string, n int) sink.Slot {
	return sink.Slot{ID: n, Name: fmt.Sprintf("%s-out-%d", topic, n)}
}

// prepare makes one transaction of the records.
func prepare[T any](t testing.TB, w sink.TxWriter[T], s sink.Slot, epoch uint64, rs ...T) sink.Handle {
	t.Helper()
	if err := errors.Join(w.Begin(t.Context(), s), w.Write(t.Context(), rs)); err != nil {
		t.Fatal(err)
	}
	h, err := w.Prepare(t.Context(), epoch)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func wantVisible(t testing.TB, k *testsvc.KafkaServer, topic string, want ...string) {
	t.Helper()
	got, err := visible(t.Context(), k, topic)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("visible: %q, want %q", got, want)
	}
}
