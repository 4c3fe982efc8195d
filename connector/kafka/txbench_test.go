package kafka

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

const (
	benchBatch   = 1000 // records
	benchBatches = 500  // of a transaction
)

// BenchmarkTx writes transactions of 500,000 records of 100 bytes, and commits them, through the sink and through the bare client,
// in turn. xlimit is the median time of the one through that of the other.
func BenchmarkTx(b *testing.B) {
	k := testsvc.Kafka(b)
	topic := name("bench")
	create(b, k.Addr, topic, 4)
	value := []byte(strings.Repeat("v", 100))
	batch := make([][]byte, benchBatch)
	for i := range batch {
		batch[i] = value
	}
	s := TxSink[[]byte]{Brokers: []string{k.Addr}, Topic: topic, Encode: BytesRecord}
	w, c := openTx(b, s)
	gated, _ := sink.As[sink.Gated](w)
	room := make(chan struct{}, 1)
	gated.OnRoom(func() {
		select {
		case room <- struct{}{}:
		default:
		}
	})
	cl := transactional(b, k.Addr, topic, topic+"-bare")
	var times [2][]time.Duration
	for i := 0; b.Loop(); i++ {
		begun := time.Now()
		bareTx(b, cl, batch)
		middle := time.Now()
		if err := w.Begin(b.Context(), slot(topic, i%4)); err != nil {
			b.Fatal(err)
		}
		for range benchBatches {
			for !gated.Room() {
				<-room
			}
			if err := w.Write(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
		h, err := w.Prepare(b.Context(), 1)
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Commit(b.Context(), []sink.Handle{h}); err != nil {
			b.Fatal(err)
		}
		times[0], times[1] = append(times[0], middle.Sub(begun)), append(times[1], time.Since(middle))
	}
	for i, what := range []string{"bare", "sink"} {
		slices.Sort(times[i])
		b.ReportMetric(benchBatch*benchBatches/times[i][len(times[i])/2].Seconds(), what+"-records/s")
	}
	b.ReportMetric(float64(times[1][len(times[1])/2])/float64(times[0][len(times[0])/2]), "xlimit")
}

// bareTx is the limit: the client's own transaction of the same records.
func bareTx(b *testing.B, cl *kgo.Client, batch [][]byte) {
	b.Helper()
	if err := cl.BeginTransaction(); err != nil {
		b.Fatal(err)
	}
	for range benchBatches {
		for _, v := range batch {
			cl.Produce(b.Context(), kgo.SliceRecord(v), nil)
		}
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := cl.EndTransaction(b.Context(), kgo.TryCommit); err != nil {
		b.Fatal(err)
	}
}
