package main

import (
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/cli"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/state/pebble"
)

const (
	jobName    = "chaos-job"
	topic      = "chaos"
	partitions = 4
)

// event is a record of the topic.
type event struct {
	Key   uint32
	Value int64
}

// row is what comes out for each record: the sum so far of the key's first N records.
type row struct {
	Key uint32
	N   uint32
	Sum int64
}

const rowBytes = 16

func (r row) append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, r.Key)
	dst = binary.LittleEndian.AppendUint32(dst, r.N)
	return binary.LittleEndian.AppendUint64(dst, uint64(r.Sum))
}

func rowOf(b []byte) row {
	return row{binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:]), int64(binary.LittleEndian.Uint64(b[8:]))}
}

// eventAt is record number seq, the same in every run.
func eventAt(seq int64, keys uint64) event {
	z := uint64(seq) + 0x9E3779B97F4A7C15
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	return event{Key: uint32(z >> 32 % keys), Value: int64(z & 0xFFFFF)}
}

func decode(r *kafka.Record) (event, error) {
	if len(r.Value) != 12 {
		return event{}, fmt.Errorf("a record of %d bytes, want 12", len(r.Value))
	}
	return event{binary.LittleEndian.Uint32(r.Value), int64(binary.LittleEndian.Uint64(r.Value[4:]))}, nil
}

// runJob is the process that is killed.
func runJob(args []string) {
	var broker, out, backend string
	var rate float64
	os.Args = args
	cli.App{
		Name: jobName,
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&broker, "kafka", "", "broker")
			fs.StringVar(&out, "out", "", "directory of the results")
			fs.StringVar(&backend, "backend", "pebble", "where state lives")
			fs.Float64Var(&rate, "rate", 0, "records a second; 0 = no limit")
		},
		Build: func(_ context.Context, e *cli.Env) (*engine.Pipeline, error) {
			cfg := e.Config
			cfg.CheckpointEvery = 500 * time.Millisecond
			if err := useBackend(&cfg, backend); err != nil {
				return nil, err
			}
			return pipeline(cfg, broker, out, rate), nil
		},
	}.Main()
}

// useBackend sets where state lives. On disk, the tables hold a part of a million keys only.
func useBackend(cfg *engine.Config, name string) error {
	switch name {
	case "memory":
	case "pebble":
		cfg.State = pebble.New(pebble.Options{Room: 16 << 20})
	default:
		return fmt.Errorf("-backend %q: use memory or pebble", name)
	}
	return nil
}

func pipeline(cfg engine.Config, broker, out string, rate float64) *engine.Pipeline {
	p := engine.New(cfg)
	src := kafka.Source[event]{Brokers: []string{broker}, Topics: []string{topic}, Decode: decode, Stop: kafka.StopLatest}
	var s engine.Stream[event]
	if rate > 0 {
		s = engine.From(p, "events", reader.RateLimit(src, rate))
	} else {
		s = engine.From(p, "events", src)
	}
	byKey := engine.KeyBy(s, func(e event) uint32 { return e.Key })
	sums := engine.Process(byKey, "sum", func() *summer { return &summer{} })
	engine.ToTx(sums, "out", files.TxSink[row]{Dir: out, Encode: func(dst []byte, r row) []byte { return r.append(dst) }})
	return p
}

// total is a key's state.
type total struct {
	N   uint32
	Sum int64
}

// summer adds up.
type summer struct{ of state.Value[total] }

func (s *summer) Open(b *engine.Setup[uint32]) error {
	s.of = state.NewValue[total](b, "total")
	return nil
}

func (s *summer) Process(_ *engine.Ctx[uint32], e event, out *engine.Out[row]) error {
	t := s.of.Ref()
	t.N++
	t.Sum += e.Value
	out.Emit(row{e.Key, t.N, t.Sum})
	return nil
}
