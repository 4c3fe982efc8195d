package deliver

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
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
)

// partitions is how many each topic has.
const partitions = 4

// What the job and the bare client have alike.
const (
	linger   = 5 * time.Millisecond
	buffered = 16 << 20 // bytes that wait for the broker, of a task
	fetched  = 16 << 20 // bytes that are read ahead, of a task
)

// lineKeys is the number of keys in lines.
const lineKeys = 1_000_000

// line is record seq as 100 bytes of text.
func line(seq int64) []byte {
	e := load.Make(seq, lineKeys)
	b := fmt.Appendf(make([]byte, 0, 100), "%012d,%08d,%08d,%016x,", seq, e.Key, e.Value, load.Mix(uint64(seq)))
	return append(b, bytes.Repeat([]byte("x"), 100-len(b))...)
}

// marked is what the map makes of a line.
func marked(v []byte) []byte {
	v = bytes.Clone(v)
	v[0] = 'M'
	return v
}

// Topics copies a topic of 4 partitions into others, by jobs and by the bare client.
type Topics struct {
	broker  string
	records int64
	cl      *kgo.Client
	from    string
}

// OpenTopics connects to a broker and writes so many records there, unless an earlier one has. The caller closes it.
func OpenTopics(ctx context.Context, broker string, records int64) (*Topics, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return nil, err
	}
	t := &Topics{broker: broker, records: records, cl: cl, from: "copied-" + strconv.FormatInt(records, 10)}
	if err := t.input(ctx); err != nil {
		cl.Close()
		return nil, fmt.Errorf("write the input: %w", err)
	}
	return t, nil
}

// Close ends the connection. Input stays.
func (t *Topics) Close() { t.cl.Close() }

// input writes the topic to read unless it's there.
func (t *Topics) input(ctx context.Context) error {
	_, err := kadm.NewClient(t.cl).CreateTopic(ctx, partitions, 1, nil, t.from)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	if err == nil {
		err = t.made(ctx, t.from)
	}
	if err != nil {
		return err
	}
	var failed firstError
	for seq := range t.records {
		t.cl.Produce(ctx, &kgo.Record{Topic: t.from, Partition: int32(seq % partitions), Value: line(seq)}, failed.note)
	}
	return errors.Join(t.cl.Flush(ctx), failed.get())
}

// into makes a topic to write to, which drop deletes.
func (t *Topics) into(ctx context.Context) (topic string, drop func(), err error) {
	topic = fmt.Sprint("copy-", time.Now().UnixNano())
	adm := kadm.NewClient(t.cl)
	if _, err = adm.CreateTopic(ctx, partitions, 1, nil, topic); err == nil {
		err = t.made(ctx, topic)
	}
	return topic, func() { _, _ = adm.DeleteTopic(context.WithoutCancel(ctx), topic) }, err
}

// Into ends a stream of lines in a topic.
type Into func(lines engine.Stream[[]byte], topic string)

// ExactlyOnce writes by transactions. p, if it isn't nil, watches the writers.
func (t *Topics) ExactlyOnce(p *Pauses) Into {
	return func(lines engine.Stream[[]byte], topic string) {
		var to sink.TwoPhase[[]byte] = kafka.TxSink[[]byte]{
			Brokers: []string{t.broker}, Topic: topic, Encode: kafka.BytesRecord, Compression: kafka.Uncompressed,
			Linger: linger, Buffer: buffered,
		}
		if p != nil {
			to = Watched(to, p)
		}
		engine.ToTx(lines, "copy", to)
	}
}

// AtLeastOnce writes without transactions.
func (t *Topics) AtLeastOnce() Into {
	return func(lines engine.Stream[[]byte], topic string) {
		engine.To(lines, "copy", kafka.Sink[[]byte]{
			Brokers: []string{t.broker}, Topic: topic, Encode: kafka.BytesRecord, Compression: kafka.Uncompressed, Linger: linger,
		})
	}
}

// Job copies by a job. Its clock starts before the job does.
func (t *Topics) Job(ctx context.Context, cfg engine.Config, into Into) (Outcome, error) {
	return t.job(ctx, cfg, into, func(p *engine.Pipeline) engine.Stream[[]byte] {
		return engine.From(p, "lines", kafka.Source[[]byte]{
			Brokers: []string{t.broker}, Topics: []string{t.from}, Stop: kafka.StopLatest, FetchBytes: fetched,
		})
	})
}

// Paced writes the same records by a job that makes so many a second instead of reading them.
func (t *Topics) Paced(ctx context.Context, cfg engine.Config, rate float64, into Into) (Outcome, error) {
	return t.job(ctx, cfg, into, func(p *engine.Pipeline) engine.Stream[[]byte] {
		return engine.From(p, "lines", gen.Source[[]byte]{Make: line, Count: t.records, PerSecond: rate})
	})
}

