package kafka

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// ErrSkip is what Encode returns for a value that is not to be written.
var ErrSkip = errors.New("value is not written")

// Sink writes values to topics, at least once. Brokers and Encode are needed, and Topic unless Encode sets topics.
//
// All records of a task go out in the order they were written, through one idempotent producer; records of one key, as of
// Kafka's default partitioner, are read in that order. Only where a record is refused may its neighbours change places.
//
// A record that is too large or otherwise invalid for the broker is rejected; a record the broker can't take now is sent
// again.
type Sink[T any] struct {
	Brokers []string // host:port of some brokers
	Topic   string   // where records go whose Topic is empty

	// Encode makes the record of a value. An error rejects the value, ErrSkip passes over it. It is called again for each
	// repetition of a value, by one goroutine of a task at a time.
	Encode func(T) (Record, error)

	Partitioner Partitioner // unset = ByKey
	Compression Compression // unset = Snappy

	// RequireLeaderOnly counts a record as written when the leader has it, and gives up idempotence: it may get lost with
	// the leader. Unset = all replicas in sync.
	RequireLeaderOnly bool

	MaxBytes int           // largest batch of records to send, and so the largest record, as the topic's max.message.bytes; unset = 1,000,012
	Batch    int           // values sent together; unset = 10,000
	Linger   time.Duration // how long to wait for a batch to fill; unset = 5 ms, negative = not at all
	Timeout  time.Duration // of sending a batch, before it is sent again; unset = 30 s, negative = none
	Retry    async.Retry   // delays between repetitions; unset = a record is refused that could not be written for 24 h
	Client   Client        // how to connect; unset = without TLS or login

	// Size is the bytes of a value: with it no more than 64 MiB wait to be written. Unset = known for strings and byte
	// slices; of other types up to five batches wait, however large.
	Size func(T) int
}

var (
	_ sink.Sink[string] = Sink[string]{}
	_ sink.Preflight    = Sink[string]{}
)

func (s Sink[T]) output() output {
	return output{
		brokers: s.Brokers, topic: s.Topic, partitioner: s.Partitioner, compression: s.Compression, maxBytes: s.MaxBytes, client: s.Client,
	}
}

func (s Sink[T]) validate() error {
	var w wrong
	w.add(s.Encode == nil, "Encode is needed")
	w.add(s.Batch < 0, "Batch can't be negative")
	return w.fault(s.output().validate())
}

// Preflight checks that a broker answers, lets this user in, and has Topic, if that is set.
func (s Sink[T]) Preflight(ctx context.Context) error {
	if err := s.validate(); err != nil {
		return err
	}
	cl, err := kgo.NewClient(s.Client.options(s.Brokers)...)
	if err != nil {
		return fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	defer cl.Close()
	return s.output().checkTopic(ctx, cl)
}

// Writer makes a writer with a client of its own. It doesn't connect yet.
func (s Sink[T]) Writer(ctx context.Context, t sink.Task) (sink.Writer[T], error) {
	if err := s.validate(); err != nil {
		return nil, err
	}
	cl, err := kgo.NewClient(s.options(t)...)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	p := &producer[T]{cl: cl, encode: s.Encode}
	w, err := async.Sink[T]{
		Send:     p.send,
		Size:     s.size(),
		Key:      func(T) string { return "" }, // one lane: all records of a task in order
		MaxBatch: s.batch(), MaxInFlight: 1,
		Linger: cmp.Or(s.Linger, 5*time.Millisecond), Timeout: s.Timeout, Retry: s.Retry,
	}.Writer(ctx, t)
	if err != nil {
		cl.Close()
		return nil, err
	}
	return &writer[T]{Writer: w, cl: cl}, nil
}

// size is the function to use, nil if there is none for T.
func (s Sink[T]) size() func(T) int {
	if s.Size != nil {
		return s.Size
	}
	if f, ok := any(func(v string) int { return len(v) }).(func(T) int); ok {
		return f
	}
	f, _ := any(func(v []byte) int { return len(v) }).(func(T) int)
	return f
}

func (s Sink[T]) batch() int { return cmp.Or(s.Batch, 10_000) }

func (s Sink[T]) options(t sink.Task) []kgo.Opt {
	opts := append(s.output().options(&health{log: t.Log, count: t.Metrics.Count}),
		kgo.MaxBufferedRecords(s.batch()),
		kgo.ProducerLinger(0), // the writer has waited already
		kgo.AllowIdempotentProduceCancellation(),
	)
	if s.RequireLeaderOnly {
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	return opts
}

// writer is the asynchronous writer, with the client to close. Its other powers are found behind Unwrap.
type writer[T any] struct {
	sink.Writer[T]
	cl *kgo.Client
}

// Unwrap implements sink.Unwrapper.
func (w *writer[T]) Unwrap() any { return w.Writer }

// Close ends the sending first and then the client.
func (w *writer[T]) Close() error {
	err := w.Writer.Close()
	w.cl.Close()
	return err
}
