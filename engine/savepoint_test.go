package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
	"github.com/weirline/weirline/sink"
)

// sums keeps a running sum of each key; the last one of each is the whole.
func sums(cfg engine.Config, n int64, rate float64, out *enginetest.Tx[keyCount], trip func(event)) *engine.Pipeline {
	p := engine.New(cfg)
	s := engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Count: n, Splits: 8, PerSecond: rate})
	s = engine.Map(s, "trip", func(e event) event { trip(e); return e })
	engine.ToTx(engine.Process(engine.KeyBy(s, func(e event) int64 { return e.Key }), "sum", func() *sum { return &sum{} }), "out", out)
	return p
}

func quiet(event) {}

// checkSums checks that each record was counted once.
func checkSums(t *testing.T, got []keyCount, n int64) {
	t.Helper()
	want, have, rows := map[int64]int64{}, map[int64]int64{}, map[keyCount]int{}
	for seq := range n {
		e := makeEvent(seq)
		want[e.Key] += e.Value
	}
	for _, g := range got {
		have[g.Key] = max(have[g.Key], g.Sum)
		rows[g]++
	}
	for k, w := range want {
		if have[k] != w {
			t.Errorf("key %d: the last sum is %d, want %d", k, have[k], w)
		}
	}
	for g, times := range rows {
		if times > 1 && g.Sum > 0 {
			t.Errorf("%v was committed %d times", g, times)
		}
	}
	if len(got) != int(n) {
		t.Errorf("%d rows, want %d", len(got), n)
	}
}

// running runs a pipeline beside the test; the result is its end.
func running(t *testing.T, p *engine.Pipeline) (end func() error) {
	t.Helper()
	got := make(chan error, 1)
	go func() { got <- p.Run(t.Context()) }()
	for p.Status().Phase != "running" {
		select {
		case err := <-got:
			t.Fatalf("the job ended at once: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	return func() error { return <-got }
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wants checks the code of an error and that its text names what it should.
func wants(t *testing.T, err error, code fault.Code, texts ...string) {
	t.Helper()
	if !errors.Is(err, fault.New(code, "")) {
		t.Errorf("got %v, want a %s", err, code.ID)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v doesn't say %q", err, text)
		}
	}
}

func TestStopWithSavepointAndBeginAnywhere(t *testing.T) {
	for _, mode := range []engine.StopMode{engine.Suspend, engine.Drain} {
		for _, par := range []int{1, 3, 32} {
			bubble.Test(t, func(t *testing.T) {
				const n = 20_000
				cfg := engine.Config{Name: "sums", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 20 * time.Millisecond}
				save := filepath.Join(t.TempDir(), "save")
				db := enginetest.NewTx[keyCount]()
				p := sums(cfg, n, 10_000, db, quiet)
				end := running(t, p)
				time.Sleep(700 * time.Millisecond)
				epoch, err := p.StopWithSavepoint(t.Context(), mode, save)
				must(t, err)
				must(t, end())
				if last := p.Status().Epochs.Last; epoch <= last {
					t.Errorf("the savepoint is epoch %d, the job's last %d", epoch, last)
				}
				if got := len(db.Rows()); got == 0 || got == n {
					t.Fatalf("%d of %d rows at the stop", got, n)
				}
				if par == 3 {
					moved := filepath.Join(t.TempDir(), "moved")
					must(t, os.Rename(save, moved))
					save = moved
				}
				cfg.Parallelism = par
				if par != 1 { // elsewhere
					cfg.Dir = t.TempDir()
				}
				cfg.Begin = savepoint.Start{Job: cfg.Name, From: save}.Begin
				p = sums(cfg, n, 0, db, quiet)
				must(t, p.Run(t.Context()))
				if got := p.Status().Epochs.Last; got <= epoch+1 {
					t.Errorf("numbers go on with %d after %d", got, epoch)
				}
				checkSums(t, db.Rows(), n)
				must(t, sums(cfg, n, 0, db, func(event) { t.Error("a finished job ran") }).Run(t.Context()))
			})
		}
	}
}

func TestSavepointsOfARunningJob(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const n = 20_000
		var seen atomic.Int64
		cfg := engine.Config{
			Name: "sums", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 30 * time.Millisecond,
			Restart: engine.Restart{Delay: time.Millisecond, Attempts: 1000},
		}
		db := enginetest.NewTx[keyCount]()
		p := sums(cfg, n, 10_000, db, func(event) {
			if seen.Add(1)%3000 == 0 {
				panic("planted")
			}
		})
		end := running(t, p)
		base := t.TempDir()
		var saves sync.WaitGroup
		for i := range 15 { // several at once, also while the job restarts
			saves.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				if _, err := p.Savepoint(t.Context(), filepath.Join(base, fmt.Sprint(i))); err != nil {
					t.Error(err)
				}
			})
		}
		saves.Wait()
		must(t, end())
		checkSums(t, db.Rows(), n)
		if p.Status().Restarts < 5 {
			t.Errorf("only %d restarts", p.Status().Restarts)
		}
		for i := range 15 {
			cfg.Dir = t.TempDir()
			cfg.Parallelism = 1 + i%5
			cfg.Begin = savepoint.Start{Job: cfg.Name, From: filepath.Join(base, fmt.Sprint(i))}.Begin
			before := len(db.Rows())
			must(t, sums(cfg, n, 0, db, quiet).Run(t.Context()))
			want := map[int64]int64{}
			for seq := range int64(n) {
				want[makeEvent(seq).Key] += seq
			}
			last := map[int64]int64{}
			for _, r := range db.Rows()[before:] {
				last[r.Key] = max(last[r.Key], r.Sum)
			}
			for k, s := range last {
				if s != want[k] {
					t.Errorf("savepoint %d: key %d ends with %d, want %d", i, k, s, want[k])
				}
			}
		}
	})
}

