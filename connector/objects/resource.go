package objects

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// resource completes and aborts uploads.
type resource struct {
	s      *store
	t      sink.Task
	missed map[string]time.Time // keys that were completed, as the server says, and aren't there; since when
}

var _ txn.Lister = (*resource)(nil)

// Close lets connections go.
func (r *resource) Close() error {
	r.s.close()
	return nil
}

// Commit completes the uploads of one transaction, the first one last, so that as long as anything is left to do it is listed. What
// the server answers isn't believed: an object counts when it is seen. One whose upload is gone doesn't hold up the others.
func (r *resource) Commit(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, err := readNative(h)
	if err != nil {
		return txn.Stop, err
	}
	worst, why := txn.Done, error(nil)
	for _, o := range slices.Backward(n.Objects) {
		outcome, err := r.commit(ctx, n.Bucket, o)
		switch outcome {
		case txn.Done:
			continue
		case txn.Again, txn.Stop:
			return outcome, err
		}
		if worst == txn.Done || worst == txn.Absent {
			worst, why = outcome, err
		}
	}
	return worst, why
}

// commit completes one upload.
func (r *resource) commit(ctx context.Context, bucket string, o object) (txn.Outcome, error) {
	err := r.s.complete(ctx, bucket, o)
	if err != nil && ruleOf(err).commit == lost {
		err = r.relist(ctx, bucket, o, err)
	}
	if err != nil {
		return ruleOf(err).commit, r.s.uncommitted(err, "complete upload of %s", o.Key)
	}
	outcome, err := r.seen(ctx, bucket, o)
	if outcome != txn.Absent {
		delete(r.missed, o.Key)
		return outcome, err
	}
	return r.unseen(o)
}

// relist completes an upload whose parts have other ETags than the handle says. A part that was sent again may have arrived twice, and
// with some encryptions gets another ETag each time. What stands under its number is the same, as only one writer knows the upload.
func (r *resource) relist(ctx context.Context, bucket string, o object, why error) error {
	there, whole, err := r.s.parts(ctx, bucket, upload{key: o.Key, id: o.Upload})
	if err != nil {
		return err
	}
	if !whole || len(there.Parts) != len(o.Parts) || there.Size != o.Size {
		return why
	}
	return r.s.complete(ctx, bucket, there)
}

// patience is how long an object that the server says is complete may stay invisible.
const patience = 30 * time.Second

// unseen decides about an object that was completed, as the server says, and isn't there.
func (r *resource) unseen(o object) (txn.Outcome, error) {
	since, known := r.missed[o.Key]
	if !known {
		since = time.Now()
		r.missed[o.Key] = since
	}
	if waited := time.Since(since); waited < patience {
		return txn.Again, fault.New(fault.CommitFailed, "objects: the server says that %s is complete, and it isn't there", o.Key)
	}
	return txn.Lost, fmt.Errorf("the server says that %s is complete, and for %v it hasn't been there: it was deleted or moved, or the server has lost it", o.Key, patience)
}

// seen looks whether an object is there: its key and its metadata have the transaction's token, which no other has.
func (r *resource) seen(ctx context.Context, bucket string, o object) (txn.Outcome, error) {
	size, token, there, err := r.s.look(ctx, bucket, o.Key)
	if err != nil {
		return ruleOf(err).commit, r.s.uncommitted(err, "look for %s", o.Key)
	}
	if !there {
		return txn.Absent, nil
	}
	if _, want, _, _ := partsOf(o.Key); token != want || size != o.Size {
		return txn.Unknown, fmt.Errorf("object %s isn't the one that was prepared: it has %d bytes and token %q, and should have %d bytes and token %q: somebody has replaced it",
			o.Key, size, token, o.Size, want)
	}
	return txn.Done, nil
}

// Prove looks for the objects of a transaction of which some upload is gone.
func (r *resource) Prove(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, err := readNative(h)
	if err != nil {
		return txn.Stop, err
	}
	for _, o := range n.Objects {
		outcome, err := r.seen(ctx, n.Bucket, o)
		if outcome == txn.Absent {
			return r.nowhere(n, o)
		}
		if outcome != txn.Done {
			return outcome, err
		}
	}
	return txn.Done, nil
}

// nowhere decides about an object that is neither there nor being uploaded.
func (r *resource) nowhere(n native, o object) (txn.Outcome, error) {
	if now := r.s.o.client.Endpoint; n.Endpoint != now {
		return txn.Unknown, fmt.Errorf("%s isn't at %q, and it was prepared at %q", o.Key, now, n.Endpoint)
	}
	return txn.Lost, fmt.Errorf("object %s is lost: it isn't there, and its upload %s was aborted, by a lifecycle rule or by somebody else; "+
		"or it was there, and was moved or deleted before its commit was recorded", o.Key, o.Upload)
}

