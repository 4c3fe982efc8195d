package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
)

// partitions is how many each topic of w4 has.
const partitions = 4

// lineKeys is the number of keys in lines.
const lineKeys = 1_000_000

// line is record seq as 100 bytes of text.
func line(seq int64) []byte {
	e := load.Make(seq, lineKeys)
	b := fmt.Appendf(make([]byte, 0, 100), "%012d,%08d,%08d,%016x,", seq, e.Key, e.Value, load.Mix(uint64(seq)))
	return append(b, bytes.Repeat([]byte("x"), 100-len(b))...)
}

// marked is what the map of w4 makes of a line.
func marked(v []byte) []byte {
	v = bytes.Clone(v)
	v[0] = 'M'
	return v
}

// topics copies a topic, exactly once by transactions, between two runs of the bare client, of which the faster one counts.
func topics(ctx context.Context, o options) (result, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.kafka), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return result{}, err
	}
	defer cl.Close()
	t := &copying{o: o, cl: cl, from: "w4-in-" + strconv.FormatInt(o.records, 10)}
	if err := t.input(ctx); err != nil {
		return result{}, fmt.Errorf("write the input: %w", err)
	}
	before, err := t.bare(ctx)
	if err != nil {
		return result{}, fmt.Errorf("bare client: %w", err)
	}
	r, err := t.ours(ctx)
	if err != nil {
		return result{}, err
	}
	after, err := t.bare(ctx)
	r.beside(min(before, after))
	return r, err
}

// copying is one run of w4.
type copying struct {
	o    options
	cl   *kgo.Client
	from string
}

// input writes the topic to read unless it's there.
func (t *copying) input(ctx context.Context) error {
	_, err := kadm.NewClient(t.cl).CreateTopic(ctx, partitions, 1, nil, t.from)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	if err != nil {
		return err
	}
	var failed firstError
	for seq := range t.o.records {
		t.cl.Produce(ctx, &kgo.Record{Topic: t.from, Partition: int32(seq % partitions), Value: line(seq)}, failed.note)
	}
	return errors.Join(t.cl.Flush(ctx), failed.get())
}

// into makes a topic to write to, which drop deletes.
func (t *copying) into(ctx context.Context) (topic string, drop func(), err error) {
	topic = fmt.Sprint("w4-out-", time.Now().UnixNano())
	adm := kadm.NewClient(t.cl)
	_, err = adm.CreateTopic(ctx, partitions, 1, nil, topic)
	return topic, func() { _, _ = adm.DeleteTopic(context.WithoutCancel(ctx), topic) }, err
}

func (t *copying) ours(ctx context.Context) (result, error) {
	topic, drop, err := t.into(ctx)
	if err != nil {
		return result{}, err
	}
	defer drop()
	p := engine.New(config(t.o))
	w := load.NewWatch(t.o.records)
	lines := engine.From(p, "lines", kafka.Source[[]byte]{Brokers: []string{t.o.kafka}, Topics: []string{t.from}, Stop: kafka.StopLatest})
	engine.ToTx(engine.Map(lines, "mark", marked), "copy", kafka.TxSink[[]byte]{
		Brokers: []string{t.o.kafka}, Topic: topic, Encode: kafka.BytesRecord, Compression: kafka.Uncompressed,
	})
	w.Begin(time.Now())
	if err := p.Run(ctx); err != nil {
		return result{}, err
	}
	r := measured(t.o, w, time.Now(), p.Status())
	err = t.check(ctx, topic)
	r.OK, r.OutCount = err == nil, t.o.records
	return r, err
}

// bare is what the client library takes: for each task one client that reads and one that writes, and a transaction each second.
func (t *copying) bare(ctx context.Context) (time.Duration, error) {
	topic, drop, err := t.into(ctx)
	if err != nil {
		return 0, err
	}
	defer drop()
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for task := range t.o.parallelism {
		g.Go(func() error { return t.bareTask(gctx, topic, task) })
	}
	err = g.Wait()
	took := time.Since(began)
	if err != nil {
		return 0, err
	}
	return took, t.check(ctx, topic)
}

