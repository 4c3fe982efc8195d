package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirline/weirline/internal/fault"
)

// preflight asks what a user may ask who may write. What isn't answered is left to the first transaction, which tells.
func (o txSettings) preflight(ctx context.Context) error {
	cl, err := kgo.NewClient(o.client.options(o.brokers)...)
	if err != nil {
		return fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	defer cl.Close()
	if err := o.checkTopic(ctx, cl); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.client.timeout())
	defer cancel()
	if err := o.checkVersion(ctx, cl); err != nil {
		return err
	}
	if err := o.checkTimeout(ctx, cl); err != nil || o.topic == "" {
		return err
	}
	if err := o.checkRight(ctx, cl); err != nil {
		return err
	}
	return o.checkLimits(ctx, cl)
}

func refuse(fix, what string, args ...any) error {
	return fault.New(fault.Preflight, "kafka: "+what, args...).WithFix("%s", fix)
}

// checkVersion refuses brokers without the requests recovery rests on.
func (o txSettings) checkVersion(ctx context.Context, cl *kgo.Client) error {
	v, err := versions(ctx, cl)
	if err != nil {
		return fault.Wrap(fault.Unreachable, err, "ask %s for its versions", strings.Join(o.brokers, ","))
	}
	return canRecover(v)
}

func canRecover(v *kmsg.ApiVersionsResponse) error {
	for _, needed := range []kmsg.Key{kmsg.InitProducerID, kmsg.EndTxn, kmsg.DescribeTransactions, kmsg.DescribeProducers} {
		if !slices.ContainsFunc(v.ApiKeys, func(k kmsg.ApiVersionsResponseApiKey) bool { return k.ApiKey == int16(needed) }) {
			return refuse("use Kafka 3.0 or newer", "the brokers don't know the request %s", needed.Name())
		}
	}
	return nil
}

// checkTimeout compares Timeout with what the brokers allow.
func (o txSettings) checkTimeout(ctx context.Context, cl *kgo.Client) error {
	adm := kadm.NewClient(cl)
	m, err := adm.BrokerMetadata(ctx)
	if err != nil {
		return fault.Wrap(fault.Unreachable, err, "ask %s for its brokers", strings.Join(o.brokers, ","))
	}
	configs, err := adm.DescribeBrokerConfigs(ctx, m.Brokers.NodeIDs()...)
	if err != nil {
		return nil // not allowed to ask: the first transaction is refused if it is too long
	}
	for _, c := range configs {
		ms, ok := number(c, "transaction.max.timeout.ms")
		if limit := time.Duration(ms) * time.Millisecond; ok && limit < o.timeout {
			return refuse(fixTimeout, "Timeout is %v, and broker %s allows transactions of %v (transaction.max.timeout.ms)", o.timeout, c.Name, limit)
		}
	}
	return nil
}

func number(c kadm.ResourceConfig, key string) (int64, bool) {
	for _, e := range c.Configs {
		if e.Key == key && e.Value != nil {
			n, err := strconv.ParseInt(*e.Value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// writeRight is the bit for WRITE among the operations a broker says are allowed.
const writeRight = 1 << 4

func (o txSettings) checkRight(ctx context.Context, cl *kgo.Client) error {
	req := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &o.topic
	req.Topics, req.IncludeTopicAuthorizedOperations = append(req.Topics, topic), true
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fault.Wrap(fault.Unreachable, err, "ask for the rights on topic %q", o.topic)
	}
	for _, t := range resp.Topics {
		const unknown = -1 << 31
		if t.AuthorizedOperations != unknown && t.AuthorizedOperations&writeRight == 0 {
			return fault.New(fault.AuthFailed, "this user may not write to topic %q", o.topic).WithFix("%s", fixTxID)
		}
	}
	return nil
}

// checkLimits compares MaxBytes with what the topic takes.
func (o txSettings) checkLimits(ctx context.Context, cl *kgo.Client) error {
	configs, err := kadm.NewClient(cl).DescribeTopicConfigs(ctx, o.topic)
	if err != nil {
		return nil // not allowed to ask
	}
	c, err := configs.On(o.topic, nil)
	if err == nil {
		err = c.Err
	}
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask for the settings of topic %q: %w", o.topic, err)
	}
	if n, ok := number(c, "max.message.bytes"); ok && n < int64(o.limit()) {
		return refuse(fmt.Sprintf("set MaxBytes to %d, or raise the topic's max.message.bytes", n),
			"MaxBytes is %d, and topic %q takes batches of %d bytes: a larger one would cost its whole transaction", o.limit(), o.topic, n)
	}
	return nil
}
