package kafka

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
)

// replaced says whether a fetch came from another topic of the same name than the split was made for, and deals with it.
func (p *poller) replaced(q *part, id [16]byte) bool {
	got := topicID(id)
	switch {
	case got == "" || got == q.split.TopicID:
		return false
	case q.split.TopicID == "": // stored before the broker had identities
		q.split.TopicID = got
		return false
	}
	p.gone(q, "its topic was deleted and made again under the same name")
	return true
}

// gone ends a partition that can't be read on, by policy. What was fetched of it is still served.
func (p *poller) gone(q *part, why string) {
	if p.o.deleted == FailIfDeleted {
		q.err = fault.New(fault.LostSplit, "the partition can't be read on at offset %d: %s", q.split.Next, why).At(q.id)
		return
	}
	q.dropped = true
	p.t.Metrics.Count("dropped_partitions", 1)
	p.t.Log.Warn("kafka partition dropped", "split", q.id, "offset", q.split.Next, "reason", why)
}

// lost deals with a position that the log doesn't have.
func (p *poller) lost(ctx context.Context, q *part) {
	if len(q.fetched) > 0 {
		return // not there yet; the client asks again and gets the same answer
	}
	start, end, ok := p.bounds(ctx, q.split)
	from := q.split.Next
	switch {
	case !ok || (from >= start && from <= end): // unknown, or in range by now: ask again
		return
	case p.o.outOfRange == FailIfLost && from < start:
		q.err = fault.New(fault.LostRange, "records %d to %d were deleted before they were read", from, start-1).At(q.id)
		return
	case p.o.outOfRange == FailIfLost:
		q.err = fault.New(fault.LostRange, "the log ends at %d, before the position %d: it was cut off or made anew", end, from).At(q.id)
		return
	}
	to := start
	if p.o.outOfRange == ToLatest {
		to = end
	}
	p.t.Metrics.Count("lost_records", max(0, to-from))
	p.t.Log.Warn("kafka records lost, going on elsewhere by policy", "split", q.id, "from", from, "to", to,
		"log_start", start, "log_end", end)
	q.split.Next = to
	p.cl.SetOffsets(map[string]map[int32]kgo.EpochOffset{
		q.split.Topic: {q.split.Partition: {Epoch: -1, Offset: to}},
	})
}

// bounds asks where a partition's log starts and ends.
func (p *poller) bounds(ctx context.Context, s Split) (start, end int64, ok bool) {
	ctx, cancel := context.WithTimeout(ctx, p.o.client.timeout())
	defer cancel()
	starts, err := p.adm.ListStartOffsets(ctx, s.Topic)
	if err != nil {
		return 0, 0, false
	}
	ends, err := p.adm.ListEndOffsets(ctx, s.Topic)
	if err != nil {
		return 0, 0, false
	}
	first, ok1 := starts.Lookup(s.Topic, s.Partition)
	last, ok2 := ends.Lookup(s.Topic, s.Partition)
	return first.Offset, last.Offset, ok1 && ok2 && first.Err == nil && last.Err == nil
}

// truncated deals with records that were read and that the brokers have lost since; the client has already gone back to
// where the log is whole.
func (p *poller) truncated(q *part, loss *kgo.ErrDataLoss) {
	if p.o.outOfRange == FailIfLost {
		q.err = fault.Wrap(fault.LostRange, loss, "the log was cut off").At(q.id)
		return
	}
	p.t.Metrics.Count("lost_records", max(0, loss.ConsumedTo-loss.ResetTo))
	p.t.Log.Warn("kafka log was cut off, going back by policy", "split", q.id, "from", loss.ConsumedTo, "to", loss.ResetTo)
	for len(q.fetched) > 0 && q.fetched[len(q.fetched)-1].Offset >= loss.ResetTo {
		q.fetched = q.fetched[:len(q.fetched)-1]
	}
	q.split.Next = min(q.split.Next, loss.ResetTo)
}

// look asks whether a partition is still there.
func (p *poller) look(ctx context.Context, q *part, now time.Time) {
	t, ok := p.topic(ctx, q.split.Topic, now)
	if !ok || q.dropped || q.err != nil {
		return
	}
	if t.Err != nil && !unknownTopic(t.Err) {
		return
	}
	if t.Err == nil {
		if p.replaced(q, t.ID) {
			return
		}
		if _, there := t.Partitions[q.split.Partition]; there {
			q.unknown = time.Time{}
			return
		}
	}
	if q.unknown.IsZero() {
		q.unknown = now
	}
	// A broker that has just started, or hasn't heard of a new topic yet, says the same for a moment.
	if now.Sub(q.unknown) >= p.o.grace {
		p.gone(q, "it was deleted")
	}
}

// topic asks for the description of a topic, at most four times a second each.
func (p *poller) topic(ctx context.Context, name string, now time.Time) (kadm.TopicDetail, bool) {
	if d, ok := p.described[name]; ok && now.Sub(d.at) < 250*time.Millisecond {
		return d.TopicDetail, true
	}
	ctx, cancel := context.WithTimeout(ctx, p.o.client.timeout())
	defer cancel()
	all, err := p.adm.ListTopicsWithInternal(ctx, name)
	if err != nil {
		return kadm.TopicDetail{}, false
	}
	t, ok := all[name]
	if !ok {
		return kadm.TopicDetail{}, false
	}
	p.described[name] = described{TopicDetail: t, at: now}
	return t, true
}

// described is a topic's description and its age.
type described struct {
	kadm.TopicDetail
	at time.Time
}
