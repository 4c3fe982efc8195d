package postgres

import (
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// verdict is what an answer of the server means to a writer.
type verdict int

const (
	retry  verdict = iota // the task fails, is restarted and writes again
	reject                // the record is at fault
	never                 // no repetition heals it
)

// rule is the decision for one SQLSTATE, or for a class of them.
type rule struct {
	write  verdict
	commit txn.Outcome
	fix    string // unset: the code's own
}

const (
	again  = txn.Again
	stop   = txn.Stop
	absent = txn.Absent
)

const (
	fixGrant    = "grant the user of URL the right that the message names"
	fixPrepared = "set max_prepared_transactions to 10 for each task, at least, in the server's configuration and restart the server; or " + fixLedger
	fixLock     = "key the stream by the table's unique keys, so that no two tasks write the same row, and look who else holds locks on the table"
)

// rules holds states of five characters, which win, and classes of two. What isn't listed is tried again: a restart is
// bounded by the pipeline's own strategy, a commit that is given up is lost.
var rules = map[string]rule{
	"08": {retry, again, "check the network and that the server is up"},
	"0A": {never, stop, ""}, // such as a temporary table in a trigger, or COMMIT PREPARED in another database
	"21": {reject, again, ""},
	"22": {reject, again, ""},
	"23": {reject, again, ""},
	"25": {retry, again, ""},
	"28": {never, stop, "check user and password in URL"},
	"3D": {never, stop, "check the database in URL"},
	"3F": {never, stop, "check the schema in Table"},
	"40": {retry, again, ""},
	"42": {never, again, ""},
	"44": {reject, again, ""},
	"53": {retry, again, ""},
	"54": {reject, again, ""},
	"55": {retry, again, ""},
	"57": {retry, again, ""},
	"58": {retry, again, "look at the server's log and disks"},
	"P0": {reject, again, ""}, // a trigger raised it
	"XX": {retry, again, "look at the server's log"},

	"22P03": {retry, again, ""}, // the column's type was changed; the next writer learns it
	"25006": {retry, again, "give URL the address of the primary; this server takes no writes"},
	"42501": {never, stop, fixGrant + "; a prepared transaction can be finished by the user who prepared it and by superusers"},
	"42703": {never, again, "correct Columns, or add the column"},
	"42704": {never, absent, ""},
	"42710": {retry, again, ""}, // the transaction's name is taken; the next one has another token
	"42804": {never, again, "give values of the column's type"},
	"42P01": {never, again, "create the table, or correct Table"},
	"42P10": {never, again, "make a unique index on Keys, no others, or correct Keys"},
	"428C9": {never, again, "leave generated columns out of Columns"},
	"53100": {retry, again, "free disk space on the server"},
	"53200": {retry, again, "raise max_prepared_transactions, or memory or max_locks_per_transaction if the message says so"},
	"53300": {retry, again, "raise max_connections; each task needs one, a plain sink's one for each batch on its way, and so does the committer of a two-phase sink"},
	"55000": {never, again, fixPrepared},
	"55006": {retry, again, ""}, // another session is about to finish it
	"55P03": {retry, again, fixLock},
	"57P04": {never, stop, "the database was dropped; restore it, or correct URL"},
}

func classOf(state string) string { return state[:min(2, len(state))] }

func ruleOf(state string) rule {
	if r, ok := rules[state]; ok {
		return r
	}
	return rules[classOf(state)]
}

// ruleFor is the rule for what the server answered. The state of a server without prepared transactions has other meanings, too.
func ruleFor(err error) rule {
	r := ruleOf(stateOf(err))
	if stateOf(err) == "55000" && !strings.Contains(err.Error(), "prepared transactions") {
		r.fix = ""
	}
	return r
}

// stateOf is the SQLSTATE of err, "" if it isn't an answer of the server.
func stateOf(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// spoken gives an answer of the server with its detail, which the client library leaves out.
func spoken(err error) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Detail != "" {
		return fmt.Errorf("%w: %s", err, pg.Detail)
	}
	return err
}

// failed makes an error of what a writer met.
func failed(err error, what string, args ...any) error {
	r := ruleFor(err)
	return faultOf(fault.SinkFailed, r, r.write == never, err, fmt.Sprintf(what, args...))
}

// unfit makes an error of what a check met. A connection that breaks meanwhile says nothing of the settings.
func (s *session) unfit(err error, what string, args ...any) error {
	r := ruleFor(err)
	if s.conn.IsClosed() || stateOf(err) != "" && r.write == retry {
		return failed(err, what, args...)
	}
	return faultOf(fault.Preflight, r, r.write == never, err, fmt.Sprintf(what, args...))
}

// uncommitted makes an error of what a committer met.
func uncommitted(err error, what string, args ...any) error {
	r := ruleOf(stateOf(err))
	return faultOf(fault.CommitFailed, r, r.commit == stop, err, fmt.Sprintf(what, args...))
}

func faultOf(c fault.Code, r rule, final bool, err error, what string) error {
	f := fault.Wrap(c, spoken(err), "postgres: %s", what)
	if r.fix != "" {
		f = f.WithFix("%s", r.fix)
	}
	if final {
		return sink.Permanent(f)
	}
	return f
}
