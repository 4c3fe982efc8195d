package kafka

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
)

// poll waits until the client has fetched something, a partition is resumed, one should be looked at, or ctx ends.
// Cancelling it loses nothing: what is fetched stays with the client.
func (p *poller) poll(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(p.order) == 0 {
		<-ctx.Done()
		return ctx.Err()
	}
	limited, cancel := context.WithTimeout(ctx, p.wait(time.Now()))
	defer cancel()
	p.setWake(cancel)
	defer p.setWake(nil)
	if p.ready() != nil { // resumed before it could wake this
		return nil
	}
	fs := p.cl.PollFetches(limited)
	now := time.Now()
	healthy, failed, err := p.absorb(ctx, fs, now)
	if err != nil {
		return err
	}
	p.lag()
	if failed && !healthy {
		p.fails++
		return p.calm(ctx)
	}
	if healthy {
		p.fails = 0
	}
	return p.inspect(ctx, now)
}

func (p *poller) setWake(f context.CancelFunc) {
	p.mu.Lock()
	p.wake = f
	p.mu.Unlock()
}

// calm waits a little, more each time, because the client asks again at once after an error it has handed out.
func (p *poller) calm(ctx context.Context) error {
	if p.ready() != nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(min(50*time.Millisecond<<min(p.fails, 3), 250*time.Millisecond)):
		return nil
	}
}

// absorb hands what was fetched to the partitions. healthy: something came; failed: there were errors.
func (p *poller) absorb(ctx context.Context, fs kgo.Fetches, now time.Time) (healthy, failed bool, err error) {
	for _, f := range fs {
		for _, t := range f.Topics {
			for _, fp := range t.Partitions {
				switch {
				case t.Topic == "" && errors.Is(fp.Err, kgo.ErrClientClosed):
					return healthy, failed, fp.Err
				case t.Topic == "":
					continue // the wait has ended
				case fp.Partition < 0:
					failed = p.topicError(ctx, t.Topic, fp.Err, now) || failed
				case fp.Err != nil:
					failed = p.partError(ctx, t, fp, now) || failed
				default:
					healthy = true
					p.take(t, fp, now)
				}
			}
		}
	}
	return healthy, failed, nil
}

// take keeps the records fetched of a partition.
func (p *poller) take(t kgo.FetchTopic, fp kgo.FetchPartition, now time.Time) {
	q := p.parts[key{t.Topic, fp.Partition}]
	if q == nil || q.err != nil || q.dropped || p.replaced(q, t.TopicID) {
		return
	}
	q.end = fp.HighWatermark
	if p.o.readCommitted {
		q.end = fp.LastStableOffset
	}
	if q.ailing {
		q.ailing = false
		p.t.Log.Info("kafka partition readable again", "split", q.id)
	}
	q.unknown = time.Time{}
	if len(fp.Records) == 0 {
		return
	}
	q.seen, q.quiet, q.patience = true, now, p.o.idle
	if len(q.fetched) == 0 {
		q.fetched = fp.Records
		return
	}
	q.fetched = append(q.fetched, fp.Records...)
}

// topicError is about all partitions of a topic. It says whether any is this reader's.
func (p *poller) topicError(ctx context.Context, topic string, err error, now time.Time) (ours bool) {
	for _, q := range p.order {
		if q.split.Topic == topic {
			ours = true
			p.judge(ctx, q, err, now)
		}
	}
	return ours
}

// partError is about one partition. It says whether that is this reader's.
func (p *poller) partError(ctx context.Context, t kgo.FetchTopic, fp kgo.FetchPartition, now time.Time) (ours bool) {
	q := p.parts[key{t.Topic, fp.Partition}]
	if q == nil || q.err != nil || q.dropped || p.replaced(q, t.TopicID) {
		return q != nil
	}
	if loss, ok := errors.AsType[*kgo.ErrDataLoss](fp.Err); ok {
		p.truncated(q, loss)
		return true
	}
	if errors.Is(fp.Err, kerr.OffsetOutOfRange) {
		p.lost(ctx, q)
		return true
	}
	p.judge(ctx, q, fp.Err, now)
	return true
}

// judge decides whether an error passes: then it is told once and the client goes on; otherwise the partition fails.
func (p *poller) judge(ctx context.Context, q *part, err error, now time.Time) {
	switch {
	case q.err != nil || q.dropped:
	case unknownTopic(err):
		if q.unknown.IsZero() {
			q.unknown = now
		}
		p.look(ctx, q, now)
	case refused(err):
		q.err = fault.Wrap(fault.AuthFailed, err, "read partition").At(q.id)
	case kerr.IsRetriable(err) || kgo.IsRetryableBrokerErr(err) || isDone(err):
		p.t.Metrics.Count("fetch_errors", 1)
		if !q.ailing {
			q.ailing = true
			p.t.Log.Warn("kafka partition can't be fetched, retrying", "split", q.id, "error", err)
		}
	default:
		q.err = fault.Wrap(fault.Unreadable, err, "fetch records at offset %d", q.split.Next).At(q.id)
	}
}

func isDone(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

func unknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID) ||
		errors.Is(err, kerr.InconsistentTopicID)
}

// lag tells how many offsets are left to read, as far as is known.
func (p *poller) lag() {
	var n int64
	for _, q := range p.order {
		end := q.end
		if q.split.Stop >= 0 {
			end = min(end, q.split.Stop)
		}
		n += max(0, end-q.split.Next)
	}
	p.t.Metrics.Gauge("pending_records", float64(n))
}
