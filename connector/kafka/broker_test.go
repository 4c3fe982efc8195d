package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/source"
)

var names atomic.Int64

// name makes a name for a topic or id that no other test, and no other run of the same test, has on the shared broker.
func name(prefix string) string { return fmt.Sprintf("%s-%d", prefix, names.Add(1)) }

// create makes a topic on a real broker.
func create(t testing.TB, addr, topic string, partitions int32) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
}

// transactions writes to partition 0 of a topic, one transaction per entry, committed or aborted.
func transactions(t testing.TB, addr, topic, id string, commit []bool) {
	t.Helper()
	cl := transactional(t, addr, topic, id)
	for i, ok := range commit {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for j := range 10 {
			if err := cl.ProduceSync(t.Context(), kgo.StringRecord(fmt.Sprintf("%s%d-%d", id, i, j))).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := cl.EndTransaction(t.Context(), kgo.TransactionEndTry(ok)); err != nil {
			t.Fatal(err)
		}
	}
}

func transactional(t testing.TB, addr, topic, id string) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func TestTransactionalInputEndsInMarks(t *testing.T) {
	k := testsvc.Kafka(t)
	for _, tc := range []struct {
		name      string
		commit    []bool
		committed bool
		want      int
	}{
		{"last-committed", []bool{true, false, true}, true, 20},
		{"last-aborted", []bool{true, false}, true, 10},
		{"all-aborted", []bool{false, false}, true, 0},
		{"uncommitted-too", []bool{true, false}, false, 20},
	} {
		t.Run(tc.name, func(t *testing.T) {
			topic := name(tc.name)
			create(t, k.Addr, topic, 1)
			transactions(t, k.Addr, topic, topic, tc.commit)
			src := Source[string]{Brokers: []string{k.Addr}, Topics: []string{topic}, ReadCommitted: tc.committed, Stop: StopLatest}
			eventually(t, func() bool { // the last mark may be written a moment after the answer
				return find(t, src)[0].Stop == int64(11*len(tc.commit))
			})
			got, at := drain(t, open(t, src, task(nil, nil), find(t, src)...), 1, -1)
			if id := topic + "/0"; len(got[id]) != tc.want || at[id].Next != at[id].Stop {
				t.Errorf("%d values, want %d; at %+v", len(got[id]), tc.want, at[id])
			}
		})
	}
}

// TestStopBehindAbortedRecords has a Stop right behind records of an aborted transaction whose mark can't be read yet,
// because another transaction is open before it: the client has nothing to hand out that would move the position there.
func TestStopBehindAbortedRecords(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("stop-inside")
	create(t, k.Addr, topic, 1)
	produce(t, []string{k.Addr}, topic, 0, "plain")
	aborted, pending := transactional(t, k.Addr, topic, topic+"-1"), transactional(t, k.Addr, topic, topic+"-2")
	for _, cl := range []*kgo.Client{aborted, pending} {
		if err := cl.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			if err := cl.ProduceSync(t.Context(), kgo.StringRecord("never")).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := aborted.EndTransaction(t.Context(), kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	src := Source[string]{Brokers: []string{k.Addr}, Topics: []string{topic}, ReadCommitted: true, Stop: StopLatest}
	eventually(t, func() bool { return find(t, src)[0].Stop == 11 })
	got, at := drain(t, open(t, src, task(nil, nil), find(t, src)...), 1, -1)
	if id := topic + "/0"; !slices.Equal(got[id], []string{"plain"}) || at[id].Next != 11 {
		t.Errorf("got %v at %+v", got[id], at[id])
	}
}

func TestOpenTransactionHoldsReadCommitted(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("open")
	create(t, k.Addr, topic, 1)
	produce(t, []string{k.Addr}, topic, 0, "plain")
	cl := transactional(t, k.Addr, topic, topic)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord("held")).FirstErr(); err != nil {
		t.Fatal(err)
	}
	src := Source[string]{Brokers: []string{k.Addr}, Topics: []string{topic}, ReadCommitted: true, Stop: StopLatest}
	bounded, _ := drain(t, open(t, src, task(nil, nil), find(t, src)...), 1, -1)
	if !slices.Equal(bounded[topic+"/0"], []string{"plain"}) {
		t.Errorf("bounded: %v", bounded)
	}
	src.Stop = Stop{}
	r := open(t, src, task(nil, nil), find(t, src)...)
	if got, _ := drain(t, r, 1, 1); !slices.Equal(got[topic+"/0"], []string{"plain"}) {
		t.Errorf("before the commit: %v", got)
	}
	if err := cl.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
		t.Fatal(err)
	}
	if got, _ := drain(t, r, 1, 1); !slices.Equal(got[topic+"/0"], []string{"held"}) {
		t.Errorf("after it: %v", got)
	}
}

func TestDeletedTopicOnBroker(t *testing.T) {
	k := testsvc.Kafka(t)
	for _, again := range []bool{false, true} {
		topic := name("doomed")
		create(t, k.Addr, topic, 1)
		produce(t, []string{k.Addr}, topic, 0, "one")
		src := Source[string]{Brokers: []string{k.Addr}, Topics: []string{topic}}
		r := open(t, src, task(nil, nil), find(t, src)...)
		drain(t, r, 1, 1)
		cl, err := kgo.NewClient(kgo.SeedBrokers(k.Addr))
		if err != nil {
			t.Fatal(err)
		}
		adm := kadm.NewClient(cl)
		if _, err := adm.DeleteTopic(t.Context(), topic); err != nil {
			t.Fatal(err)
		}
		if again {
			eventually(t, func() bool {
				_, err := adm.CreateTopic(t.Context(), 1, 1, nil, topic)
				return err == nil
			})
			produce(t, []string{k.Addr}, topic, 0, "other", "other")
		}
		cl.Close()
		if err := readErr(t, r); fault.CodeOf(err) != fault.LostSplit.ID {
			t.Errorf("again=%v: %v", again, err)
		}
	}
}

func TestSASLOnBroker(t *testing.T) {
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{User: "ann", Password: "right"})
	create(t, k.Addr, "a", 1)
	for _, mech := range []Mechanism{Plain, ScramSHA256} {
		src := Source[string]{Brokers: []string{k.SASLAddr}, Topics: []string{"a"}}
		src.Client.SASL = SASL{Mechanism: mech, User: "ann", Password: "right"}
		if err := src.Preflight(t.Context()); err != nil {
			t.Errorf("mechanism %d: %v", mech, err)
		}
		src.Client.SASL.Password = "wrong"
		if err := src.Preflight(t.Context()); fault.CodeOf(err) != fault.AuthFailed.ID {
			t.Errorf("mechanism %d, wrong password: %v", mech, err)
		}
	}
}