func (t *Topics) job(ctx context.Context, cfg engine.Config, into Into, from func(*engine.Pipeline) engine.Stream[[]byte]) (Outcome, error) {
	topic, drop, err := t.into(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer drop()
	p := engine.New(cfg)
	w := load.NewWatch(t.records)
	lines := from(p)
	into(engine.Map(lines, "mark", marked), topic)
	w.Begin(time.Now())
	if err := p.Run(ctx); err != nil {
		return Outcome{}, err
	}
	o := Outcome{Watch: w, End: time.Now(), Status: p.Status()}
	return o, t.check(ctx, topic)
}

// Bare is what the client library takes: for each task of the job one client that reads and one that writes, and a transaction for
// each checkpoint.
func (t *Topics) Bare(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	topic, drop, err := t.into(ctx)
	if err != nil {
		return 0, err
	}
	defer drop()
	began := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	for task := range cfg.Parallelism {
		g.Go(func() error {
			b := bareCopy{Topics: t, every: cfg.CheckpointEvery}
			if err := b.open(topic, task, cfg.Parallelism); err != nil {
				return err
			}
			defer b.close()
			return b.run(gctx)
		})
	}
	err = g.Wait()
	took := time.Since(began)
	if err != nil {
		return 0, fmt.Errorf("bare client: %w", err)
	}
	return took, t.check(ctx, topic)
}

// bareCopy is one task of the bare client. What it sets the job's connectors have too, by default or as set above.
type bareCopy struct {
	*Topics
	every   time.Duration
	in, out *kgo.Client
	left    int64 // records to copy
}

func (b *bareCopy) open(topic string, task, tasks int) (err error) {
	offsets := map[int32]kgo.Offset{}
	for p := task; p < partitions; p += tasks {
		offsets[int32(p)] = kgo.NewOffset().AtStart()
		b.left += (b.records - int64(p) + partitions - 1) / partitions
	}
	b.in, err = kgo.NewClient(kgo.SeedBrokers(b.broker), kgo.FetchMaxBytes(fetched), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{b.from: offsets}))
	if err != nil {
		return err
	}
	b.out, err = kgo.NewClient(kgo.SeedBrokers(b.broker), kgo.DefaultProduceTopic(topic), kgo.TransactionalID(fmt.Sprint(topic, "-", task)),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(linger),
		kgo.MaxBufferedRecords(1<<30), kgo.MaxBufferedBytes(buffered))
	if err != nil {
		b.in.Close()
	}
	return err
}

func (b *bareCopy) close() {
	b.out.Close()
	b.in.Close()
}

func (b *bareCopy) run(ctx context.Context) error {
	for b.left > 0 {
		if err := b.transaction(ctx); err != nil {
			return err
		}
	}
	return nil
}

// transaction copies until a commit is due, or all that is left.
func (b *bareCopy) transaction(ctx context.Context) error {
	if err := b.out.BeginTransaction(); err != nil {
		return err
	}
	var failed firstError
	for began := time.Now(); b.left > 0 && !due(began, b.every); {
		polled := b.in.PollFetches(ctx)
		if err := polled.Err(); err != nil {
			return err
		}
		polled.EachPartition(func(p kgo.FetchTopicPartition) {
			slab := make([]kgo.Record, len(p.Records))
			for i, r := range p.Records {
				slab[i].Value = marked(r.Value)
				b.out.Produce(ctx, &slab[i], failed.note)
			}
			b.left -= int64(len(p.Records))
		})
	}
	if err := errors.Join(b.out.Flush(ctx), failed.get()); err != nil {
		return err
	}
	return b.out.EndTransaction(ctx, kgo.TryCommit)
}

// check reads all that was committed, to the last stable offset, and compares it with what there should be.
func (t *Topics) check(ctx context.Context, topic string) error {
	last, err := t.lasts(ctx, topic)
	if err != nil {
		return err
	}
	offsets := map[int32]kgo.Offset{}
	for p := range last {
		offsets[p] = kgo.NewOffset().AtStart()
	}
	in, err := kgo.NewClient(kgo.SeedBrokers(t.broker), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
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
	for seq := range t.records {
		want += load.Make(seq, lineKeys).Value
	}
	if count != t.records || sum != want {
		return fmt.Errorf("%d records with a sum of %d were written, want %d and %d", count, sum, t.records, want)
	}
	return nil
}

// lasts are the last offsets of the partitions that have any, each that of a transaction's marker. The broker writes markers a
// moment after it has answered the commit.
func (t *Topics) lasts(ctx context.Context, topic string) (map[int32]int64, error) {
	adm := kadm.NewClient(t.cl)
	last := map[int32]int64{}
	err := eventually(ctx, "the end of all transactions on topic "+topic, func(ctx context.Context) (bool, error) {
		ends, err := adm.ListEndOffsets(ctx, topic)
		if err != nil {
			return false, err
		}
		stable, err := adm.ListCommittedOffsets(ctx, topic)
		if err != nil {
			return false, err
		}
		for p := range int32(partitions) {
			end, _ := ends.Lookup(topic, p)
			if s, _ := stable.Lookup(topic, p); end.Err == nil && s.Err == nil && s.Offset == end.Offset {
				last[p] = end.Offset - 1
			}
		}
		return len(last) == partitions, nil
	})
	maps.DeleteFunc(last, func(_ int32, at int64) bool { return at < 0 })
	return last, err
}

// made waits until the broker knows a topic that was just created.
func (t *Topics) made(ctx context.Context, topic string) error {
	return eventually(ctx, "topic "+topic, func(ctx context.Context) (bool, error) {
		found, err := kadm.NewClient(t.cl).ListTopics(ctx, topic)
		led := 0
		for _, p := range found[topic].Partitions {
			if p.Err == nil && p.Leader >= 0 {
				led++
			}
		}
		return led == partitions, err
	})
}

// eventually asks again until it's so, for a minute.
func eventually(ctx context.Context, what string, so func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if yes, err := so(ctx); err != nil || yes {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, ctx.Err())
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