// brokenStore fails to make blobs or to publish.
type brokenStore struct {
	store.Store
	create, publish error
	slow            bool
	hang            chan struct{}
}

func (b *brokenStore) Create(epoch uint64, name string) (store.Writer, error) {
	if b.slow {
		<-b.hang
	}
	if b.create != nil {
		return nil, b.create
	}
	return b.Store.Create(epoch, name)
}

func (b *brokenStore) Publish(r *store.Record) error {
	if b.publish != nil {
		return b.publish
	}
	return b.Store.Publish(r)
}

func TestAFailingSavepointHurtsNobody(t *testing.T) {
	planted := errors.New("planted")
	for name, broken := range map[string]*brokenStore{
		"create": {create: planted}, "publish": {publish: planted}, "given up": {slow: true}, "in time": {slow: true},
		"unknown": {publish: fmt.Errorf("%w: %w", store.ErrUnknown, planted)},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				const n = 10_000
				base, hang := t.TempDir(), make(chan struct{})
				cfg := engine.Config{
					Name: "sums", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 30 * time.Millisecond, CheckpointTimeout: 100 * time.Millisecond,
					TolerateFailures: 1, Restart: engine.Restart{Attempts: -1},
				}
				cfg.Open = func(location string, o store.Options) (store.Store, error) {
					d, err := store.Open(location, o)
					b := *broken
					b.Store, b.hang = d, hang
					return &b, err
				}
				db := enginetest.NewTx[keyCount]()
				p := sums(cfg, n, 10_000, db, quiet)
				end := running(t, p)
				for range 3 {
					ctx, cancel := context.WithCancel(t.Context())
					if name == "given up" {
						time.AfterFunc(50*time.Millisecond, cancel)
					}
					_, err := p.Savepoint(ctx, filepath.Join(base, "save"))
					cancel()
					wants(t, err, fault.SavepointFails, "save")
					if !broken.slow && !errors.Is(err, planted) {
						t.Errorf("the cause is lost: %v", err)
					}
				}
				close(hang)
				must(t, end())
				checkSums(t, db.Rows(), n)
				if left, err := os.ReadDir(base); err != nil || len(left) > 0 {
					t.Errorf("left behind: %v, %v", left, err)
				}
				if s := p.Status(); s.Restarts > 0 || s.Epochs.Failed > 0 {
					t.Errorf("the job was hurt: %+v", s.Epochs)
				}
			})
		})
	}
}

func TestSavepointOfAJobThatDoesNotRun(t *testing.T) {
	p := sums(engine.Config{Name: "sums", Dir: t.TempDir(), Parallelism: 1}, 100, 0, enginetest.NewTx[keyCount](), quiet)
	_, err := p.Savepoint(t.Context(), t.TempDir())
	wants(t, err, fault.NotRunning)
	wants(t, p.Rescale(t.Context(), 2), fault.NotRunning)
	must(t, p.Run(t.Context()))
	_, err = p.Savepoint(t.Context(), filepath.Join(t.TempDir(), "save"))
	wants(t, err, fault.NotRunning)
}

func retained(t *testing.T, dir string) []store.Info {
	t.Helper()
	d, err := store.Open(dir, store.Options{ReadOnly: true})
	must(t, err)
	defer d.Close()
	return d.Records()
}

