package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// poller has the partitions of one reader: their positions, what is fetched of them and not read yet, and what is wrong
// with them. Only the reader's goroutine touches it, but for the fields under mu.
type poller struct {
	o   settings
	t   source.Task
	cl  *kgo.Client
	adm *kadm.Client

	parts     map[key]*part
	order     []*part // for turns: the one served last is at the end
	muted     map[key]bool
	described map[string]described
	fails     int // fetches in a row that brought nothing but errors

	mu     sync.Mutex
	mine   map[string]key // by ID, the splits that may be paused
	paused map[string]bool
	wake   context.CancelFunc // ends the wait of a poll; nil if there is none
}

// part is one partition being read.
type part struct {
	split   Split
	id      string
	fetched []*kgo.Record // fetched and not read yet
	end     int64         // what the broker last said is the end, 0 before
	err     error         // what to fail with when fetched is used up
	dropped bool          // finished by policy
	seen    bool          // the broker has sent records of it

	quiet    time.Time     // since when nothing came
	patience time.Duration // how long to stay quiet before looking closely
	unknown  time.Time     // since when the broker doesn't know it; zero if it does
	ailing   bool          // a passing error was told
}

func newPoller(o settings, t source.Task) (*poller, error) {
	cl, err := o.connect(&health{log: t.Log, count: t.Metrics.Count, again: t.Replays})
	if err != nil {
		return nil, err
	}
	return &poller{
		o: o, t: t, cl: cl, adm: kadm.NewClient(cl),
		parts: make(map[key]*part), muted: make(map[key]bool),
		described: make(map[string]described), mine: make(map[string]key), paused: make(map[string]bool),
	}, nil
}

// Add implements source.Reader. It doesn't wait for a broker.
func (p *poller) Add(_ context.Context, splits ...Split) error {
	now := time.Now()
	begin := make(map[string]map[int32]kgo.Offset)
	for _, s := range splits {
		k := s.key()
		if p.parts[k] != nil {
			return fault.New(fault.Misplaced, "kafka reader %d was given %s twice", p.t.Index, s.ID())
		}
		q := &part{split: s, id: s.ID(), quiet: now, patience: p.o.idle}
		switch {
		case s.Next < 0 || s.Stop < Unbounded:
			return fault.New(fault.BadPosition, "position of %s: next %d, stop %d", s.ID(), s.Next, s.Stop)
		case !s.done() && !p.o.covers(s):
			p.gone(q, "the settings don't name it any more")
		case !s.done():
			if begin[s.Topic] == nil {
				begin[s.Topic] = make(map[int32]kgo.Offset)
			}
			begin[s.Topic][s.Partition] = kgo.NewOffset().At(s.Next)
		}
		if p.muted[k] {
			p.unmute(k) // before it can be paused
		}
		p.parts[k] = q
		p.order = append(p.order, q)
		p.mu.Lock()
		p.mine[q.id] = k
		p.mu.Unlock()
	}
	p.cl.AddConsumePartitions(begin)
	return nil
}

// finish forgets a partition. The client is only told to be silent about it: removing it would throw away what is
// fetched of all others. A topic that has gone is removed all the same, or the client would ask for it for ever.
func (p *poller) finish(q *part) {
	k := q.split.key()
	delete(p.parts, k)
	p.order = slices.DeleteFunc(p.order, func(o *part) bool { return o == q })
	p.muted[k] = true
	if q.dropped && !slices.ContainsFunc(p.order, func(o *part) bool { return o.split.Topic == k.topic }) {
		p.cl.PurgeTopicsFromConsuming(k.topic)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.mine, q.id) // from here on Resume has no effect on it
	delete(p.paused, q.id)
	p.cl.PauseFetchPartitions(k.set())
}

// unmute prepares the client for a partition that comes back.
func (p *poller) unmute(k key) {
	delete(p.muted, k)
	p.cl.RemoveConsumePartitions(k.set())
	p.cl.ResumeFetchPartitions(k.set())
}

// set is the form the client library takes.
func (k key) set() map[string][]int32 { return map[string][]int32{k.topic: {k.partition}} }

// ready is a partition that can be served without waiting, in turns; nil if there is none.
func (p *poller) ready() *part {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, q := range p.order {
		if p.paused[q.id] || (len(q.fetched) == 0 && q.err == nil && !q.dropped && !q.split.done()) {
			continue
		}
		copy(p.order[i:], p.order[i+1:])
		p.order[len(p.order)-1] = q
		return q
	}
	return nil
}

// anySplit is a position to return where none has moved; zero without splits.
func (p *poller) anySplit() Split {
	if len(p.order) == 0 {
		return Split{}
	}
	return p.order[0].split
}

// Pause implements source.Pauser.
func (p *poller) Pause(ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if k, ok := p.mine[id]; ok && !p.paused[id] {
			p.paused[id] = true
			p.cl.PauseFetchPartitions(k.set())
		}
	}
}

// Resume implements source.Pauser.
func (p *poller) Resume(ids ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		if k, ok := p.mine[id]; ok && p.paused[id] {
			delete(p.paused, id)
			p.cl.ResumeFetchPartitions(k.set())
		}
	}
	if p.wake != nil {
		p.wake()
	}
}

// Ack implements source.Acker: it commits the positions to the group, if there is one.
func (p *poller) Ack(ctx context.Context, at []Split) error {
	if p.o.group == "" || len(at) == 0 {
		return nil
	}
	var os kadm.Offsets
	for _, s := range at {
		os.AddOffset(s.Topic, s.Partition, s.Next, -1)
	}
	ctx, cancel := context.WithTimeout(ctx, min(3*time.Second, p.o.client.timeout()))
	defer cancel()
	res, err := p.adm.CommitOffsets(ctx, p.o.group, os)
	if err = cmp.Or(err, res.Error()); err != nil {
		p.t.Metrics.Count("commit_failures", 1)
		return fmt.Errorf("commit offsets to group %q: %w", p.o.group, err)
	}
	p.t.Metrics.Count("commits", 1)
	return nil
}

// Close implements source.Cursor.
func (p *poller) Close() error {
	p.cl.Close()
	return nil
}
