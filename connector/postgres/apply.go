package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	noRight     = "42501"
	noTable     = "42P01"
	noSchema    = "3F000"
	lockRefused = "55P03"

	fixRefused = "mend the table, or what the message names, or set Rejects to a table for such rows; then start the job again"
)

// with returns settings that speak of a handle's ledger, which may be another than the sink's.
func (o settings) with(schema string) settings {
	o.schema = schema
	return o
}

// applied makes an outcome of what a ledger's statement met: a repetition heals what isn't the rows' fault or people's.
func applied(err error, what string, args ...any) (txn.Outcome, error) {
	r := ruleOf(stateOf(err))
	if r.write == reject {
		r.fix = fixRefused
	}
	f := faultOf(fault.CommitFailed, r, false, err, fmt.Sprintf(what, args...))
	if r.write == retry {
		return txn.Again, f
	}
	return txn.Stop, f
}

// claim notes in the ledger that a transaction's rows are moved, and returns how many there are and where to.
const claim = `with l as (update %s set applied = clock_timestamp() where token = '%s' and applied is null returning slot, rows)
 select rows::text, slot, (select plan from %s s where s.slot = l.slot) from l`

// apply moves a transaction's staged rows into their table and notes it in the ledger, in one transaction. Who comes second
// waits for the first and then finds it noted. A negative want is any number of rows.
func (r *resource) apply(ctx context.Context, s *session, o settings, token string, want int64) (txn.Outcome, error) {
	results, err := s.exec(ctx, s.prelude(o)+fmt.Sprintf(claim, o.book("ledger"), token, o.book("stages")))
	if err != nil {
		if state := stateOf(err); state == noTable || state == noSchema {
			return txn.Absent, s.abandon(ctx, err)
		}
		out, err := applied(err, "note transaction %s in %s", token, o.book("ledger"))
		return out, s.abandon(ctx, err)
	}
	rows := results[len(results)-1].Rows
	if len(rows) == 0 {
		done, err := s.column(ctx, fmt.Sprintf("rollback; select 1 from %s where token = '%s' and applied is not null", o.book("ledger"), token))
		if err != nil {
			return applied(err, "look for transaction %s in %s", token, o.book("ledger"))
		}
		if len(done) > 0 {
			return txn.Done, nil
		}
		return txn.Absent, fmt.Errorf("token %s isn't in %s", token, o.book("ledger"))
	}
	m := move{t: r.t, s: s, o: o, token: token, slot: string(rows[0][1])}
	if err := errors.Join(json.Unmarshal(rows[0][2], &m.plan), m.count(rows[0][0], want)); err != nil {
		return txn.Stop, s.abandon(ctx, fault.New(fault.CommitFailed, "postgres: the books of transaction %s can't be read: %v", token, err))
	}
	if out, err := m.run(ctx); err != nil {
		return out, s.abandon(ctx, err)
	}
	return m.end(ctx)
}

// move is one transaction on its way into the table.
type move struct {
	t     sink.Task
	s     *session
	o     settings
	token string
	slot  string
	rows  int64 // that were staged
	plan  plan

	refused int64 // rows that went among the rejects
}

func (m *move) count(text []byte, want int64) (err error) {
	m.rows, err = strconv.ParseInt(string(text), 10, 64)
	if err == nil && want >= 0 && want != m.rows {
		err = fmt.Errorf("the ledger says %d rows, the handle %d", m.rows, want)
	}
	return err
}

func (m *move) stage() string { return pgx.Identifier{m.o.schema, m.plan.Stage}.Sanitize() }

// run inserts the rows, all at once, or if one is refused, in parts.
func (m *move) run(ctx context.Context) (txn.Outcome, error) {
	found, err := m.s.column(ctx, "select count(*)::text from "+m.stage())
	if err != nil {
		return applied(err, "count the rows of staging table %s", m.stage())
	}
	if found[0] != strconv.FormatInt(m.rows, 10) {
		return txn.Stop, fault.New(fault.CommitFailed, "postgres: staging table %s has %s rows, and %d were staged by transaction %s",
			m.stage(), found[0], m.rows, m.token).
			WithFix("find out who has changed it; to give the transaction up, delete its row from %s and set Lost to txn.AcceptLoss", m.o.book("ledger"))
	}
	_, err = m.s.exec(ctx, "savepoint rows; "+m.plan.move(m.stage())+"; release rows")
	if err == nil {
		return txn.Done, nil
	}
	if ruleOf(stateOf(err)).write == reject {
		err = m.apart(ctx)
	}
	if err == nil {
		return txn.Done, nil
	}
	return applied(err, "move %d rows of transaction %s to table %s",
		m.rows, txn.NameOf(m.slot, m.token), pgx.Identifier(m.plan.Table).Sanitize())
}

// end empties the staging table, forgets what is old, and commits.
func (m *move) end(ctx context.Context) (txn.Outcome, error) {
	if err := m.s.empty(ctx, m.stage()); err != nil {
		out, err := applied(err, "empty staging table %s", m.stage())
		return out, m.s.abandon(ctx, err)
	}
	results, err := m.s.exec(ctx, fmt.Sprintf("delete from %s where slot = %s and applied < now() - interval '%d seconds'; commit",
		m.o.book("ledger"), literal(m.slot), int(keepTokens.Seconds())))
	if err != nil {
		out, err := applied(err, "commit the move of transaction %s", m.token)
		return out, m.s.abandon(ctx, err)
	}
	if tag := results[len(results)-1].CommandTag.String(); tag != "COMMIT" {
		return txn.Again, fault.New(fault.CommitFailed, "postgres: the move of transaction %s was rolled back", m.token)
	}
	if m.refused > 0 {
		m.t.Metrics.Count("rejected_at_commit", m.refused)
		m.t.Log.Warn("rows were refused at the commit and are among the rejects",
			"rows", m.refused, "transaction", txn.NameOf(m.slot, m.token), "rejects", m.o.rejects.Sanitize())
	}
	return txn.Done, nil
}

