package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

var places atomic.Int64

// place is a sink of text under a prefix of its own.
func place(addr string) TxSink[string] {
	return TxSink[string]{
		Bucket: testsvc.S3Bucket, Prefix: fmt.Sprintf("t%d", places.Add(1)), Endpoint: "http://" + addr,
		AccessKey: testsvc.S3AccessKey, SecretKey: testsvc.S3SecretKey,
	}
}

// opened is the store of a sink.
func opened[T any](s TxSink[T]) (*store, error) { return s.settings().open(context.Background()) }

// visible returns the lines a reader sees.
func visible[T any](srv *testsvc.S3Server, of TxSink[T]) (lines []string, _ error) {
	all, err := srv.Objects(context.Background(), of.Prefix+"/")
	for _, key := range slices.Sorted(maps.Keys(all)) {
		for l := range strings.Lines(all[key]) {
			lines = append(lines, strings.TrimSuffix(l, "\n"))
		}
	}
	return lines, err
}

// leftovers names the uploads under a slot.
func leftovers[T any](of TxSink[T], slot string) (left []string, _ error) {
	s, err := opened(of)
	if err != nil {
		return nil, err
	}
	defer s.close()
	us, err := s.mine(context.Background(), func(of, _ string) bool { return of == slot })
	for _, u := range us {
		left = append(left, u.key)
	}
	return left, err
}

// abortOf aborts a transaction's uploads, as an administrator or a lifecycle rule might.
func abortOf(ctx context.Context, of TxSink[string], h sink.Handle) error {
	s, err := opened(of)
	if err != nil {
		return err
	}
	defer s.close()
	n, err := readNative(h)
	for _, o := range n.Objects {
		err = errors.Join(err, s.abort(ctx, upload{key: o.Key, id: o.Upload}))
	}
	return err
}

func TestTxContract(t *testing.T) {
	own := testsvc.NewS3(t) // to be killed
	s := place(own.Addr)
	s.Timeout = 3 * time.Second // while it is away
	s.Folder = func(dst []byte, v string) []byte { return append(dst, '0'+v[len(v)-1]&1) }
	lossy := s
	lossy.Lost = txn.AcceptLoss
	txntest.Run(t, txntest.Case[string]{
		TxCase: sinktest.TxCase[string]{
			Sink:    s,
			Make:    func(i int) string { return fmt.Sprint("record ", i) },
			Visible: func() ([]string, error) { return visible(own, s) },
			Left:    func(slot sink.Slot) ([]string, error) { return leftovers(s, slot.Name) },
		},
		Lossy:    lossy,
		RollBack: func(ctx context.Context, h sink.Handle) error { return abortOf(ctx, s, h) },
		Forget: func(_ context.Context, h sink.Handle) (sink.Handle, error) {
			n, err := readNative(h)
			n.Endpoint, n.Objects[0].Key, n.Objects[0].Upload = "http://elsewhere:9000", s.Prefix+"/x-1-"+h.Token+"_0000", "gone" // another server's
			var eerr error
			h.Native, eerr = txn.Encode(nativeVersion, n)
			return h, errors.Join(err, eerr)
		},
		MaxSlot:  maxSlot,
		Kill:     own.Kill,
		Restart:  own.Restart,
		Outlives: true,
	})
}

// counts is a task's metrics.
type counts struct{ parts, bytes, objects atomic.Int64 }

func (c *counts) Count(name string, n int64) {
	if m := map[string]*atomic.Int64{"parts": &c.parts, "part_bytes": &c.bytes, "objects": &c.objects}[name]; m != nil {
		m.Add(n)
	}
}

func (*counts) Gauge(string, float64)   {}
func (*counts) Observe(string, float64) {}

func task() sink.Task {
	return sink.Task{
		Job: "job", Operator: "out", Parallelism: 1, Log: slog.New(slog.DiscardHandler), Metrics: &counts{}, Request: func() {},
	}
}

// open makes a writer and a committer that end with the test.
func open[T any](t *testing.T, s TxSink[T]) (*txWriter[T], sink.Committer) {
	t.Helper()
	w, err := s.TxWriter(t.Context(), task())
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Committer(t.Context(), task())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), c.Close()); err != nil {
			t.Error(err)
		}
	})
	return w.(*txWriter[T]), c
}

// storeOf ends with the test.
func storeOf[T any](t *testing.T, of TxSink[T]) *store {
	t.Helper()
	s, err := opened(of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}
