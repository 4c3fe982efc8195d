package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/state"
	"github.com/weirline/weirline/txn/txntest"
)

const (
	topic      = "input"
	partitions = 4
	records    = 20_000
	keys       = 64
)

// event is a record of the topic.
type event struct {
	Key   uint32
	Value int64
}

// eventAt is record number seq, the same in every run.
func eventAt(seq int) event {
	z := uint64(seq)*0x9E3779B97F4A7C15 + 1
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z ^= z >> 31
	return event{Key: uint32(z >> 32 % keys), Value: int64(z & 0xFFFFF)}
}

// partition keeps the records of a key in order: each result is then the same whoever computes it.
func (e event) partition() int32 { return int32(e.Key % partitions) }

func (e event) String() string { return fmt.Sprint(e.Key, " ", e.Value) }

func decode(r *kafka.Record) (e event, err error) {
	_, err = fmt.Sscan(string(r.Value), &e.Key, &e.Value)
	return e, err
}

// row is what comes out for each record: the sum of its key's first N values.
type row struct {
	Key uint32
	N   int64
	Sum int64
}

func (r row) String() string { return fmt.Sprint(r.Key, " ", r.N, " ", r.Sum) }

func rowOf(text string) (r row, err error) {
	parts := strings.Fields(text)
	if len(parts) != 3 {
		return r, fmt.Errorf("%q isn't a row", text)
	}
	_, err = fmt.Sscan(text, &r.Key, &r.N, &r.Sum)
	return r, err
}

func (r row) values() ([]any, error) { return []any{int64(r.Key), r.N, r.Sum}, nil }

// What a child is told beside the step.
const (
	argDest   = "destination" // by name
	argJob    = "job"         // its name, which begins those of transactions
	argDir    = "dir"         // of the store
	argBroker = "broker"      // where the input is
	argOut    = "out"         // a topic, a table, a directory
	argAddr   = "addr"        // of the destination's server
	argRate   = "rate"        // records a second if the child doesn't die; unset = no limit
)

// job is what a child runs.
func job(c *txntest.Child) error {
	d, err := find(c.Args[argDest])
	if err != nil {
		return err
	}
	rate := 2_000.0 // slow enough that there is input left when it dies, on a busy machine too
	if c.Step == "" {
		if rate, err = strconv.ParseFloat("0"+c.Args[argRate], 64); err != nil {
			return err
		}
	}
	p := engine.New(engine.Config{
		Name: c.Args[argJob], Dir: c.Args[argDir], Store: c.Store(c.Args[argDir]), Parallelism: c.Parallelism,
		CheckpointEvery: 20 * time.Millisecond, Restart: engine.Restart{Attempts: 1000, MaxDelay: 500 * time.Millisecond},
	})
	s := engine.From(p, "events", reader.RateLimit(kafka.Source[event]{
		Brokers: []string{c.Args[argBroker]}, Topics: []string{topic}, Decode: decode, Stop: kafka.StopLatest, FetchBytes: 4 << 10,
	}, rate))
	sums := engine.Process(engine.KeyBy(s, func(e event) uint32 { return e.Key }), "sum", func() *summer { return &summer{} })
	engine.ToTx(sums, "out", txntest.Wrap(c, d.sink(c.Args)))
	return p.Run(context.Background())
}

// total is a key's state.
type total struct{ N, Sum int64 }

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
