package ahead

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// resource commits, which is to write a segment to the destination.
type resource[T any] struct {
	s Sink[T]
	t sink.Task
	store
	out     target // nil until it is needed
	rejects outlet[Reject[T]]
	since   time.Time // the destination fails; zero if it doesn't
}

var _ txn.Lister = (*resource[int])(nil)

func (r *resource[T]) target() target {
	if r.out == nil {
		r.rejects.to = r.s.Rejects
		if m, ok := sink.As[Marked[T]](r.s.To); ok {
			r.out = &markedTarget[T]{resource: r, to: m}
		} else {
			r.out = &plainTarget[T]{resource: r, out: outlet[T]{to: r.s.To}}
		}
	}
	return r.out
}

// Commit writes a segment's rows, notes that, and removes the segment: it isn't done while a file of it is there.
func (r *resource[T]) Commit(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, err := txn.Decode[native](h, nativeVersion)
	if err == nil && n.Parts < 1 {
		err = txn.Unreadable(h, "it has %d parts", n.Parts)
	}
	if err == nil {
		err = txn.CheckSlot(h.Slot, maxSlot)
	}
	if err != nil {
		return txn.Stop, err
	}
	at, past, err := r.find(ctx, h, n)
	switch {
	case err != nil:
		return outcome(ctx, err)
	case past.Token == h.Token:
		return outcome(ctx, at.removeNames(ctx, n.names(txn.NameOf(h.Slot.Name, h.Token))))
	case slices.Contains(past.GivenUp, h.Token):
		return txn.Lost, errors.New("its rows were cleared, since no checkpoint had them, or by hand")
	}
	g, err := at.verify(ctx, h, n.size)
	if errors.Is(err, errAbsent) {
		return txn.Absent, err
	}
	if err == nil {
		err = r.apply(ctx, g)
	}
	if err != nil {
		return outcome(ctx, err)
	}
	past.Token, past.Epoch = h.Token, h.Epoch
	if err := at.keep(ctx, h.Slot.Name, past); err != nil {
		return outcome(ctx, err)
	}
	return outcome(ctx, at.removeNames(ctx, n.names(txn.NameOf(h.Slot.Name, h.Token))))
}

// find looks for a transaction in the sink's place and, if there is no trace of it, in the directory where it was prepared: that of the
// job whose savepoint this one began from.
func (r *resource[T]) find(ctx context.Context, h sink.Handle, n native) (at store, past history, err error) {
	at = r.store
	if past, err = at.history(ctx, h.Slot.Name); err != nil || past.knows(h) || r.s.Place != nil || n.Place == at.String() {
		return at, past, err
	}
	name := txn.NameOf(h.Slot.Name, h.Token)
	if here, err := at.List(ctx, name); err != nil || len(here) > 0 {
		return at, past, err
	}
	old := store{Directory(n.Place)}
	was, err := old.history(ctx, h.Slot.Name)
	if err != nil || was.knows(h) {
		return old, was, err
	}
	if there, err := old.List(ctx, name); err != nil || len(there) > 0 {
		return old, was, err
	}
	return at, past, nil
}

// apply writes a segment and minds how long the destination has been failing.
func (r *resource[T]) apply(ctx context.Context, g *segment) error {
	err := r.target().apply(ctx, g)
	if err == nil {
		r.since = time.Time{}
		r.count("applied_rows", g.size.Rows)
		return nil
	}
	if cerr := r.drop(); cerr != nil {
		err = fmt.Errorf("%w (and to close it failed: %v)", err, cerr) //nolint:errorlint // the first decides
	}
	switch {
	case ctx.Err() != nil || sink.IsPermanent(err):
	case r.since.IsZero():
		r.since = time.Now()
	case r.s.Patience >= 0 && time.Since(r.since) > r.s.Patience:
		r.since = time.Time{}
		return r.impatient(err)
	}
	return err
}

func (r *resource[T]) count(name string, n int64) {
	if r.t.Metrics != nil {
		r.t.Metrics.Count(name, n)
	}
}

// outcome reads what an error means: it was lost, people must mend something, or nobody knows yet.
func outcome(ctx context.Context, err error) (txn.Outcome, error) {
	switch {
	case err == nil:
		return txn.Done, nil
	case ctx.Err() != nil || !sink.IsPermanent(err):
		return txn.Again, err
	case fault.CodeOf(err) == fault.LostCommit.ID:
		return txn.Lost, err
	}
	return txn.Stop, err
}

// Prove goes by what is noted of the slot, and then by the destination's mark.
func (r *resource[T]) Prove(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, err := txn.Decode[native](h, nativeVersion)
	if err != nil {
		return txn.Stop, err
	}
	_, past, err := r.find(ctx, h, n)
	if err != nil {
		return outcome(ctx, err)
	}
	if past.knows(h) { // and it isn't among those given up, or Commit would have said so
		return txn.Done, nil
	}
	proved, err := r.target().proves(ctx, h, n.Rows)
	switch {
	case err != nil:
		o, oerr := outcome(ctx, err)
		return o, errors.Join(oerr, r.drop())
	case proved:
		return txn.Done, nil
	}
	return txn.Unknown, fault.New(fault.UnknownCommit, "the rows of transaction %s are not in %s, where nothing says that they were written", h.Token, r.store).
		WithFix("put the files back, or set Dir or Place to where they are (they were prepared in %s); or go on without these rows by Lost: txn.AcceptLoss", n.Place)
}

