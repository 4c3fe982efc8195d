package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	endTxnKey = 26
	patience  = 10 * time.Second     // for one answer, tries included
	markPause = 2 * time.Millisecond // between questions while the broker ends a transaction
)

// resource finishes transactions by requests of its own, over clients that have no transactional id and so can't begin, end or
// take over anything by themselves.
type resource struct {
	o       txSettings
	t       sink.Task
	clients map[int16]*kgo.Client // by the version of EndTxn they are held to; 0 = any
	ended   map[string]bool       // transactional ids whose newest transaction was committed here
	cuts    cuts                  // of all of them
	made    time.Time
	failed  map[string]bool // tokens of which a commit failed
}

func newResource(o txSettings, t sink.Task) *resource {
	return &resource{o: o, t: t, clients: map[int16]*kgo.Client{}, ended: map[string]bool{}, failed: map[string]bool{}, made: time.Now()}
}

func (r *resource) client(endTxn int16) (*kgo.Client, error) {
	if cl := r.clients[endTxn]; cl != nil {
		return cl, nil
	}
	opts := append(r.o.client.options(r.o.brokers), kgo.WithHooks(&health{log: r.t.Log, count: r.t.Metrics.Count}, &r.cuts), kgo.RetryTimeout(patience))
	if endTxn > 0 {
		most, least := kversion.Stable(), new(kversion.Versions)
		most.SetMaxKeyVersion(endTxnKey, endTxn)
		least.SetMaxKeyVersion(endTxnKey, endTxn)
		opts = append(opts, kgo.MaxVersions(most), kgo.MinVersions(least))
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fault.Wrap(fault.BadPipeline, err, "settings of the kafka client")
	}
	r.clients[endTxn] = cl
	return cl, nil
}

// Close closes the clients.
func (r *resource) Close() error {
	for _, cl := range r.clients {
		cl.Close()
	}
	clear(r.clients)
	return nil
}

// Commit ends a transaction as its producer would, with the ids in the handle. OK means that it is committed, now or by an
// earlier try: nobody uses the id again before that is recorded.
func (r *resource) Commit(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, err := readNative(h)
	if err != nil {
		return txn.Stop, err
	}
	r.age(n)
	if len(n.Places) == 0 {
		return txn.Done, nil
	}
	o, err := r.commit(ctx, n, r.failed[h.Token] || time.UnixMilli(n.Begun).Before(r.made))
	if o != txn.Done {
		r.failed[h.Token] = true
		return o, err
	}
	delete(r.failed, h.Token)
	r.ended[n.ID] = true
	r.t.Metrics.Gauge("uncommitted_age_ratio", 0)
	return txn.Done, nil
}

// commit asks for the commit and again, to know that it is carried out. Doubt: it may have been asked for before, and what
// happened to the brokers since isn't known.
func (r *resource) commit(ctx context.Context, n native, doubt bool) (txn.Outcome, error) {
	cl, err := r.client(n.EndTxn)
	if err != nil {
		return txn.Stop, err
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = n.ID, n.Producer, n.Epoch, true
	cuts := r.cuts.n.Load()
	for range 2 {
		err = r.marked(ctx, func() (int16, error) {
			resp, err := req.RequestWith(ctx, cl)
			if err != nil {
				return 0, err
			}
			return resp.ErrorCode, nil
		})
		if err != nil {
			return answer(err)
		}
	}
	if doubt || r.cuts.n.Load() != cuts {
		return r.marks(ctx, n)
	}
	return txn.Done, nil
}

// age tells how old what is to be committed is, as a part of its timeout.
func (r *resource) age(n native) {
	if n.Timeout > 0 {
		r.t.Metrics.Gauge("uncommitted_age_ratio", float64(time.Since(time.UnixMilli(n.Begun)).Milliseconds())/float64(n.Timeout))
	}
}

// marked asks again while the broker is still writing the marks that end a transaction of the same id.
func (r *resource) marked(ctx context.Context, ask func() (int16, error)) error {
	limit := time.Now().Add(patience)
	for {
		code, err := ask()
		if err == nil {
			err = kerr.ErrorForCode(code)
		}
		if !errors.Is(err, kerr.ConcurrentTransactions) || time.Now().After(limit) {
			return err
		}
		if err := pause(ctx, markPause); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// Clear takes over every id that a writer has ever used, which rolls back its open transaction and shuts out whoever wrote under
// it. Those whose last transaction was committed here have nothing to roll back, and are left alone: a commit that isn't
// recorded yet could otherwise not be repeated.
func (r *resource) Clear(ctx context.Context, slots []sink.Slot) error {
	ids := make([]string, 0, len(slots))
	for _, s := range slots {
		if !r.ended[s.Name] {
			ids = append(ids, s.Name)
		}
	}
	cl, err := r.client(0)
	if err != nil || len(ids) == 0 {
		return err
	}
	ids = r.used(ctx, cl, ids)
	// Ending a transaction takes the broker a while, in which it answers that it is busy: so all are asked before one is
	// asked again.
	for limit := time.Now().Add(2 * patience); len(ids) > 0; {
		var busy []string
		for _, id := range ids {
			err := r.o.takeOver(ctx, cl, id)
			if errors.Is(err, kerr.ConcurrentTransactions) && time.Now().Before(limit) {
				busy = append(busy, id)
			} else if err != nil {
				return r.o.clearFault(err, id)
			}
		}
		if ids = busy; len(ids) > 0 {
			if err := pause(ctx, markPause); err != nil {
				return err
			}
		}
	}
	return nil
}

// used leaves out the ids no broker has heard of. Where that can't be asked all are taken for used.
func (r *resource) used(ctx context.Context, cl *kgo.Client, ids []string) []string {
	found, err := kadm.NewClient(cl).DescribeTransactions(ctx, ids...)
	if err != nil {
		return ids
	}
	known := ids[:0]
	for _, id := range ids {
		if d, ok := found[id]; !ok || !errors.Is(d.Err, kerr.TransactionalIDNotFound) {
			known = append(known, id)
		}
	}
	return known
}

func (o txSettings) takeOver(ctx context.Context, cl *kgo.Client, id string) error {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID, req.TransactionTimeoutMillis = &id, int32(o.timeout.Milliseconds())
	req.ProducerID, req.ProducerEpoch = -1, -1
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("take over %s: %w", id, err)
	}
	return kerr.ErrorForCode(resp.ErrorCode)
}
