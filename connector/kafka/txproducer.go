package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// txProducer is the client of one transactional id, and its transaction.
type txProducer struct {
	o    txSettings
	cl   *kgo.Client
	name string // transactional id
	room *room

	id    int64 // producer id and epoch of the transaction
	epoch int16

	err atomic.Pointer[error] // the first

	mu     sync.Mutex
	places map[partition]int64 // of the first record in each partition, as far as acknowledged
	last   partition           // the one acknowledged last; used by the client library's goroutine only

	deadline time.Time // of the transaction, while it is prepared and watched
	stop     func()
}

type partition struct {
	topic     string
	partition int32
}

// newProducer connects and takes the transactional id over, so that nobody else can write under it any more, and begins a
// transaction. Of the id's last one nothing is left by then.
func (o txSettings) newProducer(ctx context.Context, name string, t sink.Task, r *room) (*txProducer, error) {
	cl, err := kgo.NewClient(append(o.options(&health{log: t.Log, count: t.Metrics.Count}),
		kgo.TransactionalID(name),
		kgo.TransactionTimeout(o.timeout),
		kgo.ProducerLinger(o.linger),
		kgo.MaxBufferedRecords(1<<30), // bounded by room
	)...)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	p := &txProducer{o: o, cl: cl, name: name, room: r}
	if err := p.begin(ctx); err != nil {
		cl.Close()
		return nil, o.produceFault(err, "begin a transaction as %s", name)
	}
	return p, nil
}

func (p *txProducer) begin(ctx context.Context) (err error) {
	if err := p.cl.BeginTransaction(); err != nil {
		return err
	}
	p.id, p.epoch, err = p.cl.ProducerID(ctx)
	p.err.Store(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.places, p.last = map[partition]int64{}, partition{}
	return err
}

// again begins the next transaction, when the last one is finished. The client doesn't know that: it repeats the commit, which
// changes nothing, and learns from the answer under which epoch the next one goes.
func (p *txProducer) again(ctx context.Context) error {
	if p.err.Load() != nil {
		return *p.err.Load()
	}
	if err := p.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return err
	}
	return p.begin(ctx)
}

func (p *txProducer) send(ctx context.Context, r *kgo.Record) {
	p.room.take(size(r))
	p.cl.Produce(ctx, r, p.acked)
}

// acked is called by the client library's goroutine.
func (p *txProducer) acked(r *kgo.Record, err error) {
	if err != nil {
		first := &err
		if p.err.CompareAndSwap(nil, first) {
			p.room.signal()
		}
	} else if at := (partition{r.Topic, r.Partition}); at != p.last {
		p.note(at, r.Offset)
	}
	p.room.give(size(r))
}

func (p *txProducer) note(at partition, offset int64) {
	p.last = at
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.places[at]; !ok {
		p.places[at] = offset
	}
}

func size(r *kgo.Record) int64 {
	n := len(r.Key) + len(r.Value)
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value)
	}
	return int64(n) + 64 // for the record itself
}

// failed is the first error of a record.
func (p *txProducer) failed() error {
	if err := p.err.Load(); err != nil {
		return p.o.produceFault(*err, "write in transaction %s", p.name)
	}
	return nil
}

// prepare flushes, and says who may finish the transaction.
func (p *txProducer) prepare(ctx context.Context) (native, error) {
	if err := p.cl.Flush(ctx); err != nil {
		if ferr := p.failed(); ferr != nil {
			return native{}, ferr
		}
		return native{}, fmt.Errorf("wait for the brokers: %w", context.Cause(ctx))
	}
	if err := p.failed(); err != nil {
		return native{}, err
	}
	id, epoch, err := p.cl.ProducerID(ctx)
	if err != nil {
		return native{}, p.o.produceFault(err, "prepare transaction %s", p.name)
	}
	if id != p.id || epoch != p.epoch { // the client library has begun anew on its own, and what was written before is rolled back
		return native{}, fault.New(fault.SinkFailed, "transaction %s was rolled back: it began as producer %d epoch %d and ends as %d epoch %d",
			p.name, p.id, p.epoch, id, epoch)
	}
	n := native{ID: p.name, Producer: id, Epoch: epoch, Places: p.written()}
	if len(n.Places) == 0 {
		return n, nil
	}
	return n, p.stillOpen(ctx, n)
}

// stillOpen asks whether the transaction is there to be prepared. If somebody has ended it after its last record was acknowledged,
// nothing else tells; now its records can be written again.
func (p *txProducer) stillOpen(ctx context.Context, n native) error {
	d, err := p.describe(ctx)
	if err != nil {
		return p.o.produceFault(err, "prepare transaction %s", p.name)
	}
	if o, _ := judge(n, d); o != txn.Again {
		return p.o.produceFault(kerr.ProducerFenced, "prepare transaction %s, which is gone: its id is in state %s, by producer %d epoch %d",
			p.name, d.State, d.ProducerID, d.ProducerEpoch)
	}
	return nil
}

// describe asks the coordinator about the id.
func (p *txProducer) describe(ctx context.Context) (kadm.DescribedTransaction, error) {
	found, err := kadm.NewClient(p.cl).DescribeTransactions(ctx, p.name)
	d, ok := found[p.name]
	if err == nil && !ok {
		err = fmt.Errorf("the brokers don't answer about transaction %s", p.name)
	}
	return d, cmp.Or(err, d.Err)
}

// written says where the transaction's records are.
func (p *txProducer) written() []place {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []place
	for at, offset := range p.places {
		out = append(out, place{at.topic, at.partition, offset})
	}
	slices.SortFunc(out, func(a, b place) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return out
}

// abort rolls an open transaction back, if the brokers can be reached. By a request of our own: the client library would take
// the id over again where another has it by now.
func (p *txProducer) abort(ctx context.Context) {
	if p.cl.AbortBufferedRecords(ctx) != nil || (len(p.written()) == 0 && p.err.Load() == nil) {
		return
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch = p.name, p.id, p.epoch
	_, _ = req.RequestWith(ctx, p.cl) // if it fails, recovery or the timeout does it
}

// versions asks a broker what it can do.
func versions(ctx context.Context, cl *kgo.Client) (*kmsg.ApiVersionsResponse, error) {
	kresp, err := cl.Request(ctx, kmsg.NewPtrApiVersionsRequest())
	if err != nil {
		return nil, err
	}
	resp, ok := kresp.(*kmsg.ApiVersionsResponse)
	if !ok {
		return nil, fmt.Errorf("the answer about versions is a %T", kresp)
	}
	return resp, nil
}

// endVersion is the version of EndTxn that fits how the brokers run transactions now. A commit is repeated in the version it
// was first sent in: to another version the answer may be that there is no such transaction.
func endVersion(resp *kmsg.ApiVersionsResponse) int16 {
	v := int16(4)
	for _, f := range resp.FinalizedFeatures {
		if f.Name == "transaction.version" && f.MaxVersionLevel >= 2 {
			v = 5
		}
	}
	for _, k := range resp.ApiKeys {
		if k.ApiKey == endTxnKey {
			v = min(v, k.MaxVersion)
		}
	}
	return v
}
