package mysql

import (
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

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

// rule is the decision for one error of the server, or for a class of SQLSTATEs.
type rule struct {
	write  verdict
	commit txn.Outcome
	fix    string // unset: the code's own
}

const (
	again  = txn.Again
	stop   = txn.Stop
	absent = txn.Absent
	lost   = txn.Lost
)

const (
	fixGrant   = "grant the user of DSN the right that the message names"
	fixLock    = "key the stream by the table's unique keys, so that no two tasks write the same row, and look who else holds locks on the table"
	fixPrimary = "give DSN the address of the primary; this server takes no writes"
	fixMany    = "raise the limit on connections; each task needs one for each transaction that waits for its commit, two as a rule, and so does the operator's committer; a plain sink's task needs one for each batch on its way"
	fixDisk    = "free disk space on the server"
	fixColumns = "correct Columns, or add the column"
	fixXA      = "grant the user of DSN XA_RECOVER_ADMIN (MySQL 8), and look at the server's log"
)

// rules holds the server's error numbers. What isn't in it goes by classes, what isn't there either is tried again: a
// restart is bounded by the pipeline's own strategy, a commit that is given up is lost.
var rules = map[uint16]rule{
	// XA. The names are those of the X/Open specification.
	1397: {retry, absent, ""},    // XAER_NOTA: unknown, or another session's
	1398: {never, stop, ""},      // XAER_INVAL
	1399: {retry, again, ""},     // XAER_RMFAIL: not in this state of this connection; the next try has another one
	1400: {retry, again, ""},     // XAER_OUTSIDE: the same
	1401: {retry, again, fixXA},  // XAER_RMERR: nothing definite
	1402: {retry, lost, ""},      // XA_RBROLLBACK
	1440: {retry, again, ""},     // XAER_DUPID: the name is taken; the next one has another token
	1613: {retry, lost, ""},      // XA_RBTIMEOUT
	1614: {retry, lost, fixLock}, // XA_RBDEADLOCK

	// Locks and ends of sessions.
	1053: {retry, again, "wait for the server to be up again"},
	1205: {retry, again, fixLock},
	1213: {retry, again, fixLock},
	1317: {retry, again, ""},
	1927: {retry, again, ""},
	1969: {retry, again, ""},
	3024: {retry, again, ""},
	1040: {retry, again, fixMany},
	1203: {retry, again, fixMany},
	1226: {retry, again, fixMany},
	1153: {retry, again, ""}, // the packet limit was lowered; the next writer learns it

	// The record is at fault. Most have a class of their own in one of the two servers only.
	1048: {reject, again, ""},
	1062: {reject, again, ""},
	1264: {reject, again, ""},
	1265: {reject, again, ""},
	1292: {reject, again, ""},
	1300: {reject, again, ""},
	1366: {reject, again, ""},
	1406: {reject, again, ""},
	1411: {reject, again, ""},
	1451: {reject, again, ""},
	1452: {reject, again, ""},
	1526: {reject, again, ""},
	1644: {reject, again, ""}, // a trigger raised it
	1690: {reject, again, ""},
	3819: {reject, again, ""},
	4025: {reject, again, ""},

	// Settings and rights.
	1044: {never, stop, fixGrant},
	1045: {never, stop, "check user and password in DSN"},
	1049: {never, stop, "check the database in DSN and in Table"},
	1054: {never, again, fixColumns},
	1095: {never, stop, "use the same user as before, or grant this one CONNECTION ADMIN (MariaDB) or CONNECTION_ADMIN (MySQL)"},
	1136: {never, again, fixColumns},
	1142: {never, stop, fixGrant},
	1143: {never, stop, fixGrant},
	1146: {never, again, "create the table, or correct Table or Tokens"},
	1227: {never, stop, fixGrant},
	1364: {never, again, "add the column to Columns, or give it a default"},
	1370: {never, stop, fixGrant},
	1471: {never, again, "set Table to a table's name"},
	1665: {never, again, "set binlog_format to MIXED or ROW on the server"},
	1906: {never, again, "leave generated columns out of Columns"},
	3105: {never, again, "leave generated columns out of Columns"},

	// The server takes no writes, now or at all.
	1036: {retry, again, fixPrimary},
	1290: {retry, again, fixPrimary},
	1792: {retry, again, fixPrimary},
	1836: {retry, again, fixPrimary},
	1021: {retry, again, fixDisk},
	1114: {retry, again, fixDisk},
}

// classes are the first two characters of SQLSTATE.
var classes = map[string]rule{
	"22": {reject, again, ""},
	"23": {reject, again, ""},
	"28": {never, stop, "check user and password in DSN"},
	"42": {never, again, ""},
	"45": {reject, again, ""}, // a trigger raised it
}

// ruleOf is the decision about err; that for what isn't an answer of the server, a broken connection say, is to try again.
func ruleOf(err error) rule {
	e, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return rule{}
	}
	if r, ok := rules[e.Number]; ok {
		return r
	}
	return classes[string(e.SQLState[:2])]
}

const (
	unknownXID = 1397
	xaRMFail   = 1399
	xaOutside  = 1400
	rolledBack = 1402
	noThread   = 1094
	noRight    = 1142
	noTable    = 1146
)

// numberOf is the server's number of err, 0 if it isn't an answer of the server.
func numberOf(err error) uint16 {
	if e, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return e.Number
	}
	return 0
}

// failed makes an error of what a writer met.
func failed(err error, what string, args ...any) error {
	r := ruleOf(err)
	return faultOf(fault.SinkFailed, r, r.write == never, err, fmt.Sprintf(what, args...))
}

// unfit makes an error of what a check met.
func unfit(err error, what string, args ...any) error {
	r := ruleOf(err)
	return faultOf(fault.Preflight, r, r.write == never, err, fmt.Sprintf(what, args...))
}

// uncommitted makes an error of what a committer met.
func uncommitted(err error, what string, args ...any) error {
	r := ruleOf(err)
	code := fault.CommitFailed
	if r.commit == lost {
		code = fault.LostCommit
	}
	return faultOf(code, r, r.commit == stop, err, fmt.Sprintf(what, args...))
}

func faultOf(c fault.Code, r rule, final bool, err error, what string) error {
	f := fault.Wrap(c, err, "mysql: %s", what)
	if r.fix != "" {
		f = f.WithFix("%s", r.fix)
	}
	if final {
		return sink.Permanent(f)
	}
	return f
}