// empty takes all rows out of a staging table, in a transaction that is open. The quick way isn't open while somebody reads
// it, as a backup does.
func (s *session) empty(ctx context.Context, stage string) error {
	_, err := s.exec(ctx, fmt.Sprintf("savepoint empty; lock table %[1]s in access exclusive mode nowait; truncate %[1]s; release empty", stage))
	if stateOf(err) == lockRefused {
		_, err = s.exec(ctx, "rollback to empty; delete from "+stage)
	}
	return err
}

// absent says what is known of a transaction that its ledger doesn't have.
func (n native) absent(now identity, age time.Duration) (txn.Outcome, error) {
	if err := n.elsewhere(now); err != nil {
		return txn.Unknown, err
	}
	if age > keepTokens {
		return txn.Unknown, fmt.Errorf("%s was staged %v ago and isn't in the ledger in schema %s, which remembers %v",
			n.GID, age.Round(time.Hour), n.Ledger.Schema, keepTokens)
	}
	return txn.Lost, fmt.Errorf("%s isn't in the ledger in schema %s: its rows are neither staged nor applied", n.GID, n.Ledger.Schema)
}

// proveStaged is asked about a transaction that isn't in its ledger.
func (s *session) proveStaged(ctx context.Context, n native) (txn.Outcome, error) {
	answer, err := s.column(ctx, "select extract(epoch from clock_timestamp())::int8::text")
	if err != nil {
		return ruleOf(stateOf(err)).commit, uncommitted(err, "ask for the time")
	}
	now, err := strconv.ParseInt(answer[0], 10, 64)
	if err != nil {
		return txn.Again, fault.Wrap(fault.CommitFailed, err, "postgres: read the server's time")
	}
	return n.absent(s.id, time.Duration(now-n.Ledger.At)*time.Second)
}

// raise fences the slots' writers: none that began before begins anything any more. Who has passed the fence by then holds the
// slot's lock.
func (s *session) raise(ctx context.Context, o settings, slots []sink.Slot) error {
	sql := fmt.Sprintf(`insert into %s select slot, (select nextval(%s)) from unnest(%s) slot
 on conflict (slot) do update set turn = excluded.turn; commit`, o.book("fences"), literal(o.book("turns")), slotList(slots))
	if _, err := s.exec(ctx, s.prelude(o)+sql); err != nil {
		return s.abandon(ctx, uncommitted(err, "fence earlier writers in %s", o.book("fences")))
	}
	return nil
}

// forget gives up what is staged in the slots, or has the token if that isn't "", and wasn't applied. It returns how many staging
// tables it has emptied.
func (s *session) forget(ctx context.Context, o settings, slots []sink.Slot, token string) (int, error) {
	which := "slot = any(" + slotList(slots) + ")"
	if token != "" {
		which = "token = " + literal(token)
	}
	stages, err := s.column(ctx, s.prelude(o)+fmt.Sprintf(`with gone as (delete from %[1]s where applied is null and %[5]s returning slot)
 select stage from (select format('%%I.%%I', %[4]s, plan::json->>'stage') stage from %[2]s
 where slot = any(%[3]s) or slot in (select slot from gone)) s where to_regclass(stage) is not null`,
		o.book("ledger"), o.book("stages"), slotList(slots), literal(o.schema), which))
	if err != nil {
		return 0, s.abandon(ctx, uncommitted(err, "clear staged rows"))
	}
	for _, stage := range stages {
		if err := s.empty(ctx, stage); err != nil {
			return 0, s.abandon(ctx, uncommitted(err, "empty staging table %s", stage))
		}
	}
	if _, err := s.exec(ctx, "commit"); err != nil {
		return 0, s.abandon(ctx, uncommitted(err, "clear staged rows"))
	}
	return len(stages), nil
}

// staged lists what waits in the ledger, the oldest first.
func (s *session) staged(ctx context.Context, o settings) ([]txn.Pending, error) {
	found, err := s.column(ctx, fmt.Sprintf(`select extract(epoch from clock_timestamp() - staged)::text || ' ' || slot || '-' || token
 from %s where applied is null order by staged`, o.book("ledger")))
	if err != nil {
		return nil, uncommitted(err, "list staged transactions")
	}
	return waiting(found)
}

// finishStaged commits or gives up what is in the ledger; done is false if it isn't there.
func (r *resource) finishStaged(ctx context.Context, s *session, p txn.Pending, commit bool) (done bool, err error) {
	_, token, _ := txn.SlotOf(p.Name)
	if !commit {
		n, err := s.forget(ctx, r.o, nil, token)
		return n > 0, err
	}
	there, err := s.column(ctx, fmt.Sprintf("select 1 from %s where token = '%s' and applied is null", r.o.book("ledger"), token))
	if err != nil || len(there) == 0 {
		return false, err
	}
	out, err := r.apply(ctx, s, r.o, token, -1)
	if out != txn.Done {
		return false, err
	}
	return true, nil
}
