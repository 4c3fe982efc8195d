package engine_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
	"github.com/weirline/weirline/state"
)

// tally keeps an A of each key and emits what show says of it.
type tally[A any] struct {
	name string
	add  func(*A, event)
	show func(int64, A) keyCount
	acc  state.Value[A]
}

func (t *tally[A]) Open(s *engine.Setup[int64]) error {
	t.acc = state.NewValue[A](s, t.name)
	return nil
}

func (t *tally[A]) Process(c *engine.Ctx[int64], e event, out *engine.Out[keyCount]) error {
	a := t.acc.Ref()
	t.add(a, e)
	out.Emit(t.show(c.Key(), *a))
	return nil
}

type tallyV1 struct {
	N, Sum int64
	Label  string
}

// tallyV2 has a field more, and others in another order.
type tallyV2 struct {
	Label       string
	N, Sum, Max int64
}

const upgradeRecords = 20_000

func numbersFrom(p *engine.Pipeline, name string, rate float64) engine.Keyed[int64, event] {
	s := engine.From(p, name, gen.Source[event]{Make: makeEvent, Count: upgradeRecords, Splits: 8, PerSecond: rate})
	return engine.KeyBy(s, func(e event) int64 { return e.Key })
}

func version1(cfg engine.Config, db *enginetest.Tx[keyCount]) *engine.Pipeline {
	p := engine.New(cfg)
	k := numbersFrom(p, "numbers", 10_000)
	engine.ToTx(engine.Process(k, "sum", func() *tally[tallyV1] {
		return &tally[tallyV1]{
			name: "acc", add: func(a *tallyV1, e event) { a.N++; a.Sum += e.Value; a.Label = "v1" },
			show: func(k int64, a tallyV1) keyCount { return keyCount{Key: k, Count: a.N, Sum: a.Sum} },
		}
	}), "out", db)
	engine.To(engine.Process(k, "extra", func() *sum { return &sum{} }), "extra-out", &enginetest.Collect[keyCount]{})
	return p
}

// version2 calls everything something else, counts more, drops what isn't needed and has something new.
func version2(cfg engine.Config, db *enginetest.Tx[keyCount], fresh *enginetest.Collect[keyCount]) *engine.Pipeline {
	cfg.Renamed = map[string]string{"events": "numbers", "totals": "sum", "ledger": "out"}
	return version2As(cfg, db, fresh)
}

func version2As(cfg engine.Config, db *enginetest.Tx[keyCount], fresh *enginetest.Collect[keyCount]) *engine.Pipeline {
	p := engine.New(cfg)
	k := numbersFrom(p, "events", 0)
	engine.ToTx(engine.Process(k, "totals", func() *tally[tallyV2] {
		return &tally[tallyV2]{
			name: "acc", add: func(a *tallyV2, e event) { a.N++; a.Sum += e.Value; a.Max = max(a.Max, e.Value) },
			show: func(k int64, a tallyV2) keyCount { return keyCount{Key: k, Count: a.N, Sum: a.Sum} },
		}
	}), "ledger", db)
	engine.To(engine.Process(k, "fresh", func() *sum { return &sum{} }), "fresh-out", fresh)
	return p
}

// savedV1 runs version 1 for a while and returns where its savepoint is; the job is stopped if stop says so.
func savedV1(t *testing.T, cfg engine.Config, db *enginetest.Tx[keyCount], stop bool) (save string) {
	t.Helper()
	save = filepath.Join(t.TempDir(), "save")
	saveV1(t, cfg, db, stop, save)
	return save
}

// saveV1 is savedV1 with the place of the savepoint given. It lets time pass, so it belongs into a bubble.
func saveV1(t *testing.T, cfg engine.Config, db *enginetest.Tx[keyCount], stop bool, save string) {
	t.Helper()
	p := version1(cfg, db)
	end := running(t, p)
	time.Sleep(800 * time.Millisecond)
	var err error
	if stop {
		_, err = p.StopWithSavepoint(t.Context(), engine.Suspend, save)
	} else {
		_, err = p.Savepoint(t.Context(), save)
		p.Stop(engine.Suspend)
	}
	must(t, err)
	must(t, end())
}

