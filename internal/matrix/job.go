package main

import (
	"fmt"
	"maps"
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

	checkpointEvery = 20 * time.Millisecond
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

	argTimeout = "timeout" // of transactions; unset = the sink's default
	argLossy   = "lossy"   // accept losses
	argTight   = "tight"   // as few failures and uncommitted epochs are borne as can be
	argBeside  = "beside"  // as out, of a region beside the first; unset = there is none
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
	if c.Lossy {
		c.Args[argLossy] = "yes"
	}
	cfg := engine.Config{
		Name: c.Args[argJob], Dir: c.Args[argDir], Store: c.Store(c.Args[argDir]), Begin: c.Begin, Parallelism: c.Parallelism,
		CheckpointEvery: checkpointEvery, Restart: engine.Restart{Attempts: 1000, MaxDelay: 500 * time.Millisecond},
	}
	if c.Args[argTight] != "" {
		cfg.TolerateFailures, cfg.Uncommitted = 1, 1
	}
	p := engine.New(cfg)
	branch(c, p, d, "", rate)
	if beside := c.Args[argBeside]; beside != "" {
		c.Args[argOut] = beside
		branch(c, p, d, secondRegion, rate)
	}
	return c.Run(p)
}

// secondRegion is what the names of the operators end in that aren't connected with the first.
const secondRegion = "2"

// branch is the pipeline, or one of two.
func branch(c *txntest.Child, p *engine.Pipeline, d destination, end string, rate float64) {
	s := engine.From(p, "events"+end, reader.RateLimit(kafka.Source[event]{
		Brokers: []string{c.Args[argBroker]}, Topics: []string{topic}, Decode: decode, Stop: kafka.StopLatest, FetchBytes: 4 << 10,
	}, rate))
	sums := engine.Process(engine.KeyBy(s, func(e event) uint32 { return e.Key }), "sum"+end, func() *summer { return &summer{} })
	engine.ToTx(sums, "out"+end, txntest.Wrap(c, d.sink(maps.Clone(c.Args))))
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
