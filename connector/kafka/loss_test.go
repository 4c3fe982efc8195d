package kafka_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// down is a sink whose commits don't get through; it tells when one is tried.
type down struct {
	sink.TwoPhase[int64]
	tried func()
}

func (d down) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	c, err := d.TwoPhase.Committer(ctx, t)
	return downCommitter{c, d.tried}, err
}

type downCommitter struct {
	sink.Committer
	tried func()
}

func (c downCommitter) Commit(context.Context, []sink.Handle) error {
	c.tried()
	return errors.New("planted")
}

func plain(v int64) (kafka.Record, error) {
	return kafka.Record{Value: strconv.AppendInt(nil, v, 10)}, nil
}

// awaitNoneOpen waits until the broker has rolled back what is too old.
func awaitNoneOpen(t *testing.T, k *testsvc.KafkaServer) {
	t.Helper()
	cl, err := k.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for open := 1; open > 0; {
		found, err := kadm.NewClient(cl).ListTransactions(t.Context(), nil, []string{"Ongoing", "PrepareAbort", "PrepareCommit"})
		if err != nil {
			t.Fatal(err)
		}
		open = len(found)
	}
}

// TestTxDownForTooLong has a job that is down for longer than the timeout of the transactions its last checkpoint has prepared.
func TestTxDownForTooLong(t *testing.T) {
	t.Parallel()
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{})
	if err := k.CreateTopic(t.Context(), "out", 1); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := kafka.TxSink[int64]{Brokers: []string{k.Addr}, Topic: "out", Encode: plain, Timeout: time.Second, MaxDowntime: -1}
	run := func(ctx context.Context, to sink.TwoPhase[int64], log io.Writer) error {
		p := engine.New(engine.Config{
			Name: "late", Dir: dir, Parallelism: 2, CheckpointEvery: 50 * time.Millisecond, CommitWait: 100 * time.Millisecond,
			Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		in := gen.Source[int64]{Make: func(seq int64) int64 { return seq }, Count: 4000, PerSecond: 2000, Splits: 2}
		engine.ToTx(engine.From(p, "numbers", in), "out", to)
		return p.Run(ctx)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := run(ctx, down{s, cancel}, io.Discard); err != nil {
		t.Fatal(err)
	}
	awaitNoneOpen(t, k)
	for range 2 {
		if err := run(t.Context(), s, io.Discard); !errors.Is(err, fault.New(fault.LostCommit, "")) {
			t.Errorf("resumed after a loss: %v", err)
		}
	}
	s.Lost = txn.AcceptLoss
	log := &counter{word: []byte("going on without its records")}
	if err := run(t.Context(), s, log); err != nil {
		t.Fatal(err)
	}
	awaitNoneOpen(t, k)
	ns, err := seenNumbers(t.Context(), k, "out")
	if err != nil {
		t.Fatal(err)
	}
	lost := map[int]bool{}
	for n := range 4000 {
		lost[n] = true
	}
	for i, n := range ns {
		delete(lost, n)
		if i > 0 && n == ns[i-1] {
			t.Errorf("%d is there twice", n)
		}
	}
	t.Logf("%d numbers lost, in %d transactions", len(lost), log.n.Load())
	if len(lost) == 0 || len(lost) > 2000 || log.n.Load() == 0 {
		t.Errorf("%d lost, %d transactions logged as lost", len(lost), log.n.Load())
	}
}

// counter counts a word in a log.
type counter struct {
	word []byte
	n    atomic.Int64
}

func (c *counter) Write(p []byte) (int, error) {
	if bytes.Contains(p, c.word) {
		c.n.Add(1)
	}
	return len(p), nil
}

// refusing is a store that completes no epoch while it is told to.
type refusing struct {
	store.Store
	on *atomic.Bool
}

func (s refusing) Publish(r *store.Record) error {
	if s.on.Load() {
		return errors.New("planted")
	}
	return s.Store.Publish(r)
}

// until waits for something in a running job.
func until(t *testing.T, ok func() bool) {
	t.Helper()
	for limit := time.After(time.Minute); !ok(); {
		select {
		case <-limit:
			t.Fatal("waited in vain")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// TestTxTimedOutBeforeItsEpoch has a store that fails for longer than transactions may be open: their records are written again.
func TestTxTimedOutBeforeItsEpoch(t *testing.T) {
	t.Parallel()
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{})
	if err := k.CreateTopic(t.Context(), "out", 1); err != nil {
		t.Fatal(err)
	}
	dir, bad := t.TempDir(), &atomic.Bool{}
	p := engine.New(engine.Config{
		Name: "late", Parallelism: 2, CheckpointEvery: 200 * time.Millisecond, TolerateFailures: 50, Restart: engine.Restart{Attempts: 1000, Delay: -1},
		Store: func(o store.Options) (store.Store, error) {
			d, err := store.Open(dir, o)
			return refusing{d, bad}, err
		},
	})
	in := gen.Source[int64]{Make: func(seq int64) int64 { return seq }, Count: 10_000, PerSecond: 2000, Splits: 2}
	engine.ToTx(engine.From(p, "numbers", in), "out", kafka.TxSink[int64]{
		Brokers: []string{k.Addr}, Topic: "out", Encode: plain, Timeout: time.Second, MaxDowntime: -1,
	})
	done := make(chan error, 1)
	go func() { done <- p.Run(t.Context()) }()
	until(t, func() bool { return p.Status().Epochs.Completed > 0 })
	bad.Store(true)
	until(t, func() bool { return p.Status().Restarts > 0 })
	bad.Store(false)
	if first := p.Status().Failures[0].Error; !strings.Contains(first, "Timeout") {
		t.Errorf("the job restarted because of %s", first)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	awaitNoneOpen(t, k)
	ns, err := seenNumbers(t.Context(), k, "out")
	if err != nil {
		t.Fatal(err)
	}
	for i, n := range ns {
		if n != i {
			t.Fatalf("number %d is %d", i, n)
		}
	}
	if len(ns) != 10_000 {
		t.Errorf("%d numbers, want 10000", len(ns))
	}
}
