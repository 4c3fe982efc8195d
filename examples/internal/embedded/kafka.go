package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
)

// topicTimeout bounds the creation of the seed topics.
const topicTimeout = 10 * time.Second

// Topic is a topic that should exist once the broker has started.
type Topic struct {
	Name       string
	Partitions int // of a new topic; an existing one keeps what it has. Unset = 1
}

// KafkaOptions are the settings of a broker. The zero value is an empty broker that logs nothing.
type KafkaOptions struct {
	// Topics are created where they are absent. Other topics only by clients that ask for them to be created.
	Topics []Topic
	// Logger gets the broker's warnings and errors. Unset = nobody.
	Logger *slog.Logger
}

// Kafka is a broker in this process. Its methods may be called from any goroutine.
type Kafka struct {
	cluster *kfake.Cluster
	addr    string
}

// StartKafka starts a broker on a free port of 127.0.0.1, with its data in dir, which is created if absent. What an
// earlier broker acknowledged in dir is there again.
func StartKafka(dir string, o KafkaOptions) (*Kafka, error) {
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.WithLogger(newKafkaLog(o.Logger)))
	if err != nil {
		return nil, fmt.Errorf("start embedded kafka in %s: %w", dir, err)
	}
	k := &Kafka{cluster: c, addr: c.ListenAddrs()[0]}
	if err := k.createTopics(o.Topics); err != nil {
		c.Close()
		return nil, fmt.Errorf("start embedded kafka in %s: %w", dir, err)
	}
	return k, nil
}

// Addr is the bootstrap address, host:port.
func (k *Kafka) Addr() string { return k.addr }

// Close stops the broker and cuts its connections. A second call does nothing.
func (k *Kafka) Close() { k.cluster.Close() }

func (k *Kafka) createTopics(topics []Topic) error {
	if len(topics) == 0 {
		return nil
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), topicTimeout)
	defer cancel()
	adm := kadm.NewClient(cl)
	have, err := adm.ListTopics(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, t := range topics {
		if have.Has(t.Name) {
			continue
		}
		if _, err := adm.CreateTopic(ctx, int32(max(1, t.Partitions)), 1, nil, t.Name); err != nil {
			return fmt.Errorf("create topic %s: %w", t.Name, err)
		}
	}
	return nil
}

// kafkaLog hands the broker's complaints to slog. What the broker says about each request is left out.
type kafkaLog struct{ log *slog.Logger }

func newKafkaLog(log *slog.Logger) kafkaLog {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return kafkaLog{log}
}

// Logf implements the broker's logger.
func (l kafkaLog) Logf(level kfake.LogLevel, format string, args ...any) {
	switch level {
	case kfake.LogLevelError:
		l.log.Error("embedded kafka: " + fmt.Sprintf(format, args...))
	case kfake.LogLevelWarn:
		l.log.Warn("embedded kafka: " + fmt.Sprintf(format, args...))
	}
}