// rounds of looking for uploads to abort. A request that was on its way may make one more.
const rounds = 5

// Clear aborts the uploads under the slots. Without its first upload a transaction can't be prepared any more.
func (r *resource) Clear(ctx context.Context, slots []sink.Slot) error {
	r.warnOfRules(ctx)
	names := make(map[string]bool, len(slots))
	for _, s := range slots {
		names[s.Name] = true
	}
	for range rounds {
		found, err := r.s.mine(ctx, func(slot, _ string) bool { return names[slot] })
		if err != nil {
			return r.s.uncommitted(err, "list uploads under %q", r.s.o.prefix)
		}
		if len(found) == 0 {
			return nil
		}
		if err := r.abort(ctx, found); err != nil {
			return err
		}
	}
	return fault.New(fault.CommitFailed, "objects: uploads under %q are still there after they were aborted %d times", r.s.o.prefix, rounds).
		WithFix("see that no other copy of the job is running")
}

// abort gives uploads up, the first one of each transaction before the others, so that it isn't taken for prepared any more.
func (r *resource) abort(ctx context.Context, us []upload) error {
	slices.SortStableFunc(us, func(a, b upload) int { return cmp.Compare(number(a), number(b)) })
	for _, u := range us {
		if err := r.s.abort(ctx, u); err != nil && !gone(err) {
			return r.s.uncommitted(err, "abort upload of %s", u.key)
		}
	}
	return nil
}

func number(u upload) int {
	_, _, n, _ := partsOf(u.key)
	return n
}

// List returns the transactions that are prepared: the first upload of each has its first part, which is sent last.
func (r *resource) List(ctx context.Context, prefix string) ([]txn.Pending, error) {
	found, err := r.s.mine(ctx, func(slot, _ string) bool { return txn.Under(slot, prefix) })
	if err != nil {
		return nil, r.s.uncommitted(err, "list uploads under %q", r.s.o.prefix)
	}
	var out []txn.Pending
	now := time.Now()
	for _, u := range found {
		slot, token, n, _ := partsOf(u.key)
		if n > 0 {
			continue
		}
		switch _, whole, err := r.s.parts(ctx, r.s.o.bucket, u); {
		case gone(err) || err == nil && !whole:
			continue // a living job has finished it, or hasn't prepared it yet
		case err != nil:
			return nil, r.s.uncommitted(err, "list parts of %s", u.key)
		}
		out = append(out, txn.Pending{Name: txn.NameOf(slot, token), Slot: slot, Token: token, Age: max(0, now.Sub(u.begun))})
	}
	// Servers say when to the second only.
	slices.SortStableFunc(out, func(a, b txn.Pending) int {
		return cmp.Or(cmp.Compare(b.Age, a.Age), cmp.Compare(len(a.Slot), len(b.Slot)), strings.Compare(a.Slot, b.Slot))
	})
	return out, nil
}

// Finish completes the uploads of a prepared transaction with the parts that are there, or aborts them.
func (r *resource) Finish(ctx context.Context, p txn.Pending, commit bool) error {
	found, err := r.s.mine(ctx, func(slot, token string) bool { return slot == p.Slot && token == p.Token })
	if err != nil {
		return r.s.uncommitted(err, "list uploads under %q", r.s.o.prefix)
	}
	slices.SortFunc(found, func(a, b upload) int { return cmp.Compare(number(b), number(a)) })
	if len(found) == 0 || number(found[len(found)-1]) > 0 {
		return fault.New(fault.CommitFailed, "transaction %s isn't there any more", p.Name)
	}
	if !commit {
		return r.abort(ctx, found)
	}
	var whole []object
	for _, u := range found {
		o, ok, err := r.s.parts(ctx, r.s.o.bucket, u)
		if err != nil {
			return r.s.uncommitted(err, "list parts of %s", u.key)
		}
		if !ok {
			return fault.New(fault.CommitFailed, "transaction %s was begun and never prepared: %s has no first part, or a gap", p.Name, u.key).
				WithFix("abort it")
		}
		whole = append(whole, o)
	}
	for _, o := range whole {
		if outcome, err := r.commit(ctx, r.s.o.bucket, o); outcome != txn.Done {
			return errors.Join(fmt.Errorf("finish transaction %s", p.Name), err)
		}
	}
	return nil
}