// TestBrokerKilled kills the broker with SIGKILL while it is read from and written to, and starts it again.
func TestBrokerKilled(t *testing.T) {
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{})
	create(t, k.Addr, "in", 2)
	create(t, k.Addr, "out", 1)
	for p := range int32(2) {
		produce(t, []string{k.Addr}, "in", p, numbered("v", 0, 3000)...)
	}
	l := &logs{}
	src := Source[string]{Brokers: []string{k.Addr}, Topics: []string{"in"}, FetchBytes: 4 << 10, Stop: StopAt(map[string]map[int32]int64{"in": {0: 3100, 1: 3100}})}
	r := open(t, src, task(nil, l), find(t, src)...)
	got, _ := drain(t, r, 2, 1000)

	m := &counts{}
	out := Sink[string]{Brokers: []string{k.Addr}, Topic: "out", Encode: TextRecord, Timeout: time.Second}
	w := writerOf(t, out, m)
	write(t, w, numbered("a", 0, 10)...)

	k.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for ctx.Err() == nil { // what was fetched is still served, then it waits; nothing fails
		var b source.Batch[string]
		b.Limit(64)
		s, err := r.Read(ctx, &b)
		got[s.ID()] = append(got[s.ID()], b.Values...)
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if err := w.Write(t.Context(), numbered("a", 10, 20)); err != nil {
		t.Fatal(err)
	}
	if err := k.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p := range int32(2) {
		produce(t, []string{k.Addr}, "in", p, numbered("v", 3000, 3100)...)
	}
	rest, _ := drain(t, r, 2, -1)
	for _, id := range []string{"in/0", "in/1"} {
		if all := append(got[id], rest[id]...); !slices.Equal(all, numbered("v", 0, 3100)) {
			t.Errorf("%s: %d values, want 3100 in order", id, len(all))
		}
	}
	if a, b := l.count("unreachable"), l.count("reachable again"); a != 1 || b != 1 {
		t.Errorf("told %d times, healed %d times: %s", a, b, l.b.String())
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := content(t, k.Addr, "out"); !slices.Equal(slices.Compact(got), numbered("a", 0, 20)) {
		t.Errorf("written: %v", got)
	}
}

// eventually waits for something outside the test.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-limit:
			t.Fatal("waited in vain")
		case <-time.After(20 * time.Millisecond):
		}
	}
}
