package benchmarks

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	bare "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/state/pebble"
)

// BenchmarkPebbleKeyedSum compares keyed state on disk, with a checkpoint each second, to a get and a set for each record.
func BenchmarkPebbleKeyedSum(b *testing.B) {
	const keys, records, limitRecords, rounds = 1_000_000, 20_000_000, 1_000_000, 3
	j := job[load.Sum]{records, keys, load.Fill(keys), load.Keyed, load.KeyedAnswer}
	var want [2]int64
	dbs := filled(b, keys)
	var ratios, rates, limits []float64
	for b.Loop() {
		for range rounds {
			began := time.Now()
			getAndSet(b, dbs, limitRecords, keys)
			limit := float64(time.Since(began).Nanoseconds()) / limitRecords
			took, _ := j.run(b, engine.Config{Dir: b.TempDir(), State: pebble.New(pebble.Options{}), CheckpointEvery: time.Second}, &want)
			ours := float64(took.Nanoseconds()) / records
			ratios, rates, limits = append(ratios, ours/limit), append(rates, 1e9/ours), append(limits, limit)
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios), "xlimit")
	b.ReportMetric(median(rates), "rec/s")
	b.ReportMetric(median(limits), "limit-ns")
}

// filled opens a database for each task and puts its keys into it. They have filters of keys, as the backend has, all of its
// memory as a cache, and all keys in one level.
func filled(b *testing.B, keys uint32) (dbs [tasks]*bare.DB) {
	b.Helper()
	cache := bare.NewCache(320 << 20) // the backend has 256 MiB for entries and 64 MiB for blocks
	defer cache.Unref()
	for i := range dbs {
		o := &bare.Options{DisableWAL: true, Cache: cache, MemTableSize: 16 << 20, Logger: silent{}}
		for level := range o.Levels {
			o.Levels[level].FilterPolicy = bloom.FilterPolicy(10)
		}
		db, err := bare.Open(b.TempDir(), o)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			if err := db.Close(); err != nil {
				b.Error(err)
			}
		})
		dbs[i] = db
	}
	var key, val [8]byte
	for k := range uint64(keys) {
		binary.BigEndian.PutUint64(key[:], k)
		if err := dbs[taskOf(int64(k))].Set(key[:], val[:], bare.NoSync); err != nil {
			b.Fatal(err)
		}
	}
	for _, db := range dbs {
		if err := db.Compact(b.Context(), []byte{0}, []byte{0xff}, false); err != nil {
			b.Fatal(err)
		}
	}
	return dbs
}

// silent keeps the library's log out of the output.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

// getAndSet is the limit: the same exchange, then a get and a set for each record.
func getAndSet(b *testing.B, dbs [tasks]*bare.DB, n int64, keys uint32) {
	b.Helper()
	count, _ := shuffled(n, keys, func(batches func(func([]load.Event) bool)) (count, sum int64) {
		for es := range batches {
			db := dbs[taskOf(es[0].Key)]
			for _, e := range es {
				if err := addTo(db, e); err != nil {
					b.Error(err)
				}
			}
			count += int64(len(es))
		}
		return count, 0
	})
	if count != n {
		b.Fatalf("the limit handled %d records, want %d", count, n)
	}
}

func addTo(db *bare.DB, e load.Event) error {
	var key, val [8]byte
	binary.BigEndian.PutUint64(key[:], uint64(e.Key))
	v, closer, err := db.Get(key[:])
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(val[:], binary.LittleEndian.Uint64(v)+uint64(e.Value))
	return errors.Join(closer.Close(), db.Set(key[:], val[:], bare.NoSync))
}

// BenchmarkRestore measures from the start of a job until its keyed operator has a record, with a million keys to restore.
func BenchmarkRestore(b *testing.B) {
	const keys = 1_000_000
	dir := b.TempDir()
	run := func(after int64) (took time.Duration) {
		p := engine.New(engine.Config{Name: "bench", Dir: dir, Parallelism: tasks, CheckpointEvery: -1})
		began, left := time.Now(), atomic.Int64{}
		left.Store(after)
		var first atomic.Int64
		s := engine.From(p, "events", gen.Source[load.Event]{Fill: load.Fill(keys)})
		sums := engine.Process(engine.KeyBy(s, load.KeyOf), "sum", func() *firstSummer {
			return &firstSummer{seen: func() {
				first.CompareAndSwap(0, int64(time.Since(began)))
			}}
		})
		total := load.NewTotal(func(load.Sum) int64 {
			if left.Add(-1) == 0 {
				p.Stop(engine.Suspend)
			}
			return 0
		})
		engine.To(sums, "discard", total)
		if err := p.Run(context.WithoutCancel(b.Context())); err != nil {
			b.Fatal(err)
		}
		return time.Duration(first.Load())
	}
	run(16 * keys) // all keys but some in ten million are there then
	var all []float64
	for b.Loop() {
		all = append(all, run(1).Seconds()*1000)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(all), "restore-ms")
}

// firstSummer is load.Summer that tells of its first record.
type firstSummer struct {
	load.Summer
	seen func()
}

func (s *firstSummer) Process(ctx *engine.Ctx[int64], e load.Event, out *engine.Out[load.Sum]) error {
	if s.seen != nil {
		s.seen()
		s.seen = nil
	}
	return s.Summer.Process(ctx, e, out)
}