func TestUpgradeThroughASavepoint(t *testing.T) {
	for _, par := range []int{1, 5} {
		bubble.Test(t, func(t *testing.T) {
			db := enginetest.NewTx[keyCount]()
			cfg := engine.Config{Name: "upgrade", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: 50 * time.Millisecond}
			save := savedV1(t, cfg, db, true)
			before := len(db.Rows())
			var log strings.Builder
			if par == 5 {
				cfg.Dir = t.TempDir()
			}
			cfg.Parallelism, cfg.AllowDropped = par, true
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			cfg.Begin = savepoint.Start{Job: "upgrade", From: save}.Begin
			var fresh enginetest.Collect[keyCount]
			must(t, version2(cfg, db, &fresh).Run(t.Context()))
			last := map[int64]keyCount{}
			for _, r := range db.Rows() {
				if last[r.Key].Count < r.Count {
					last[r.Key] = r
				}
			}
			for k, w := range wantTallies() {
				if got := last[k]; got.Count != w[0] || got.Sum != w[1] {
					t.Errorf("key %d: %v, want %v", k, got, w)
				}
			}
			if got := len(db.Rows()); got != upgradeRecords || before == 0 || before == got {
				t.Errorf("%d rows, %d of them before the upgrade, want %d", got, before, upgradeRecords)
			}
			if got := len(fresh.Rows()); got != upgradeRecords-before {
				t.Errorf("the new operator had %d records, %d came after the upgrade", got, upgradeRecords-before)
			}
			for _, want := range []string{"starts empty\" operator=fresh", "left behind", "extra"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log doesn't say %q:\n%s", want, log.String())
				}
			}
			// The same binary, started again: the renaming is done.
			must(t, version2(cfg, db, &fresh).Run(t.Context()))
		})
	}
}

func wantTallies() map[int64][2]int64 {
	want := map[int64][2]int64{}
	for seq := range int64(upgradeRecords) {
		k := makeEvent(seq).Key
		want[k] = [2]int64{want[k][0] + 1, want[k][1] + seq}
	}
	return want
}

// TestUpgradesThatAreRefused: each says what is wrong and how to go on, and deletes nothing.
func TestUpgradesThatAreRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		db := enginetest.NewTx[keyCount]()
		cfg := engine.Config{Name: "upgrade", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: -1}
		save := savedV1(t, cfg, db, false) // with transactions that aren't known to be committed elsewhere
		before := tree(t, save)
		run := func(change func(c *engine.Config), build func(c engine.Config) *engine.Pipeline) error {
			c := cfg
			c.Dir = t.TempDir()
			change(&c)
			c.Begin = savepoint.Start{Job: c.Name, From: save}.Begin
			return build(c).Run(t.Context())
		}
		v2 := func(c engine.Config) *engine.Pipeline {
			return version2(c, db, &enginetest.Collect[keyCount]{})
		}
		renamed := func(names ...string) func(c engine.Config) *engine.Pipeline {
			return func(c engine.Config) *engine.Pipeline {
				c.Renamed = map[string]string{}
				for i := 0; i < len(names); i += 2 {
					c.Renamed[names[i]] = names[i+1]
				}
				return version2As(c, db, &enginetest.Collect[keyCount]{})
			}
		}
		allow := func(c *engine.Config) { c.AllowDropped = true }
		none := func(*engine.Config) {}
		wants(t, run(none, v2), fault.DroppedState, "extra", "-allow-dropped")
		wants(t, run(allow, renamed("events", "numbers", "totals", "sum", "ledger", "nobody")), fault.UnknownName, `"ledger" was "nobody"`, "neither")
		wants(t, run(allow, renamed("nobody", "numbers")), fault.BadPipeline, `"nobody" was "numbers"`)
		wants(t, run(allow, renamed("totals", "events")), fault.BadPipeline, `"totals" was "events"`)
		wants(t, run(allow, renamed("events", "numbers", "totals", "sum")), fault.UncommittedOp, `"out"`)
		wants(t, run(func(c *engine.Config) { c.Parallelism, c.KeyGroups = 200, 256 }, v2), fault.Parallelism, "128 key groups")
		wants(t, run(func(c *engine.Config) { c.Name = "other" }, v2), fault.OtherJob, `"upgrade"`, `"other"`, save)
		wants(t, run(none, func(c engine.Config) *engine.Pipeline {
			p := engine.New(c)
			k := numbersFrom(p, "numbers", 0)
			type text struct{ N, Sum string }
			engine.ToTx(engine.Process(k, "sum", func() *tally[text] {
				return &tally[text]{name: "acc", add: func(*text, event) {}, show: func(int64, text) keyCount { return keyCount{} }}
			}), "out", db)
			engine.To(engine.Process(k, "extra", func() *sum { return &sum{} }), "extra-out", &enginetest.Collect[keyCount]{})
			return p
		}), fault.BadState, "acc")
		if after := tree(t, save); !slices.Equal(before, after) {
			t.Errorf("the savepoint changed:\n%v\n%v", before, after)
		}
	})
}

