package mysql

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// resource finishes prepared transactions: on their own connections where this process has them, else on one that is made when
// needed and again after it broke.
type resource struct {
	o      settings
	owner  string
	s      *session
	server server
	seen   map[string]time.Time // when a transaction was first seen parted from its connection
}

var _ txn.Lister = (*resource)(nil)

func (r *resource) session(ctx context.Context) (*session, error) {
	if r.s != nil && !r.s.broken() {
		return r.s, nil
	}
	r.hangUp()
	s, err := r.o.connect(ctx)
	if err != nil {
		return nil, err
	}
	if r.server, err = s.look(ctx); err == nil {
		err = s.needTokens(ctx, r.o)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	r.s = s
	return s, nil
}

func (r *resource) hangUp() {
	if r.s != nil {
		r.s.close()
		r.s = nil
	}
}

// Close ends the sessions, those of transactions that are still prepared, too.
func (r *resource) Close() error {
	r.hangUp()
	for _, p := range unpark(func(_ string, p parking) bool { return p.owner == r.owner }) {
		p.s.drop()
	}
	return nil
}

// ready reads a handle and has a session to speak about it. A nil session comes with the outcome and the reason.
func (r *resource) ready(ctx context.Context, h sink.Handle) (native, *session, txn.Outcome, error) {
	n, err := readNative(h)
	if err != nil {
		return n, nil, txn.Stop, err
	}
	s, err := r.session(ctx)
	if err != nil && sink.IsPermanent(err) {
		return n, nil, txn.Stop, err
	}
	return n, s, txn.Again, err
}

// Commit commits one prepared transaction.
func (r *resource) Commit(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, err := readNative(h)
	if err != nil {
		return txn.Stop, err
	}
	for _, p := range unpark(func(name string, _ parking) bool { return name == n.Name }) {
		if err := p.finish(ctx, "commit"); err == nil {
			return txn.Done, nil
		} else if ctx.Err() != nil {
			return txn.Again, err
		}
	}
	n, s, o, err := r.ready(ctx, h)
	if err != nil {
		return o, err
	}
	listed, err := r.listed(ctx, s, n)
	if err != nil {
		return ruleOf(err).commit, uncommitted(err, "look for transaction %s", n.Name)
	}
	if !listed {
		return txn.Absent, fmt.Errorf("transaction %s isn't prepared", n.Name)
	}
	if err := r.finish(ctx, s, n, "commit"); err != nil {
		return ruleOf(err).commit, uncommitted(err, "commit transaction %s of epoch %d", n.Name, h.Epoch)
	}
	return r.Prove(ctx, h)
}

// Prove looks for the token's row, which became visible with the commit.
func (r *resource) Prove(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, s, o, err := r.ready(ctx, h)
	if err != nil {
		return o, err
	}
	e := evidence{now: r.server.id}
	e.listed, err = r.listed(ctx, s, n) // before the token: who finishes it first makes the one visible, then removes the other
	if err == nil {
		e.visible, err = s.hasToken(ctx, n, "read committed")
	}
	if err == nil && !e.visible {
		e.written, err = s.hasToken(ctx, n, "read uncommitted")
	}
	if err == nil {
		e.age, err = s.age(ctx, n)
	}
	if err != nil {
		return ruleOf(err).commit, uncommitted(err, "ask what became of transaction %s of epoch %d", n.Name, h.Epoch)
	}
	return judge(n, e)
}

// Clear rolls back what is prepared under the slots: on its own connection where this process has it, else when the sessions
// that still use one of the slots have been ended.
func (r *resource) Clear(ctx context.Context, slots []sink.Slot) error {
	s, err := r.session(ctx)
	if err != nil {
		return err
	}
	locks := make(map[string]bool, len(slots))
	for _, slot := range slots {
		locks[lockOf(slot.Name, r.o.database)] = true
	}
	for _, p := range unpark(func(_ string, p parking) bool { return p.server == r.server.id && locks[p.lock] }) {
		_ = p.finish(ctx, "rollback") // if it failed, it is listed below
	}
	if err := s.fence(ctx, locks); err != nil {
		return err
	}
	found, err := r.pending(ctx, s)
	if err != nil {
		return err
	}
	for _, p := range found {
		if !locks[lockOf(p.Slot, r.o.database)] {
			continue
		}
		err := r.finish(ctx, s, r.nativeOf(p), "rollback")
		if err != nil && numberOf(err) != rolledBack {
			return uncommitted(err, "roll back transaction %s, which no checkpoint knows", p.Name)
		}
	}
	return nil
}

func (r *resource) nativeOf(p txn.Pending) native {
	return native{Name: p.Name, Database: r.o.database, Tokens: r.o.tokens.String(), Server: r.server.id}
}

// parting is how long the server may take to part a transaction from its connection's end, once the connection's locks are
// free. It takes less than 0.2 ms.
const parting = 100 * time.Millisecond

// finish commits or rolls back a transaction that is listed, on a connection that isn't its own. Whose it is, if anybody's, is
// ended first.
func (r *resource) finish(ctx context.Context, s *session, n native, verb string) error {
	since, free := r.seen[n.Name]
	if !free {
		slot, _, _ := txn.SlotOf(n.Name)
		if err := s.fence(ctx, map[string]bool{lockOf(slot, n.Database): true}); err != nil {
			return err
		}
		since = time.Now()
		r.seen[n.Name] = since
	}
	if err := pause(ctx, parting-time.Since(since)); err != nil {
		return err
	}
	err := s.exec(ctx, fmt.Sprintf("xa %s %s", verb, n.xid()))
	if err == nil {
		delete(r.seen, n.Name)
	}
	if n := numberOf(err); n == xaRMFail || n == xaOutside { // the session is in a wrong state; the next try has another one
		r.hangUp()
	}
	return err
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// listed says whether a transaction is prepared.
func (r *resource) listed(ctx context.Context, s *session, n native) (bool, error) {
	names, err := s.prepared(ctx, n.Database)
	if err == nil {
		err = r.see(ctx, s, names, n.Database)
	}
	return slices.Contains(names, n.Name), err
}

// see notes which of the prepared transactions have no connection any more, so that one pause serves all.
func (r *resource) see(ctx context.Context, s *session, names []string, database string) error {
	of := map[string]string{}
	for _, name := range names {
		if _, known := r.seen[name]; !known {
			slot, _, _ := txn.SlotOf(name)
			of[name] = lockOf(slot, database)
		}
	}
	held, err := s.holders(ctx, of)
	if err != nil {
		return err
	}
	for name, lock := range of {
		if held[lock] == "" {
			r.seen[name] = time.Now()
		}
	}
	return nil
}

// List returns what is prepared under a prefix by sinks with the same database.
func (r *resource) List(ctx context.Context, prefix string) ([]txn.Pending, error) {
	s, err := r.session(ctx)
	if err != nil {
		return nil, err
	}
	found, err := r.pending(ctx, s)
	return slices.DeleteFunc(found, func(p txn.Pending) bool { return !txn.Under(p.Slot, prefix) }), err
}

// Finish commits a prepared transaction or rolls it back. The session that has prepared it is ended if it still is there.
func (r *resource) Finish(ctx context.Context, p txn.Pending, commit bool) error {
	s, err := r.session(ctx)
	if err != nil {
		return err
	}
	if _, _, known := txn.SlotOf(p.Name); !known {
		return fault.New(fault.CommitFailed, "mysql: transaction %q isn't one of this sink", p.Name)
	}
	verb := "rollback"
	if commit {
		verb = "commit"
	}
	n := r.nativeOf(p)
	for _, own := range unpark(func(name string, _ parking) bool { return name == p.Name }) {
		own.s.drop()
	}
	err = r.finish(ctx, s, n, verb)
	if err != nil {
		return uncommitted(err, "%s transaction %s", verb, p.Name)
	}
	if visible, err := s.hasToken(ctx, n, "read committed"); err != nil || visible != commit {
		return fault.New(fault.CommitFailed, "mysql: after the %s of transaction %s its token is visible: %v, %v", verb, p.Name, visible, err)
	}
	return nil
}
