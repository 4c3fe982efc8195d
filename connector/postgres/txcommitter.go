package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// txCommitter finishes prepared transactions over one connection, made when needed and again after it broke.
type txCommitter struct {
	o settings
	t sink.Task
	s *session
}

func (c *txCommitter) session(ctx context.Context) (*session, error) {
	if c.s != nil && !c.s.conn.IsClosed() {
		return c.s, nil
	}
	if err := c.Close(); err != nil {
		return nil, err
	}
	s, err := c.o.connect(ctx)
	if err != nil {
		return nil, err
	}
	c.s = s
	return s, nil
}

// Close ends the session.
func (c *txCommitter) Close() error {
	if c.s != nil {
		c.s.close()
		c.s = nil
	}
	return nil
}

// Commit commits the transactions one after the other. One that isn't there counts as committed if the server's commit log
// says so.
func (c *txCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	for _, h := range hs {
		n, err := readNative(h)
		if err != nil {
			return err
		}
		s, err := c.session(ctx)
		if err != nil {
			return err
		}
		_, err = s.exec(ctx, fmt.Sprintf("commit prepared '%s'", n.GID))
		if err == nil {
			continue
		}
		if ruleOf(stateOf(err)).commit != absent {
			return uncommitted(err, "commit transaction %s of epoch %d", n.GID, h.Epoch)
		}
		if err := c.missing(ctx, s, h, n); err != nil {
			return err
		}
	}
	return nil
}

// missing decides about a transaction that isn't prepared any more.
func (c *txCommitter) missing(ctx context.Context, s *session, h sink.Handle, n native) error {
	status, future := "", false
	if n.System == s.id.System && n.OID == s.id.OID {
		answer, err := s.column(ctx, fmt.Sprintf("select pg_xact_status('%s'::xid8)", n.XID))
		future = stateOf(err) == invalidParameter
		if err != nil && !future {
			return uncommitted(err, "ask what became of transaction %s of epoch %d", n.GID, h.Epoch)
		}
		if len(answer) == 1 {
			status = answer[0]
		}
	}
	err := judge(n, s.id, status, future)
	if err == nil {
		return nil
	}
	if !sink.IsPermanent(err) || c.o.lost != AcceptLoss {
		return err
	}
	c.t.Metrics.Count("lost_transactions", 1)
	c.t.Log.Error("a prepared transaction is gone; going on without its records by policy",
		"transaction", n.GID, "epoch", h.Epoch, "error", err)
	return nil
}

// Recover commits keep, ends the sessions that still use one of the slots, and rolls back what else is prepared under them.
func (c *txCommitter) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	if err := c.Commit(ctx, keep); err != nil || len(slots) == 0 {
		return err
	}
	s, err := c.session(ctx)
	if err != nil {
		return err
	}
	if err := s.fence(ctx, slots); err != nil {
		return err
	}
	if s.prepared < len(slots) {
		c.t.Log.Warn("max_prepared_transactions is lower than the number of transactions that may wait for their commit; "+
			"checkpoints will fail when it is reached", "max_prepared_transactions", s.prepared, "slots", len(slots))
	}
	mine := make(map[string]bool, len(slots))
	for _, slot := range slots {
		mine[slot.Name] = true
	}
	found, err := s.column(ctx, "select gid from pg_prepared_xacts where database = current_database() order by prepared")
	if err != nil {
		return uncommitted(err, "list prepared transactions")
	}
	for _, gid := range found {
		if slot, ok := slotOf(gid); !ok || !mine[slot] {
			continue
		}
		if _, err := s.exec(ctx, fmt.Sprintf("rollback prepared '%s'", gid)); err != nil && stateOf(err) != undefinedObject {
			return uncommitted(err, "roll back transaction %s, which no checkpoint knows", gid)
		}
	}
	return nil
}

// holders ends the sessions that hold one of the locks and returns the locks.
const holders = `select ((l.classid::bigint << 32) | l.objid::bigint)::text, pg_terminate_backend(l.pid) from pg_locks l
 where l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.pid <> pg_backend_pid()
 and l.database = (select oid from pg_database where datname = current_database())
 and ((l.classid::bigint << 32) | l.objid::bigint) = any('{%s}'::bigint[])`

// fence ends the sessions that hold a slot's lock and waits for their end: a writer whose process has died, or whose
// connection broke, may have its last statement, PREPARE TRANSACTION, still running there.
func (s *session) fence(ctx context.Context, slots []sink.Slot) error {
	keys := make([]string, len(slots))
	for i, slot := range slots {
		keys[i] = strconv.FormatInt(lockKey(slot.Name), 10)
	}
	held, err := s.column(ctx, fmt.Sprintf(holders, strings.Join(keys, ",")))
	if err != nil {
		return uncommitted(err, "end sessions of earlier writers")
	}
	for _, key := range held {
		if _, err := s.exec(ctx, fmt.Sprintf("select pg_advisory_lock(%s); select pg_advisory_unlock(%s)", key, key)); err != nil {
			return uncommitted(err, "wait for the end of an earlier writer's session")
		}
	}
	return nil
}

const (
	undefinedObject  = "42704"
	invalidParameter = "22023"
)

// judge says what a transaction's fate is, given that it isn't prepared any more, by what the commit log says of its id: nil
// is committed. Statuses are those of pg_xact_status; future: the id wasn't given out yet.
func judge(n native, now identity, status string, future bool) error {
	switch {
	case n.System != now.System || n.OID != now.OID:
		return sink.Permanent(fault.New(fault.UnknownCommit, "transaction %s was prepared in database %s of another server (system %s, database %s; this is %s, %s)",
			n.GID, n.Database, n.System, n.OID, now.System, now.OID).WithFix("give URL the address of the database it was prepared in, or accept the loss by Lost"))
	case future, status == "aborted":
		return sink.Permanent(fault.New(fault.LostCommit, "transaction %s (id %s) is neither prepared nor committed", n.GID, n.XID))
	case status == "in progress":
		return fault.New(fault.CommitFailed, "transaction %s (id %s) is being finished by another session", n.GID, n.XID)
	case status == "committed" && n.Timeline == now.Timeline:
		return nil
	case status == "committed":
		return sink.Permanent(fault.New(fault.UnknownCommit, "transaction %s isn't prepared any more; its id %s is one of a committed transaction, but from timeline %s to %s "+
			"ids may have been given out again", n.GID, n.XID, n.Timeline, now.Timeline))
	}
	return sink.Permanent(fault.New(fault.UnknownCommit, "transaction %s isn't prepared any more, and its id %s is too old for the server's commit log", n.GID, n.XID))
}