// TestBadSavepoints: files that are damaged, missing or in the way.
func TestBadSavepoints(t *testing.T) {
	db := enginetest.NewTx[keyCount]()
	cfg := engine.Config{Name: "upgrade", Dir: t.TempDir(), Parallelism: 2, CheckpointEvery: -1}
	save := filepath.Join(t.TempDir(), "save")
	bubble.Test(t, func(t *testing.T) { saveV1(t, cfg, db, true, save) })
	blobs, err := filepath.Glob(filepath.Join(save, "epochs", "*", "*"))
	must(t, err)
	records, err := filepath.Glob(filepath.Join(save, "epochs", "*.epoch"))
	must(t, err)
	if len(records) != 1 {
		t.Fatalf("records %v, blobs %v", records, blobs)
	}
	for name, c := range map[string]struct {
		spoil func(dir string) error
		code  fault.Code
		says  string
	}{
		"flipped record":  {func(dir string) error { return flip(filepath.Join(dir, "epochs", filepath.Base(records[0]))) }, fault.DamagedEpoch, filepath.Base(records[0])},
		"missing record":  {func(dir string) error { return os.Remove(filepath.Join(dir, "epochs", filepath.Base(records[0]))) }, fault.DamagedEpoch, filepath.Base(records[0])},
		"missing pointer": {func(dir string) error { return os.Remove(filepath.Join(dir, "CURRENT")) }, fault.DamagedEpoch, "CURRENT"},
		"truncated": {func(dir string) error {
			return os.Truncate(filepath.Join(dir, "epochs", filepath.Base(records[0])), 100)
		}, fault.DamagedEpoch, filepath.Base(records[0])},
		"interrupted": {func(dir string) error {
			must(t, os.RemoveAll(dir))
			must(t, os.MkdirAll(filepath.Join(dir, "epochs"), 0o700))
			return nil
		}, fault.NoCheckpoint, "never completed"},
		"nothing": {os.RemoveAll, fault.NoCheckpoint, "no checkpoints"},
	} {
		dir := filepath.Join(t.TempDir(), "copy")
		must(t, os.CopyFS(dir, os.DirFS(save)))
		must(t, c.spoil(dir))
		before := tree(t, dir)
		own := t.TempDir()
		cfg := cfg
		cfg.Dir = own
		cfg.Begin = savepoint.Start{Job: cfg.Name, From: dir}.Begin
		err := version1(cfg, db).Run(t.Context())
		t.Logf("%s: %v", name, err)
		wants(t, err, c.code, c.says)
		if after := tree(t, dir); !slices.Equal(before, after) {
			t.Errorf("%s: files changed: %v, %v", name, before, after)
		}
		d, err := os.ReadDir(filepath.Join(own, "epochs"))
		if err != nil || len(d) > 0 {
			t.Errorf("%s: the own state has %v, %v", name, d, err)
		}
	}
	// A savepoint doesn't go where something is.
	p := version1(engine.Config{Name: "upgrade", Dir: t.TempDir(), Parallelism: 1}, enginetest.NewTx[keyCount]())
	end := running(t, p)
	before := tree(t, save)
	_, err = p.Savepoint(t.Context(), save)
	wants(t, err, fault.SavepointTaken, save)
	if after := tree(t, save); !slices.Equal(before, after) {
		t.Error("the place that was taken was changed")
	}
	p.Stop(engine.Suspend)
	must(t, end())
}

