package mysql

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
	"github.com/weirline/weirline/txn"
)

// evidence is what the server says of a transaction.
type evidence struct {
	now     string        // the server's id
	listed  bool          // it is prepared
	visible bool          // its token is committed
	written bool          // its token is there, whether committed or not
	age     time.Duration // since it was prepared
}

// judge says what a transaction's fate is.
func judge(n native, e evidence) (txn.Outcome, error) {
	switch {
	case e.visible:
		return txn.Done, nil
	case e.listed:
		return txn.Again, fault.New(fault.CommitFailed, "transaction %s is prepared, and another session has it", n.Name)
	case e.written:
		return txn.Stop, fault.New(fault.CommitFailed, "transaction %s is neither prepared nor committed nor rolled back: "+
			"MariaDB said that it had finished it, and has not", n.Name).
			WithFix("restart the database server, which makes it a prepared transaction again, then start the job")
	case n.Server != e.now:
		return txn.Unknown, fault.New(fault.UnknownCommit, "transaction %s was prepared on server %s, this is %s, which knows nothing of it", n.Name, n.Server, e.now).
			WithFix("give DSN the address of the server it was prepared on, or of a replica of it, or accept the loss by Lost")
	case e.age > keepTokens:
		return txn.Unknown, fmt.Errorf("%s was prepared %v ago and isn't any more; tokens are kept for %v", n.Name, e.age.Round(time.Hour), keepTokens)
	}
	return txn.Lost, fmt.Errorf("%s is neither prepared nor committed: its token isn't in %s", n.Name, n.Tokens)
}

// hasToken looks for a transaction's token.
func (s *session) hasToken(ctx context.Context, n native, level string) (bool, error) {
	rows, err := s.query(ctx, fmt.Sprintf("set transaction isolation level %s; select token from %s where token = '%s'", level, n.Tokens, n.token()))
	return len(rows) > 0, err
}

// age is how long ago a transaction was prepared, by the server's clock.
func (s *session) age(ctx context.Context, n native) (time.Duration, error) {
	text, err := s.one(ctx, fmt.Sprintf("select unix_timestamp() - %d", n.Prepared))
	if err != nil {
		return 0, err
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	return time.Duration(seconds) * time.Second, err
}

// prepared lists the names of prepared transactions that have our form and belong to the database.
func (s *session) prepared(ctx context.Context, database string) (names []string, err error) {
	rows, err := s.query(ctx, "xa recover")
	if err != nil {
		return nil, err
	}
	format := fmt.Sprint(formatOf(database))
	for _, r := range rows { // format, length of the first part, length of the second, both
		name := r[3]
		if _, _, ok := txn.SlotOf(name); ok && r[0] == format && r[1] == fmt.Sprint(min(len(name), maxPart)) {
			names = append(names, name)
		}
	}
	return names, nil
}

// pending is prepared with ages, the oldest first. They come from the tokens, which are read uncommitted.
func (r *resource) pending(ctx context.Context, s *session) ([]txn.Pending, error) {
	names, err := s.prepared(ctx, r.o.database)
	if err == nil {
		err = r.see(ctx, s, names, r.o.database)
	}
	if err != nil || len(names) == 0 {
		return nil, wrapped(err, "list prepared transactions")
	}
	var tokens []string
	for _, name := range names {
		_, token, _ := txn.SlotOf(name)
		tokens = append(tokens, "'"+token+"'")
	}
	rows, err := s.query(ctx, fmt.Sprintf("set transaction isolation level read uncommitted; "+
		"select token, timestampdiff(microsecond, made, now(6)) from %s where token in (%s)", r.o.tokens, strings.Join(tokens, ",")))
	ages := map[string]time.Duration{}
	for _, row := range rows {
		us, perr := strconv.ParseInt(row[1], 10, 64)
		err = errors.Join(err, perr)
		ages[row[0]] = time.Duration(us) * time.Microsecond
	}
	if err != nil {
		return nil, uncommitted(err, "read the ages of prepared transactions")
	}
	out := make([]txn.Pending, len(names))
	for i, name := range names {
		slot, token, _ := txn.SlotOf(name)
		out[i] = txn.Pending{Name: name, Slot: slot, Token: token, Age: ages[token]}
	}
	slices.SortStableFunc(out, func(a, b txn.Pending) int { return cmp.Compare(b.Age, a.Age) })
	return out, nil
}

func wrapped(err error, what string) error {
	if err == nil {
		return nil
	}
	return uncommitted(err, "%s", what)
}
