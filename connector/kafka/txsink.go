package kafka

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	defaultTxTimeout = 15 * time.Minute // what brokers allow if nobody has changed it
	defaultBuffer    = 16 << 20
)

// TxSink writes values to topics, each exactly once, in Kafka's transactions. Brokers and Encode are needed, and Topic unless
// Encode sets topics. It implements [sink.TwoPhase],
// [sink.Timed] and [sink.Preflight].
//
// All records of a task go out in the order they were written; readers with isolation.level=read_committed see those of an
// epoch when its checkpoint is complete.
type TxSink[T any] struct {
	Brokers []string // host:port of some brokers
	Topic   string   // where records go whose Topic is empty

	// Encode makes the record of a value. An error rejects the value, ErrSkip passes over it. It is called by one goroutine
	// of a task at a time.
	Encode func(T) (Record, error)

	Partitioner Partitioner // unset = ByKey
	Compression Compression // unset = Snappy

	// MaxBytes is the largest batch of records to send, and so the largest record; larger ones are rejected. It must not be
	// more than the topics' max.message.bytes: what the broker refuses costs the whole transaction. Unset = 1,000,012.
	MaxBytes int

	Linger time.Duration // how long to wait for a batch to fill; unset = 5 ms, negative = not at all
	Buffer int           // bytes of records that may wait for the brokers, in each task; unset = 16 MiB

	// Timeout is the age at which the broker rolls a transaction back. It must be longer than the checkpoint interval and
	// the time a checkpoint may take, and than the time the job may be down, and not longer than the broker's
	// transaction.max.timeout.ms. Unset = 15 min.
	Timeout time.Duration

	// MaxDowntime is how long the job may be down, restarts included, while a transaction is prepared. A job doesn't start if
	// the checkpoint interval, a checkpoint's timeout and this are more than Timeout. Unset = the pauses of all its restarts
	// (Config.Restart), negative = start in any case.
	MaxDowntime time.Duration

	// Lost says what to do about a transaction that was prepared and can't be committed any more. Unset = txn.FailOnLoss.
	Lost txn.Loss

	Client Client // how to connect; unset = without TLS or login
}

var (
	_ sink.TwoPhase[string] = TxSink[string]{}
	_ sink.Preflight        = TxSink[string]{}
	_ sink.Timed            = TxSink[string]{}
)

// txSettings are what of TxSink doesn't depend on the type.
type txSettings struct {
	output
	linger  time.Duration
	buffer  int
	timeout time.Duration // of transactions
}

func (s TxSink[T]) settings() txSettings {
	return txSettings{
		output: output{
			brokers: s.Brokers, topic: s.Topic, partitioner: s.Partitioner, compression: s.Compression, maxBytes: s.MaxBytes, client: s.Client,
		},
		linger: max(0, cmp.Or(s.Linger, 5*time.Millisecond)), buffer: cmp.Or(s.Buffer, defaultBuffer), timeout: cmp.Or(s.Timeout, defaultTxTimeout),
	}
}

// Validate says everything that is wrong with the settings. The constructors call it too.
func (s TxSink[T]) Validate() error {
	var w wrong
	w.add(s.Encode == nil, "Encode is needed")
	w.add(s.Buffer < 0, "Buffer can't be negative")
	w.add(s.Timeout < 0 || (s.Timeout > 0 && s.Timeout < time.Second), "Timeout must be a second or more")
	return w.fault(s.settings().validate(), s.Lost.Check())
}

// TxWriter makes the writer of one task. It connects when a transaction begins.
func (s TxSink[T]) TxWriter(_ context.Context, t sink.Task) (sink.TxWriter[T], error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return &txWriter[T]{tx: newTx(s.settings(), t), encode: s.Encode}, nil
}

// Committer makes the committer of the operator. It connects when there is something to do.
func (s TxSink[T]) Committer(_ context.Context, t sink.Task) (sink.Committer, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	return txn.NewCommitter(newResource(s.settings(), t), t, s.Lost), nil
}

// Fits implements [sink.Timed].
func (s TxSink[T]) Fits(t sink.Times) error {
	down, timeout := cmp.Or(s.MaxDowntime, t.Restarts), s.settings().timeout
	need := t.Interval + t.Timeout + down
	if down < 0 || need <= timeout {
		return nil
	}
	fix := fmt.Sprintf("raise Timeout to %v, with the brokers' transaction.max.timeout.ms; or lower CheckpointTimeout, MaxDowntime or the "+
		"number of restarts; MaxDowntime = -1 starts in any case", need)
	return refuse(fix, "Timeout is %v, but a transaction may have to live for %v: a checkpoint each %v, %v until it is complete, %v down or restarting",
		timeout, need, t.Interval, t.Timeout, down)
}

// Preflight checks that a broker answers, lets this user in, has Topic, if that is set, and takes such transactions there.
func (s TxSink[T]) Preflight(ctx context.Context) error {
	if err := s.Validate(); err != nil {
		return err
	}
	return s.settings().preflight(ctx)
}