func flip(name string) error {
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	b[len(b)/2] ^= 4
	return os.WriteFile(name, b, 0o600)
}

// tree is the names and sizes of all files below a directory.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) && path == dir {
			return nil
		}
		if err == nil && !d.IsDir() {
			fi, err := d.Info()
			if err != nil {
				return err
			}
			all = append(all, fmt.Sprint(path, fi.Size(), fi.ModTime()))
		}
		return err
	})
	must(t, err)
	return all
}

// TestWatermarksSurviveEverything: what was late stays late after a resume, at any parallelism, elsewhere, and a rescale.
func TestWatermarksSurviveEverything(t *testing.T) {
	first := enginetest.Recs(stamped{"x", 1}, stamped{"x", 30})
	second := enginetest.Recs(stamped{"x", 3}, stamped{"x", 31})
	build := func(cfg engine.Config, steps ...enginetest.Step[stamped]) (*engine.Pipeline, *enginetest.Collect[string], *enginetest.Collect[stamped]) {
		p := engine.New(cfg)
		src := &enginetest.Script[stamped]{Splits: map[string][]enginetest.Step[stamped]{"a": steps}}
		win, res := countByKey(engine.From(p, "in", src).EventTime(at, engine.Watermarks{}).Rebalance(), engine.Tumbling{Size: 10 * time.Second})
		var out enginetest.Collect[string]
		var late enginetest.Collect[stamped]
		engine.To(res, "out", &out)
		engine.To(win.Late(), "late", &late)
		return p, &out, &late
	}
	for _, how := range []string{"resume", "resume wider", "savepoint", "savepoint wider", "rescale"} {
		bubble.Test(t, func(t *testing.T) {
			cfg := engine.Config{Name: "late", Dir: t.TempDir(), Parallelism: 2, BatchSize: 1, CheckpointEvery: -1}
			steps := append(slices.Clone(first), enginetest.Stay[stamped]())
			if how == "rescale" {
				steps = append(append(slices.Clone(first), enginetest.Wait[stamped](2*time.Second)), second...)
			}
			p, out, late := build(cfg, steps...)
			end := running(t, p)
			time.Sleep(time.Second)
			switch {
			case how == "rescale":
				must(t, p.Rescale(t.Context(), 5))
			case strings.HasPrefix(how, "savepoint"):
				save := filepath.Join(t.TempDir(), "save")
				_, err := p.StopWithSavepoint(t.Context(), engine.Suspend, save)
				must(t, err)
				cfg.Dir = t.TempDir()
				cfg.Begin = savepoint.Start{Job: cfg.Name, From: save}.Begin
			default:
				p.Stop(engine.Suspend)
			}
			must(t, end())
			if got := out.Rows(); how != "rescale" && !slices.Equal(got, []string{"x 0 1"}) {
				t.Errorf("%s: before the stop %v", how, got)
			}
			if how != "rescale" {
				if strings.HasSuffix(how, "wider") {
					cfg.Parallelism = 5
				}
				p, out, late = build(cfg, append(slices.Clone(first), second...)...)
				must(t, p.Run(t.Context()))
			}
			if got := late.Rows(); !slices.Equal(got, []stamped{{"x", 3}}) {
				t.Errorf("%s: late %v", how, got)
			}
			if got := out.Rows(); got[len(got)-1] != "x 30 2" {
				t.Errorf("%s: results %v", how, got)
			}
		})
	}
}
