package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
)

// Compression is how batches of records are compressed.
type Compression int

// The codecs.
const (
	Snappy Compression = iota
	Uncompressed
	LZ4
	Zstd
	Gzip
)

// Partitioner chooses the partition of a record.
type Partitioner int

// The partitioners.
const (
	ByKey      Partitioner = iota // as Kafka's own clients: by the hash of the key; without a key one partition after another, by the batch
	RoundRobin                    // record by record, whatever the key
	AsEncoded                     // the Partition that Encode sets
)

// output is what all sinks have in common: where records go, and how.
type output struct {
	brokers     []string
	topic       string
	partitioner Partitioner
	compression Compression
	maxBytes    int
	client      Client
}

// defaultMaxBytes is the broker's default for the largest batch of records.
const defaultMaxBytes = 1_000_012

// wrong collects what is wrong with a sink's settings.
type wrong []error

func (w *wrong) add(bad bool, what string) {
	if bad {
		*w = append(*w, errors.New(what))
	}
}

// fault is all of it, and of more.
func (w wrong) fault(more ...error) error {
	if err := errors.Join(append(w, more...)...); err != nil {
		return fault.Wrap(fault.BadPipeline, err, "settings of the kafka sink")
	}
	return nil
}

func (o output) validate() error {
	var w wrong
	w.add(len(o.brokers) == 0, "Brokers is empty")
	w.add(o.partitioner < ByKey || o.partitioner > AsEncoded, "Partitioner is none of the known ones")
	w.add(o.compression < Snappy || o.compression > Gzip, "Compression is none of the known codecs")
	w.add(o.maxBytes < 0 || o.maxBytes > 1<<30, "MaxBytes must lie between 0 and 1 GiB")
	return errors.Join(append(w, o.client.validate())...)
}

// options are the client library's settings for a producer.
func (o output) options(h *health) []kgo.Opt {
	codecs := map[Compression]kgo.CompressionCodec{
		Snappy: kgo.SnappyCompression(), Uncompressed: kgo.NoCompression(), LZ4: kgo.Lz4Compression(),
		Zstd: kgo.ZstdCompression(), Gzip: kgo.GzipCompression(),
	}
	opts := append(o.client.options(o.brokers), kgo.WithHooks(h), kgo.ProducerBatchCompression(codecs[o.compression]))
	switch o.partitioner {
	case RoundRobin:
		opts = append(opts, kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	case AsEncoded:
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	case ByKey: // the library's default
	}
	if o.topic != "" {
		opts = append(opts, kgo.DefaultProduceTopic(o.topic))
	}
	if o.maxBytes > 0 {
		opts = append(opts, kgo.ProducerBatchMaxBytes(int32(o.maxBytes)))
		if o.maxBytes > 100<<20 {
			opts = append(opts, kgo.BrokerMaxWriteBytes(int32(o.maxBytes)))
		}
	}
	return opts
}

// checkTopic asks whether a broker answers, lets this user in, and has the topic, if one is set.
func (o output) checkTopic(ctx context.Context, cl *kgo.Client) error {
	return o.client.ask(ctx, o.brokers, func(ctx context.Context) error {
		if o.topic == "" {
			return cl.Ping(ctx)
		}
		topics, err := kadm.NewClient(cl).ListTopics(ctx, o.topic)
		if err != nil {
			return fmt.Errorf("describe topic %q: %w", o.topic, err)
		}
		err = topics[o.topic].Err
		if errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.InvalidTopicException) {
			return fault.New(fault.NoTopic, "topic %q doesn't exist", o.topic)
		}
		return err
	})
}
