package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// resource finishes prepared transactions over one connection, made when needed and again after it broke.
type resource struct {
	o settings
	t sink.Task
	s *session
}

var _ txn.Lister = (*resource)(nil)

func (r *resource) session(ctx context.Context) (*session, error) {
	if r.s != nil && !r.s.conn.IsClosed() {
		return r.s, nil
	}
	if err := r.Close(); err != nil {
		return nil, err
	}
	s, err := r.o.connect(ctx)
	if err != nil {
		return nil, err
	}
	r.s = s
	return s, nil
}

// Close ends the session.
func (r *resource) Close() error {
	if r.s != nil {
		r.s.close()
		r.s = nil
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
	n, s, o, err := r.ready(ctx, h)
	if err != nil {
		return o, err
	}
	if n.Ledger != nil {
		_, token, _ := txn.SlotOf(n.GID)
		return r.apply(ctx, s, r.o.with(n.Ledger.Schema), token, n.Ledger.Rows)
	}
	if _, err := s.exec(ctx, fmt.Sprintf("commit prepared '%s'", n.GID)); err != nil {
		return ruleOf(stateOf(err)).commit, uncommitted(err, "commit transaction %s of epoch %d", n.GID, h.Epoch)
	}
	return txn.Done, nil
}

// Prove asks the server's commit log about a transaction that isn't prepared any more.
func (r *resource) Prove(ctx context.Context, h sink.Handle) (txn.Outcome, error) {
	n, s, o, err := r.ready(ctx, h)
	if err != nil {
		return o, err
	}
	if n.Ledger != nil {
		return s.proveStaged(ctx, n)
	}
	status, future := "", false
	if n.System == s.id.System && n.OID == s.id.OID {
		answer, err := s.column(ctx, fmt.Sprintf("select pg_xact_status('%s'::xid8)", n.XID))
		future = stateOf(err) == invalidParameter
		if err != nil && !future {
			return ruleOf(stateOf(err)).commit, uncommitted(err, "ask what became of transaction %s of epoch %d", n.GID, h.Epoch)
		}
		if len(answer) == 1 {
			status = answer[0]
		}
	}
	return judge(n, s.id, status, future)
}

// Clear ends the sessions that still use one of the slots, and rolls back what is prepared or staged under them, by a sink of
// whichever mode.
func (r *resource) Clear(ctx context.Context, slots []sink.Slot) error {
	s, err := r.session(ctx)
	if err != nil {
		return err
	}
	if r.o.mode == Ledger {
		err = s.keepBooks(ctx, r.o)
	}
	if err != nil {
		return err
	}
	books, err := s.hasBooks(ctx, r.o)
	if err != nil {
		return err
	}
	if books {
		if err := s.raise(ctx, r.o, slots); err != nil {
			return err
		}
	}
	names := make([]string, len(slots))
	for i, slot := range slots {
		names[i] = slot.Name
	}
	if err := s.fence(ctx, names); err != nil {
		return uncommitted(err, "end sessions of earlier writers")
	}
	if books {
		if _, err := s.forget(ctx, r.o, slots, ""); err != nil {
			return err
		}
	}
	return r.clearPrepared(ctx, s, slots)
}

func (r *resource) clearPrepared(ctx context.Context, s *session, slots []sink.Slot) error {
	if r.o.mode == XA && s.prepared < len(slots) {
		r.t.Log.Warn("max_prepared_transactions is lower than the number of transactions that may wait for their commit; "+
			"checkpoints will fail when it is reached", "max_prepared_transactions", s.prepared, "slots", len(slots))
	}
	mine := make(map[string]bool, len(slots))
	for _, slot := range slots {
		mine[slot.Name] = true
	}
	found, err := s.pending(ctx)
	if err != nil {
		return err
	}
	for _, p := range found {
		if !mine[p.Slot] {
			continue
		}
		if _, err := s.exec(ctx, fmt.Sprintf("rollback prepared '%s'", p.Name)); err != nil && stateOf(err) != undefinedObject {
			return uncommitted(err, "roll back transaction %s, which no checkpoint knows", p.Name)
		}
	}
	return nil
}

// List returns what is prepared in the database under a prefix, or staged.
func (r *resource) List(ctx context.Context, prefix string) ([]txn.Pending, error) {
	s, err := r.session(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.pending(ctx)
	books, berr := s.hasBooks(ctx, r.o)
	if err := errors.Join(err, berr); err != nil {
		return nil, err
	}
	if books {
		var staged []txn.Pending
		staged, err = s.staged(ctx, r.o)
		found = append(found, staged...)
		slices.SortStableFunc(found, func(a, b txn.Pending) int { return cmp.Compare(b.Age, a.Age) })
	}
	return slices.DeleteFunc(found, func(p txn.Pending) bool { return !txn.Under(p.Slot, prefix) }), err
}

// Finish commits a prepared transaction or rolls it back; of a staged one it moves the rows, or removes them.
func (r *resource) Finish(ctx context.Context, p txn.Pending, commit bool) error {
	s, err := r.session(ctx)
	if err != nil {
		return err
	}
	if _, _, known := txn.SlotOf(p.Name); !known {
		return fault.New(fault.CommitFailed, "postgres: transaction %q isn't one of this sink", p.Name)
	}
	books, err := s.hasBooks(ctx, r.o)
	if err != nil {
		return err
	}
	if books {
		if done, err := r.finishStaged(ctx, s, p, commit); done || err != nil {
			return err
		}
	}
	verb := "rollback"
	if commit {
		verb = "commit"
	}
	if _, err := s.exec(ctx, fmt.Sprintf("%s prepared '%s'", verb, p.Name)); err != nil {
		return uncommitted(err, "%s transaction %s", verb, p.Name)
	}
	return nil
}

// pending lists the prepared transactions of the database whose names are of our form, the oldest first.
func (s *session) pending(ctx context.Context) ([]txn.Pending, error) {
	found, err := s.column(ctx, `select extract(epoch from clock_timestamp() - prepared)::text || ' ' || gid
 from pg_prepared_xacts where database = current_database() order by prepared`)
	if err != nil {
		return nil, uncommitted(err, "list prepared transactions")
	}
	return waiting(found)
}

// waiting reads lines of seconds and name.
func waiting(found []string) ([]txn.Pending, error) {
	var out []txn.Pending
	for _, line := range found {
		age, gid, _ := strings.Cut(line, " ")
		slot, token, ok := txn.SlotOf(gid)
		if !ok {
			continue
		}
		seconds, err := strconv.ParseFloat(age, 64)
		if err != nil {
			return nil, fmt.Errorf("read the age of prepared transaction %s: %w", gid, err)
		}
		out = append(out, txn.Pending{Name: gid, Slot: slot, Token: token, Age: time.Duration(seconds * float64(time.Second))})
	}
	return out, nil
}

// holders ends the sessions that hold one of the locks and returns the locks.
const holders = `select ((l.classid::bigint << 32) | l.objid::bigint)::text, pg_terminate_backend(l.pid) from pg_locks l
 where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid <> pg_backend_pid()
 and l.database = (select oid from pg_database where datname = current_database())
 and ((l.classid::bigint << 32) | l.objid::bigint) = any('{%s}'::bigint[])`

// fence ends the sessions that hold the lock of one of the names, those of slots as a rule, and waits for their end: a writer whose
// process has died, or whose connection broke, may have its last statement, PREPARE TRANSACTION, still running there. Behind a
// pooler a session that holds one is in the middle of that writer's transaction.
func (s *session) fence(ctx context.Context, names []string) error {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = strconv.FormatInt(lockKey(name), 10)
	}
	held, err := s.column(ctx, fmt.Sprintf(holders, strings.Join(keys, ",")))
	if err != nil {
		return err
	}
	for _, key := range held {
		if _, err := s.exec(ctx, fmt.Sprintf("select pg_advisory_lock(%s); select pg_advisory_unlock(%s)", key, key)); err != nil {
			return err
		}
	}
	return nil
}

const (
	undefinedObject  = "42704"
	invalidParameter = "22023"
)

// elsewhere is the error for a transaction of another database.
func (n native) elsewhere(now identity) error {
	if n.System == now.System && n.OID == now.OID {
		return nil
	}
	return fault.New(fault.UnknownCommit, "transaction %s was prepared in database %s of another server (system %s, database %s; this is %s, %s)",
		n.GID, n.Database, n.System, n.OID, now.System, now.OID).WithFix("give URL the address of the database it was prepared in, or accept the loss by Lost")
}

// judge says what a transaction's fate is, given that it isn't prepared any more, by what the commit log says of its id.
// Statuses are those of pg_xact_status; future: the id wasn't given out yet.
func judge(n native, now identity, status string, future bool) (txn.Outcome, error) {
	switch {
	case n.elsewhere(now) != nil:
		return txn.Unknown, n.elsewhere(now)
	case future, status == "aborted":
		return txn.Lost, fmt.Errorf("%s (id %s) is neither prepared nor committed", n.GID, n.XID)
	case status == "in progress":
		return txn.Again, fault.New(fault.CommitFailed, "transaction %s (id %s) is being finished by another session", n.GID, n.XID)
	case status == "committed" && n.Timeline == now.Timeline:
		return txn.Done, nil
	case status == "committed":
		return txn.Unknown, fmt.Errorf("%s isn't prepared any more; its id %s is one of a committed transaction, but from timeline %s to %s "+
			"ids may have been given out again", n.GID, n.XID, n.Timeline, now.Timeline)
	}
	return txn.Unknown, fmt.Errorf("%s isn't prepared any more, and its id %s is too old for the server's commit log", n.GID, n.XID)
}
