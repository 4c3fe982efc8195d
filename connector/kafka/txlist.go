package kafka

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirline/weirline/txn"
)

// What waits in the brokers, for tools. A broker doesn't know which of the open transactions are prepared.

// List implements txn.Lister.
func (r *resource) List(ctx context.Context, prefix string) ([]txn.Pending, error) {
	cl, err := r.client(0)
	if err != nil {
		return nil, err
	}
	adm := kadm.NewClient(cl)
	listed, err := adm.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil {
		return nil, fmt.Errorf("list kafka transactions: %w", err)
	}
	var ids []string
	for _, l := range listed.Sorted() {
		if txn.Plain(l.TxnID) && txn.Under(l.TxnID, prefix) {
			ids = append(ids, l.TxnID)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	found, err := adm.DescribeTransactions(ctx, ids...)
	if err != nil {
		return nil, fmt.Errorf("describe kafka transactions: %w", err)
	}
	var out []txn.Pending
	for _, d := range found.Sorted() {
		if d.Err == nil && d.State == "Ongoing" {
			out = append(out, txn.Pending{Name: d.TxnID, Slot: d.TxnID, Age: time.Since(time.UnixMilli(d.StartTimestamp))})
		}
	}
	slices.SortStableFunc(out, func(a, b txn.Pending) int { return cmp.Compare(b.Age, a.Age) })
	return out, nil
}

// Finish implements txn.Lister.
func (r *resource) Finish(ctx context.Context, p txn.Pending, commit bool) error {
	cl, err := r.client(0)
	if err != nil {
		return err
	}
	found, err := kadm.NewClient(cl).DescribeTransactions(ctx, p.Name)
	d := found[p.Name]
	if err = cmp.Or(err, d.Err); err != nil {
		return fmt.Errorf("describe kafka transaction %s: %w", p.Name, err)
	}
	if d.State != "Ongoing" {
		return fmt.Errorf("kafka transaction %s isn't open any more, its state is %s", p.Name, d.State)
	}
	v, err := versions(ctx, cl)
	if err != nil {
		return err
	}
	if cl, err = r.client(endVersion(v)); err != nil {
		return err
	}
	req := kmsg.NewPtrEndTxnRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Commit = p.Name, d.ProducerID, d.ProducerEpoch, commit
	resp, err := req.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("end kafka transaction %s: %w", p.Name, err)
	}
	return nil
}