// Clear takes away what writers go by first, then lists what they have stored until then.
func (r *resource[T]) Clear(ctx context.Context, slots []sink.Slot) error {
	mine := make(map[string]bool, len(slots))
	prefix := slots[0].Name
	for _, s := range slots {
		mine[s.Name] = true
		for !strings.HasPrefix(s.Name, prefix) {
			prefix = prefix[:len(prefix)-1]
		}
	}
	return r.clear(ctx, prefix, func(f file) bool { return mine[f.slot] })
}

func (r *resource[T]) clear(ctx context.Context, prefix string, which func(f file) bool) error {
	all := func(open bool) (fs []file, _ error) {
		fs, err := r.files(ctx, prefix, func(string) bool { return true })
		return slices.DeleteFunc(fs, func(f file) bool { return !which(f) || open && !f.open }), err
	}
	begun, err := all(true)
	if err == nil {
		err = r.remove(ctx, begun)
	}
	if err != nil {
		return err
	}
	left, err := all(false)
	if err != nil {
		return err
	}
	for _, f := range left {
		if !f.last {
			continue
		}
		past, err := r.history(ctx, f.slot)
		if err != nil {
			return err
		}
		if past.Token == f.token || slices.Contains(past.GivenUp, f.token) {
			continue
		}
		past.giveUp(f.token)
		if err := r.keep(ctx, f.slot, past); err != nil {
			return err
		}
	}
	return r.remove(ctx, left)
}

// List returns the segments that were prepared under a prefix.
func (r *resource[T]) List(ctx context.Context, prefix string) ([]txn.Pending, error) {
	fs, err := r.files(ctx, prefix, func(slot string) bool { return txn.Under(slot, prefix) })
	if err != nil {
		return nil, err
	}
	var out []txn.Pending
	for _, f := range fs {
		p, err := r.lastPart(ctx, f)
		if p == nil {
			if err != nil {
				return nil, err
			}
			continue
		}
		age := max(0, time.Since(time.Unix(0, p.Last.At)))
		out = append(out, txn.Pending{Name: p.Name, Slot: f.slot, Token: f.token, Age: age})
	}
	slices.SortStableFunc(out, func(a, b txn.Pending) int { return cmp.Compare(b.Age, a.Age) })
	return out, nil
}

// lastPart is nil for a file that isn't one, or isn't there any more.
func (r *resource[T]) lastPart(ctx context.Context, f file) (*part, error) {
	if !f.last {
		return nil, nil
	}
	name := txn.NameOf(f.slot, f.token)
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(f.name, name+"."), lastEnd))
	if err != nil {
		return nil, nil // a number too large for a part
	}
	p, err := r.part(ctx, name, n, true)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a living job has finished it
	}
	return p, err
}

// Finish writes a segment to the destination, or removes it.
func (r *resource[T]) Finish(ctx context.Context, p txn.Pending, commit bool) error {
	if p.Name != txn.NameOf(p.Slot, p.Token) || !txn.Plain(p.Name) {
		return fault.New(fault.CommitFailed, "%q isn't a transaction of this sink", p.Name)
	}
	fs, err := r.files(ctx, p.Name, func(slot string) bool { return slot == p.Slot })
	if err != nil {
		return err
	}
	i := slices.IndexFunc(fs, func(f file) bool { return f.last })
	if i < 0 {
		return fault.New(fault.CommitFailed, "transaction %s isn't in %s any more", p.Name, r.store)
	}
	if !commit {
		return r.clear(ctx, p.Name, func(f file) bool { return f.token == p.Token })
	}
	end, err := r.lastPart(ctx, fs[i])
	if err != nil {
		return err
	}
	if end == nil {
		return fault.New(fault.CommitFailed, "transaction %s isn't in %s any more", p.Name, r.store)
	}
	ids, err := txn.Encode(nativeVersion, native{r.String(), end.Last.Size})
	if err != nil {
		return err
	}
	h := sink.Handle{Slot: sink.Slot{Name: p.Slot}, Token: p.Token, Epoch: end.Last.Epoch, Native: ids}
	if o, err := r.Commit(ctx, h); o != txn.Done {
		return fmt.Errorf("commit transaction %s by hand: %w", p.Name, err)
	}
	return nil
}

// drop closes what the destination is written by.
func (r *resource[T]) drop() error {
	err := r.rejects.close()
	if r.out != nil {
		err = errors.Join(err, r.out.close())
	}
	return err
}

// Close may be called again.
func (r *resource[T]) Close() error { return r.drop() }
