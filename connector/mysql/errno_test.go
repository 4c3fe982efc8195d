package mysql

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// TestEvidence has each thing that may be said of a transaction.
func TestEvidence(t *testing.T) {
	cases := []struct {
		name string
		e    evidence
		want txn.Outcome
	}{
		{"committed", evidence{now: "s", visible: true, written: true}, txn.Done},
		{"committed, and the session isn't done with it", evidence{now: "s", listed: true, visible: true}, txn.Done},
		{"committed long ago on the primary of this replica", evidence{now: "replica", visible: true, age: 30 * 24 * time.Hour}, txn.Done},
		{"another session has it", evidence{now: "s", listed: true, written: true}, txn.Again},
		{"forgotten by the server until it restarts", evidence{now: "s", written: true}, txn.Stop},
		{"rolled back", evidence{now: "s", age: keepTokens}, txn.Lost},
		{"too old", evidence{now: "s", age: keepTokens + time.Hour}, txn.Unknown},
		{"another server", evidence{now: "other"}, txn.Unknown},
	}
	for _, c := range cases {
		o, err := judge(native{Name: "n", Server: "s"}, c.e)
		if o != c.want || (err == nil) != (o == txn.Done) {
			t.Errorf("%s: got %v, %v; want %v", c.name, o, err, c.want)
		}
	}
}

// TestErrors has every row of the decision tables, and some that aren't in them.
func TestErrors(t *testing.T) {
	type want struct {
		write  verdict
		commit txn.Outcome
	}
	both, bad, ours, end := want{retry, again}, want{reject, again}, want{never, again}, want{never, stop}
	numbers := map[uint16]want{
		1397: {retry, absent}, 1398: end, 1399: both, 1400: both, 1401: both, 1402: {retry, lost}, 1440: both, 1613: {retry, lost}, 1614: {retry, lost},
		1053: both, 1205: both, 1213: both, 1317: both, 1927: both, 1969: both, 3024: both, 1040: both, 1203: both, 1226: both, 1153: both,
		1048: bad, 1062: bad, 1264: bad, 1265: bad, 1292: bad, 1300: bad, 1366: bad, 1406: bad, 1411: bad, 1451: bad, 1452: bad, 1526: bad, 1644: bad, 1690: bad, 3819: bad, 4025: bad,
		1044: end, 1045: end, 1049: end, 1054: ours, 1095: end, 1136: ours, 1142: end, 1143: end, 1146: ours, 1227: end, 1364: ours, 1370: end, 1471: ours,
		1665: ours, 1906: ours, 3105: ours,
		1036: both, 1290: both, 1792: both, 1836: both, 1021: both, 1114: both,
		// Those of none.
		0: both, 1105: both, 2006: both,
	}
	for n := range rules {
		if _, ok := numbers[n]; !ok {
			t.Errorf("error %d isn't tested", n)
		}
	}
	states := map[string]want{"22": bad, "23": bad, "28": end, "42": ours, "45": bad, "HY": both, "": both}
	for c := range classes {
		if _, ok := states[c]; !ok {
			t.Errorf("class %s isn't tested", c)
		}
	}
	check := func(err error, w want) {
		t.Helper()
		if r := ruleOf(err); r.write != w.write || r.commit != w.commit {
			t.Errorf("%v: got write %d, commit %d, want %d, %d", err, r.write, r.commit, w.write, w.commit)
		}
		code := fault.CommitFailed
		if w.commit == lost {
			code = fault.LostCommit
		}
		for _, c := range []struct {
			got   error
			final bool
			code  fault.Code
		}{{failed(err, "write"), w.write == never, fault.SinkFailed}, {uncommitted(err, "commit"), w.commit == stop, code}} {
			if sink.IsPermanent(c.got) != c.final || fault.CodeOf(c.got) != c.code.ID || !errors.Is(c.got, err) {
				t.Errorf("%v: got %v, permanent %v", err, c.got, sink.IsPermanent(c.got))
			}
		}
	}
	for n, w := range numbers {
		check(fmt.Errorf("wrapped: %w", &mysql.MySQLError{Number: n, SQLState: [5]byte{'H', 'Y', '0', '0', '0'}, Message: "no"}), w)
	}
	for c, w := range states {
		e := &mysql.MySQLError{Number: 9999, Message: "no"}
		copy(e.SQLState[:], c+"999")
		if c == "" {
			e.SQLState = [5]byte{}
		}
		check(e, w)
	}
	check(mysql.ErrInvalidConn, both) // gone away
	if number := numberOf(fmt.Errorf("x: %w", &mysql.MySQLError{Number: 1205})); number != 1205 || ruleOf(errNotBegun).fix != "" {
		t.Errorf("number %d", number)
	}
}

func TestRowOf(t *testing.T) {
	for says, want := range map[string]int{
		"Data too long for column 'at row 9' at row 3": 2, "Duplicate entry 'x' for key 'PRIMARY'": -1, "Duplicate entry 'at row 7' for key 'k'": -1,
		"at row 99999999999999999999": -1, "at row 0": -1,
	} {
		if got := rowOf(&mysql.MySQLError{Message: says}); got != want {
			t.Errorf("%q: row %d, want %d", says, got, want)
		}
	}
}

func TestVersions(t *testing.T) {
	for version, old := range map[string]string{
		"10.11.19-MariaDB-0+deb12u1": "", "10.5.2-MariaDB": "", "10.5.1-MariaDB-log": "MariaDB 10.5.2", "10.4.34-MariaDB": "MariaDB 10.5.2", "11.4.2-MariaDB": "",
		"8.0.43": "", "8.4.0": "", "5.7.44-log": "MySQL 8.0", "9.1.0-commercial": "", "strange": "",
	} {
		v := server{version: version, maria: len(version) > 8 && version[0] == '1'}
		if got := v.tooOld(); got != old {
			t.Errorf("version %s: too old for %q, want %q", version, got, old)
		}
	}
	for _, v := range []server{{version: "5.7.1"}, {readOnly: true}, {cluster: true}, {statement: true}} {
		fails(t, fault.Preflight, "mysql: the server", v.fit(settings{}))
	}
}
