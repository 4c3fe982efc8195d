package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
)

// find lists the wanted partitions, without positions. It fails if one doesn't exist, unless gone says that its topic
// may be missing.
func (o settings) find(ctx context.Context, cl *kgo.Client, gone func(topic string) bool) ([]Split, error) {
	topics, err := kadm.NewClient(cl).ListTopicsWithInternal(ctx, o.topics...)
	if err != nil {
		return nil, fmt.Errorf("list topics: %w", err)
	}
	var found []Split
	for _, name := range o.topics {
		t, ok := topics[name]
		missing := !ok || errors.Is(t.Err, kerr.UnknownTopicOrPartition) || errors.Is(t.Err, kerr.InvalidTopicException)
		switch {
		case missing && gone(name):
			continue
		case missing:
			return nil, fault.New(fault.NoTopic, "topic %q doesn't exist", name)
		case t.Err != nil:
			return nil, fmt.Errorf("describe topic %q: %w", name, t.Err)
		}
		for _, p := range o.wanted(t) {
			if _, ok := t.Partitions[p]; !ok {
				if gone(name) {
					continue
				}
				return nil, fault.New(fault.NoTopic, "topic %q has %d partitions, none with number %d", name, len(t.Partitions), p).
					WithFix("correct Partitions")
			}
			found = append(found, Split{Topic: name, Partition: p, Stop: Unbounded, TopicID: topicID(t.ID)})
		}
	}
	return found, nil
}

// never is for a find where every topic must exist.
func never(string) bool { return false }

// wanted are the numbers of the partitions to read of a topic.
func (o settings) wanted(t kadm.TopicDetail) []int32 {
	if o.partitions != nil {
		return o.partitions[t.Topic]
	}
	return t.Partitions.Numbers()
}

// covers says whether the settings still name a split.
func (o settings) covers(s Split) bool {
	if o.partitions != nil {
		return slices.Contains(o.partitions[s.Topic], s.Partition)
	}
	return slices.Contains(o.topics, s.Topic)
}

// topicID is how a split stores a topic's identity.
func topicID(id kadm.TopicID) string {
	if id == (kadm.TopicID{}) {
		return ""
	}
	return id.String()
}

// place gives splits their numbers: from their earliest offset for those of a known topic, from the chosen start for
// others.
func (o settings) place(ctx context.Context, cl *kgo.Client, found []Split, known map[string]bool) error {
	l := &lister{o: o, adm: kadm.NewClient(cl)}
	for i := range found {
		s := &found[i]
		start := o.start
		if known[s.Topic] {
			start = Earliest
		}
		var err error
		if s.Next, err = l.start(ctx, start, *s); err != nil {
			return err
		}
		if !o.stop.bounded {
			continue
		}
		var ok bool
		if s.Stop, ok = o.stop.offsets[s.Topic][s.Partition]; ok {
			continue
		}
		if s.Stop, err = l.number(ctx, startLatest, *s); err != nil {
			return err
		}
	}
	return nil
}

// lister asks for each kind of offset once, for all topics together.
type lister struct {
	o         settings
	adm       *kadm.Client
	asked     map[startKind]kadm.ListedOffsets
	committed kadm.OffsetResponses
}

func (l *lister) start(ctx context.Context, at Start, s Split) (int64, error) {
	switch at.kind {
	case startOffsets:
		if n, ok := at.offsets[s.Topic][s.Partition]; ok {
			return n, nil
		}
		return l.number(ctx, startEarliest, s)
	case startCommitted:
		return l.commit(ctx, at, s)
	default:
		return l.number(ctx, at.kind, s)
	}
}

// commit looks up what the group has committed.
func (l *lister) commit(ctx context.Context, at Start, s Split) (int64, error) {
	if l.committed == nil {
		got, err := l.adm.FetchOffsets(ctx, at.group)
		if err == nil {
			err = got.Error()
		}
		if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
			return 0, fmt.Errorf("fetch offsets of group %q: %w", at.group, err)
		}
		l.committed = make(kadm.OffsetResponses)
		maps.Copy(l.committed, got)
	}
	if c, ok := l.committed.Lookup(s.Topic, s.Partition); ok && c.At >= 0 {
		return c.At, nil
	}
	if at.fallback == startFail {
		return 0, fault.New(fault.BadPosition, "group %q has no committed offset for %s", at.group, s.ID()).
			WithFix("choose a fallback for kafka.Committed, or another start")
	}
	return l.number(ctx, at.fallback, s)
}

// number looks up an offset that the broker knows.
func (l *lister) number(ctx context.Context, k startKind, s Split) (int64, error) {
	if l.asked[k] == nil {
		got, err := l.list(ctx, k)
		if err != nil {
			return 0, fmt.Errorf("list offsets: %w", err)
		}
		if l.asked == nil {
			l.asked = make(map[startKind]kadm.ListedOffsets)
		}
		l.asked[k] = got
	}
	n, ok := l.asked[k].Lookup(s.Topic, s.Partition)
	switch {
	case !ok:
		return 0, fmt.Errorf("list offsets: no answer for %s", s.ID())
	case n.Err != nil:
		return 0, fmt.Errorf("list offsets of %s: %w", s.ID(), n.Err)
	case n.Offset < 0:
		return 0, fmt.Errorf("list offsets of %s: offset unknown", s.ID())
	}
	return n.Offset, nil
}

func (l *lister) list(ctx context.Context, k startKind) (kadm.ListedOffsets, error) {
	switch {
	case k == startAt:
		return l.adm.ListOffsetsAfterMilli(ctx, max(0, l.o.start.at.UnixMilli()), l.o.topics...)
	case k == startLatest && l.o.readCommitted:
		return l.adm.ListCommittedOffsets(ctx, l.o.topics...)
	case k == startLatest:
		return l.adm.ListEndOffsets(ctx, l.o.topics...)
	default:
		return l.adm.ListStartOffsets(ctx, l.o.topics...)
	}
}

// EndOffsets returns the end offset of each partition of a topic: the one the next record will get. It connects, asks
// and disconnects, within c's time limit.
func EndOffsets(ctx context.Context, brokers []string, c Client, topic string) (map[int32]int64, error) {
	o := settings{brokers: brokers, topics: []string{topic}, client: c}
	cl, err := kgo.NewClient(c.options(brokers)...)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	defer cl.Close()
	ends := make(map[int32]int64)
	err = c.ask(ctx, brokers, func(ctx context.Context) error {
		found, err := o.find(ctx, cl, never)
		if err != nil {
			return err
		}
		l := &lister{o: o, adm: kadm.NewClient(cl)}
		for _, s := range found {
			if ends[s.Partition], err = l.number(ctx, startLatest, s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return ends, nil
}