func TestBeginFromAnOlderCheckpoint(t *testing.T) {
	const n = 20_000
	dir := t.TempDir()
	cfg := engine.Config{Name: "sums", Dir: dir, Parallelism: 2, CheckpointEvery: 5 * time.Millisecond, Retain: 5}
	var read atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	p := sums(cfg, n, 40_000, enginetest.NewTx[keyCount](), func(event) {
		if read.Add(1) == n/2 {
			cancel()
		}
	})
	must(t, p.Run(ctx))
	kept := retained(t, dir)
	old, newest := kept[len(kept)-2].Epoch, kept[len(kept)-1].Epoch

	start := savepoint.Start{Job: cfg.Name, From: fmt.Sprintf("epoch:%d", old)}
	cfg.Begin = start.Begin
	run := func(trip func(event)) ([]keyCount, error) {
		db := enginetest.NewTx[keyCount]()
		err := sums(cfg, n, 0, db, trip).Run(t.Context())
		return db.Rows(), err
	}
	_, err := run(quiet)
	wants(t, err, fault.NewerThere, fmt.Sprintf("checkpoint %d", newest), "-rewind")
	var log strings.Builder
	cfg.Retain = 1
	start.Rewind, start.Log = true, slog.New(slog.NewTextHandler(&log, nil))
	cfg.Begin = start.Begin
	rows, err := run(quiet)
	must(t, err)
	last := map[int64]int64{}
	for _, r := range rows {
		last[r.Key] = max(last[r.Key], r.Sum)
	}
	want := map[int64]int64{}
	for seq := range int64(n) {
		want[makeEvent(seq).Key] += seq
	}
	for k := range want {
		if last[k] != want[k] {
			t.Errorf("key %d ends with %d, want %d", k, last[k], want[k])
		}
	}
	if !strings.Contains(log.String(), "appears again") {
		t.Errorf("nothing is said of what is lost: %s", log.String())
	}
	// The same command again goes on from the newest, though the one it began from is retired; here the input had ended.
	if kept := retained(t, dir); kept[0].Epoch <= old {
		t.Errorf("checkpoint %d isn't retired", old)
	}
	if rows, err = run(func(event) { t.Error("it went back again") }); err != nil || len(rows) > 0 {
		t.Errorf("the second run: %d rows, %v", len(rows), err)
	}
	for _, from := range []string{"epoch:999", "epoch:x", filepath.Join(dir, "nowhere")} {
		start.From = from
		cfg.Begin = start.Begin
		if _, err := run(quiet); err == nil {
			t.Errorf("begun from %s", from)
		}
	}
}

// slotLog notes which slots a committer is given to clear.
type slotLog struct {
	*enginetest.Tx[keyCount]
	slots []string
	kept  []sink.Handle
}

type loggingCommitter struct {
	sink.Committer
	to *slotLog
}

func (l *slotLog) Committer(ctx context.Context, t sink.Task) (sink.Committer, error) {
	c, err := l.Tx.Committer(ctx, t)
	return loggingCommitter{c, l}, err
}

func (c loggingCommitter) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	c.to.kept = keep
	for _, s := range slots {
		c.to.slots = append(c.to.slots, s.Name)
	}
	return c.Committer.Recover(ctx, keep, slots)
}

func TestNamesOfTransactionsUnderAnotherDirectory(t *testing.T) {
	cfg := engine.Config{Name: "sums", Dir: t.TempDir(), Parallelism: 3, CheckpointEvery: -1}
	save := filepath.Join(t.TempDir(), "save")
	db := enginetest.NewTx[keyCount]()
	p := sums(cfg, 0, 10_000, db, quiet)
	end := running(t, p)
	_, err := p.Savepoint(t.Context(), save) // its transactions are prepared and not committed
	must(t, err)
	p.Stop(engine.Suspend)
	must(t, end())
	for _, take := range []bool{false, true} {
		to := &slotLog{Tx: db}
		cfg.Dir, cfg.Parallelism = t.TempDir(), 1
		cfg.Begin = savepoint.Start{Job: cfg.Name, From: save, TakeOver: take}.Begin
		p := engine.New(cfg)
		s := engine.Map(engine.From(p, "numbers", gen.Source[event]{Make: makeEvent, Splits: 8}), "trip", func(e event) event { return e })
		engine.ToTx(engine.Process(engine.KeyBy(s, func(e event) int64 { return e.Key }), "sum", func() *sum { return &sum{} }), "out", to)
		p.Stop(engine.Suspend)
		must(t, p.Run(t.Context()))
		if len(to.kept) == 0 {
			t.Error("the savepoint's transactions are not committed")
		}
		own := slices.IndexFunc(to.slots, func(s string) bool { return strings.HasPrefix(s, "sums-out-") }) >= 0
		if own != take {
			t.Errorf("take over %v: slots %v", take, to.slots)
		}
		if per := 7; take != (len(to.slots) == 3*per) {
			t.Errorf("take over %v: %d slots", take, len(to.slots))
		}
		if slices.Contains(to.slots, to.kept[0].Slot.Name) != take {
			t.Errorf("take over %v: kept %v, slots %v", take, to.kept[0].Slot, to.slots)
		}
	}
}
