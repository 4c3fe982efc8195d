package embedded_test

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirline/weirline/examples/internal/embedded"
)

func TestKafkaRestartsOnANewPort(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "kafka")
	topics := []embedded.Topic{{Name: "orders", Partitions: 3}}
	first, err := embedded.StartKafka(dir, embedded.KafkaOptions{Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	produceOne(t, first.Addr(), "orders")
	first.Close()
	first.Close()
	// One topic has other partitions now, one is new.
	topics = []embedded.Topic{{Name: "orders", Partitions: 7}, {Name: "alerts"}}
	second, err := embedded.StartKafka(dir, embedded.KafkaOptions{Topics: topics})
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	cl, err := kgo.NewClient(kgo.SeedBrokers(second.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	m, err := kadm.NewClient(cl).Metadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Brokers) != 1 || !strings.HasSuffix(second.Addr(), ":"+portOf(m.Brokers[0])) {
		t.Errorf("metadata names %v, want the one broker at %s", m.Brokers, second.Addr())
	}
	if n := len(m.Topics["orders"].Partitions); n != 3 {
		t.Errorf("the existing topic has %d partitions, want 3", n)
	}
	if n := len(m.Topics["alerts"].Partitions); n != 1 {
		t.Errorf("the new topic has %d partitions, want 1", n)
	}
	produceOne(t, second.Addr(), "orders")
	if n := countRecords(t, second.Addr(), "orders"); n[0] != 2 {
		t.Errorf("%d records over both runs, want 2", n[0])
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "unknown"}).FirstErr(); !errors.Is(err, kerr.UnknownTopicOrPartition) {
		t.Errorf("produce to a topic nobody created: %v", err)
	}
}

func portOf(b kadm.BrokerDetail) string { return strconv.Itoa(int(b.Port)) }

func produceOne(t *testing.T, addr, topic string) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("0")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func TestKafkaReportsTrouble(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := embedded.StartKafka(file, embedded.KafkaOptions{}); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("start on a file: %v, want an error that names it", err)
	}
	dir := t.TempDir()
	k, err := embedded.StartKafka(dir, embedded.KafkaOptions{Topics: []embedded.Topic{{Name: "orders"}}})
	if err != nil {
		t.Fatal(err)
	}
	produceOne(t, k.Addr(), "orders")
	k.Close()
	segments, err := filepath.Glob(filepath.Join(dir, "partitions", "orders-0", "*.dat"))
	if err != nil || len(segments) != 1 {
		t.Fatalf("segments %q, %v", segments, err)
	}
	if err := os.WriteFile(segments[0], []byte("not a batch"), 0o644); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	k, err = embedded.StartKafka(dir, embedded.KafkaOptions{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	k.Close()
	if !strings.Contains(said.String(), "embedded kafka") {
		t.Errorf("the log says nothing of a damaged segment: %q", said.String())
	}
}

// openTransaction writes a record in a transaction, leaves it open and returns what it takes to end it.
func openTransaction(t *testing.T, addr, id string) *kmsg.EndTxnRequest {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.TransactionalID(id),
		kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), &kgo.Record{Topic: "orders", Value: []byte("0")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	producer, epoch, err := cl.ProducerID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = id, producer, epoch, true
	return req
}

// endTransaction sends the request from a client that didn't begin the transaction.
func endTransaction(t *testing.T, addr string, req *kmsg.EndTxnRequest) error {
	t.Helper()
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(26, 4)
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.MaxVersions(versions))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil {
		t.Fatal(err)
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}

// A crash keeps a committed transaction and aborts an open one, which can't be committed any more.
func TestKafkaTransactionsOverACrash(t *testing.T) {
	dir := t.TempDir()
	k, err := embedded.StartKafka(dir, embedded.KafkaOptions{Topics: []embedded.Topic{{Name: "orders"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	done := openTransaction(t, k.Addr(), "done")
	if err := endTransaction(t, k.Addr(), done); err != nil {
		t.Fatal(err)
	}
	open := openTransaction(t, k.Addr(), "open")
	crashed := t.TempDir()
	if err := os.CopyFS(crashed, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	again, err := embedded.StartKafka(crashed, embedded.KafkaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if err := endTransaction(t, again.Addr(), done); err != nil {
		t.Errorf("commit again what was committed before the crash: %v", err)
	}
	if err := endTransaction(t, again.Addr(), open); err == nil {
		t.Error("the broker now keeps open transactions over a crash: say so in the package comment")
	}
	produceOne(t, again.Addr(), "orders")
	if got := committedOffsets(t, again.Addr(), "orders"); !slices.Equal(got, []int64{0, 3}) {
		t.Errorf("committed records are at offsets %v, want 0 and, behind marker and lost record, 3", got)
	}
}

// committedOffsets returns the offsets of the committed records up to the end of the topic's only partition.
func committedOffsets(t *testing.T, addr, topic string) (offsets []int64) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for next, end := int64(0), ends[topic][0].Offset; next < end; {
		fs := cl.PollFetches(t.Context())
		if errs := fs.Errors(); len(errs) > 0 {
			t.Fatal(errs[0].Err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if !r.Attrs.IsControl() {
				offsets = append(offsets, r.Offset)
			}
		})
	}
	return offsets
}
