package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// DeadLetters are dead letters in a topic, as JSON: what a Sink or TxSink with Encode: JSONRecord[deadletter.Letter] writes. It is for
// App.DeadLetters of package engine/cli. Those of transactions that are open or were aborted aren't read. A letter's place is its
// partition and offset.
//
// What was replayed is remembered in a topic of its own, by operator, the last record being the one that counts. It isn't in
// the offsets of a consumer group: brokers forget those after a week in which nobody reads, and they can't tell of letters that a filter has
// left out. A topic can't be locked: who runs two replays of one operator at once may write letters twice.
type DeadLetters struct {
	Brokers []string // host:port of some brokers
	Topic   string   // where the letters are

	// MarksTopic is the topic that remembers what was replayed. Unset: that of the letters with ".replayed" behind it, made by the first
	// replay if it isn't there, with one partition and cleanup.policy=compact.
	MarksTopic string

	Client Client // how to connect; unset = without TLS or login
}

var _ deadletter.Log = DeadLetters{}

// String is the topic and its brokers.
func (d DeadLetters) String() string {
	return fmt.Sprintf("topic %s at %s", d.Topic, strings.Join(d.Brokers, ","))
}

func (d DeadLetters) marks() string { return cmp.Or(d.MarksTopic, d.Topic+".replayed") }

// Scan implements deadletter.Log, partition by partition as they come.
func (d DeadLetters) Scan(ctx context.Context, f func(at deadletter.Place, l deadletter.Letter) error) error {
	return d.read(ctx, d.Topic, func(r Record) error {
		l, err := deadletter.Read(r.Value)
		if err != nil {
			return fault.Wrap(fault.DeadLetters, err, "offset %d of partition %d of topic %s", r.Offset, r.Partition, d.Topic).
				WithFix("name a topic with nothing but dead letters as JSON")
		}
		return f(deadletter.Place{Part: fmt.Sprint(r.Partition), N: r.Offset}, l)
	})
}

// read calls f with each record that a topic has by now. It is the source of this package, without an engine.
func (d DeadLetters) read(ctx context.Context, topic string, f func(r Record) error) (err error) {
	src := Source[Record]{
		Brokers: d.Brokers, Topics: []string{topic}, Client: d.Client, Stop: StopLatest, ReadCommitted: true, OutOfRange: ToEarliest,
		Decode: func(r *Record) (Record, error) { return *r, nil },
	}
	t := source.Task{Operator: "dlq", Parallelism: 1, Log: slog.New(slog.DiscardHandler), Metrics: noCounts{}, Request: func() {}}
	e, err := src.Enumerator(ctx, t)
	if err != nil {
		return err
	}
	splits, _, err := e.Discover(ctx)
	if err != nil {
		return err
	}
	r, err := src.Reader(ctx, t)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.Add(ctx, splits...); err != nil {
		return err
	}
	var b source.Batch[Record]
	b.Limit(1000)
	for left := len(splits); left > 0; {
		b.Reset()
		_, err := r.Read(ctx, &b)
		for _, v := range b.Values {
			if err := f(v); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			left--
		case err != nil:
			return err
		}
	}
	return nil
}

// noCounts counts nothing.
type noCounts struct{}

func (noCounts) Count(string, int64)     {}
func (noCounts) Gauge(string, float64)   {}
func (noCounts) Observe(string, float64) {}

// Marks implements deadletter.Log.
func (d DeadLetters) Marks(ctx context.Context, operator string) (marks []byte, _ error) {
	err := d.read(ctx, d.marks(), func(r Record) error {
		if string(r.Key) == operator {
			marks = r.Value
		}
		return nil
	})
	if fault.CodeOf(err) == fault.NoTopic.ID {
		return nil, nil
	}
	return marks, err
}

// SetMarks implements deadletter.Log.
func (d DeadLetters) SetMarks(ctx context.Context, operator string, marks []byte) error {
	cl, err := kgo.NewClient(d.Client.options(d.Brokers)...)
	if err != nil {
		return fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	defer cl.Close()
	err = d.Client.ask(ctx, d.Brokers, func(ctx context.Context) error {
		compact := "compact"
		_, err := kadm.NewClient(cl).CreateTopic(ctx, 1, -1, map[string]*string{"cleanup.policy": &compact}, d.marks())
		if errors.Is(err, kerr.TopicAlreadyExists) {
			return nil
		}
		return err
	})
	if err == nil {
		err = cl.ProduceSync(ctx, &kgo.Record{Topic: d.marks(), Key: []byte(operator), Value: marks}).FirstErr()
	}
	if err != nil {
		return fault.Wrap(fault.DeadLetters, err, "remember in topic %s what was replayed", d.marks()).
			WithFix("mend the topic or the rights to make and write it; the next replay may write letters of this one again")
	}
	return nil
}

// Lock implements deadletter.Log. A topic has no locks.
func (d DeadLetters) Lock(context.Context, string) (unlock func() error, _ error) {
	return func() error { return nil }, nil
}