func (t *copying) bareTask(ctx context.Context, topic string, task int) error {
	offsets, left := map[int32]kgo.Offset{}, int64(0)
	for p := task; p < partitions; p += t.o.parallelism {
		offsets[int32(p)] = kgo.NewOffset().AtStart()
		left += (t.o.records - int64(p) + partitions - 1) / partitions
	}
	in, err := kgo.NewClient(kgo.SeedBrokers(t.o.kafka), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{t.from: offsets}))
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := kgo.NewClient(kgo.SeedBrokers(t.o.kafka), kgo.DefaultProduceTopic(topic), kgo.TransactionalID(fmt.Sprint(topic, "-", task)),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return err
	}
	defer out.Close()
	for left > 0 {
		n, err := t.bareTransaction(ctx, in, out, left)
		if err != nil {
			return err
		}
		left -= n
	}
	return nil
}

// bareTransaction copies for a second, or left records.
func (t *copying) bareTransaction(ctx context.Context, in, out *kgo.Client, left int64) (n int64, err error) {
	if err := out.BeginTransaction(); err != nil {
		return 0, err
	}
	var failed firstError
	for end := time.Now().Add(t.o.checkpoint); n < left && time.Now().Before(end); {
		fetched := in.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			return 0, err
		}
		fetched.EachRecord(func(r *kgo.Record) {
			out.Produce(ctx, &kgo.Record{Value: marked(r.Value)}, failed.note)
			n++
		})
	}
	if err := errors.Join(out.Flush(ctx), failed.get()); err != nil {
		return 0, err
	}
	return n, out.EndTransaction(ctx, kgo.TryCommit)
}

// check reads all that was committed, to the last stable offset, and compares it with what there should be.
func (t *copying) check(ctx context.Context, topic string) error {
	last, err := t.lasts(ctx, topic)
	if err != nil {
		return err
	}
	offsets := map[int32]kgo.Offset{}
	for p := range last {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	in, err := kgo.NewClient(kgo.SeedBrokers(t.o.kafka), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	if err != nil {
		return err
	}
	defer in.Close()
	var count, sum, want int64
	for len(last) > 0 {
		fetched := in.PollFetches(ctx)
		if err := fetched.Err(); err != nil {
			return fmt.Errorf("read what was written: %w", err)
		}
		for _, r := range fetched.Records() {
			if r.Offset == last[r.Partition] {
				delete(last, r.Partition)
			}
			if r.Attrs.IsControl() {
				continue
			}
			v, err := strconv.ParseInt(string(r.Value[22:30]), 10, 64)
			if err != nil || r.Value[0] != 'M' {
				return fmt.Errorf("record %q was written", r.Value)
			}
			count, sum = count+1, sum+v
		}
	}
	for seq := range t.o.records {
		want += load.Make(seq, lineKeys).Value
	}
	if count != t.o.records || sum != want {
		return fmt.Errorf("%d records with a sum of %d were written, want %d and %d", count, sum, t.o.records, want)
	}
	return nil
}

// lasts are the last offsets of the partitions that have any, each that of a transaction's marker. The broker writes markers a
// moment after it has answered the commit.
func (t *copying) lasts(ctx context.Context, topic string) (map[int32]int64, error) {
	adm := kadm.NewClient(t.cl)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return nil, err
		}
		stable, err := adm.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return nil, err
		}
		last := map[int32]int64{}
		for p := range int32(partitions) {
			end, _ := ends.Lookup(topic, p)
			if s, _ := stable.Lookup(topic, p); end.Err == nil && s.Err == nil && s.Offset == end.Offset {
				last[p] = end.Offset - 1
			}
		}
		if len(last) == partitions {
			maps.DeleteFunc(last, func(_ int32, at int64) bool { return at < 0 })
			return last, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the end of all transactions on topic %s: %w", topic, ctx.Err())
		}
	}
}

// firstError collects the errors of a producer's promises.
type firstError struct{ err atomic.Pointer[error] }

func (f *firstError) note(_ *kgo.Record, err error) {
	if err != nil {
		f.err.CompareAndSwap(nil, &err)
	}
}

func (f *firstError) get() error {
	if err := f.err.Load(); err != nil {
		return *err
	}
	return nil
}
