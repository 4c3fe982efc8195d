package kafka

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// Source reads the partitions of topics. Brokers and one of Topics and Partitions are needed; Decode or DecodeInto too,
// unless T is string or []byte.
//
// Each record's event time is its Kafka timestamp.
type Source[T any] struct {
	Brokers    []string           // host:port of some brokers
	Topics     []string           // all partitions of these topics
	Partitions map[string][]int32 // or these partitions only

	Start Start // unset = Earliest
	Stop  Stop  // unset = never

	// Decode makes a value of a record; an error makes the record a rejected one. All tasks call it at once. Unset = Text
	// for a string, Bytes for a []byte.
	Decode func(*Record) (T, error)

	// DecodeInto is instead of Decode for records that stand for none or several values, or have an event time of their
	// own: it appends them to the batch. Values appended before an error stay.
	DecodeInto func(*Record, *source.Batch[T]) error

	// ReadCommitted leaves out records of transactions that are open or were aborted.
	ReadCommitted bool

	// Group is the consumer group that gets the positions of durable checkpoints, for tools to show; nothing is read back
	// unless Start says so, and failures don't matter. Unset = none.
	Group string

	Discover   time.Duration // how often to look for new partitions; unset = 1 min, negative = off; off with a Stop or Partitions
	OutOfRange OutOfRange    // unset = FailIfLost
	Deleted    Deleted       // unset = FailIfDeleted
	FetchBytes int           // most to fetch ahead from one broker, compressed; unset = 16 MiB
	Client     Client        // how to connect; unset = without TLS or login
}

var (
	_ source.Source[string, Split] = Source[string]{}
	_ source.Bounded               = Source[string]{}
	_ source.Preflight             = Source[string]{}
)

// settings are those fields of a Source that don't depend on its type.
type settings struct {
	brokers       []string
	topics        []string           // sorted
	partitions    map[string][]int32 // nil = all
	start         Start
	stop          Stop
	readCommitted bool
	group         string
	every         time.Duration // 0 = look once
	outOfRange    OutOfRange
	deleted       Deleted
	fetchBytes    int32
	client        Client

	idle  time.Duration // without records for so long, a bounded partition is looked at closely
	grace time.Duration // for so long a topic may be unknown before it counts as deleted
}

func (s Source[T]) settings() (settings, error) {
	o := settings{
		brokers: s.Brokers, topics: slices.Sorted(slices.Values(s.Topics)), start: s.Start, stop: s.Stop,
		readCommitted: s.ReadCommitted, group: s.Group, every: max(0, cmp.Or(s.Discover, time.Minute)),
		outOfRange: s.OutOfRange, deleted: s.Deleted, fetchBytes: int32(cmp.Or(s.FetchBytes, 16<<20)), client: s.Client,
		idle: 200 * time.Millisecond, grace: 5 * time.Second,
	}
	if len(s.Partitions) > 0 {
		o.partitions = s.Partitions
		for t := range s.Partitions {
			o.topics = append(o.topics, t)
		}
		slices.Sort(o.topics)
	}
	o.topics = slices.Compact(o.topics)
	if s.Stop.bounded || o.partitions != nil {
		o.every = 0
	}
	var errs []error
	complain := func(bad bool, what string) {
		if bad {
			errs = append(errs, errors.New(what))
		}
	}
	complain(len(s.Brokers) == 0, "Brokers is empty")
	complain((len(s.Topics) == 0) == (len(s.Partitions) == 0), "exactly one of Topics and Partitions is needed")
	complain(slices.Contains(o.topics, ""), "a topic has an empty name")
	complain(s.Decode != nil && s.DecodeInto != nil, "Decode and DecodeInto exclude each other")
	complain(s.DecodeInto == nil && s.decode() == nil, "Decode is needed for values that are neither string nor []byte")
	complain(s.OutOfRange < FailIfLost || s.OutOfRange > ToLatest, "OutOfRange is none of the known policies")
	complain(s.Deleted < FailIfDeleted || s.Deleted > DropIfDeleted, "Deleted is none of the known policies")
	complain(s.FetchBytes < 0 || s.FetchBytes > 512<<20, "FetchBytes must lie between 0 and 512 MiB")
	errs = append(errs, s.Client.validate())
	if err := errors.Join(errs...); err != nil {
		return settings{}, fault.Wrap(fault.BadPipeline, err, "settings of the kafka source")
	}
	return o, nil
}

// decode is the function to use, nil if there is none for T.
func (s Source[T]) decode() func(*Record) (T, error) {
	if s.Decode != nil {
		return s.Decode
	}
	if f, ok := any(Text).(func(*Record) (T, error)); ok {
		return f
	}
	f, _ := any(Bytes).(func(*Record) (T, error))
	return f
}

// Bounded says whether there is a Stop.
func (s Source[T]) Bounded() bool { return s.Stop.bounded }

// Enumerator makes the half that finds partitions. It doesn't connect yet.
func (s Source[T]) Enumerator(_ context.Context, t source.Task) (source.Enumerator[Split], error) {
	o, err := s.settings()
	if err != nil {
		return nil, err
	}
	return newEnumerator(o, t), nil
}

// Reader makes the half that reads, with a client of its own. It doesn't connect yet.
func (s Source[T]) Reader(_ context.Context, t source.Task) (source.Reader[T, Split], error) {
	o, err := s.settings()
	if err != nil {
		return nil, err
	}
	p, err := newPoller(o, t)
	if err != nil {
		return nil, err
	}
	return &reader[T]{poller: p, decode: s.decode(), into: s.DecodeInto}, nil
}

// Preflight checks that a broker answers, lets this user in, and has the topics and partitions named; with DropIfDeleted
// a missing topic is left for Discover to judge, which knows whether it has been there.
func (s Source[T]) Preflight(ctx context.Context) error {
	o, err := s.settings()
	if err != nil {
		return err
	}
	cl, err := o.connect(&health{log: slog.New(slog.DiscardHandler), count: func(string, int64) {}})
	if err != nil {
		return err
	}
	defer cl.Close()
	return o.client.ask(ctx, o.brokers, func(ctx context.Context) error {
		_, err := o.find(ctx, cl, func(string) bool { return o.deleted == DropIfDeleted })
		return err
	})
}

// connect makes a client, which connects when it is used.
func (o settings) connect(h *health) (*kgo.Client, error) {
	opts := append(o.client.options(o.brokers),
		kgo.WithHooks(h),
		kgo.FetchMaxWait(500*time.Millisecond),
		kgo.FetchMaxBytes(o.fetchBytes),
		kgo.BrokerMaxReadBytes(max(100<<20, 2*o.fetchBytes)),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.KeepControlRecords(),
		kgo.KeepRetryableFetchErrors(),
	)
	if o.readCommitted {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if o.client.Rack != "" {
		opts = append(opts, kgo.Rack(o.client.Rack))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	return cl, nil
}
