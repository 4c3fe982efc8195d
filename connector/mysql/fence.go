package mysql

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

const (
	locksAtOnce = 200 // in one statement
	endSeconds  = 10  // a session that was ended may take, to roll back what it has written
)

// holders says which session holds which of the locks, of those that are held.
func (s *session) holders(ctx context.Context, locks map[string]string) (map[string]string, error) {
	held := map[string]string{}
	all := slices.Sorted(maps.Values(locks))
	for part := range slices.Chunk(slices.Compact(all), locksAtOnce) {
		rows, err := s.query(ctx, "select l, is_used_lock(l) from (select '"+strings.Join(part, "' l union all select '")+"' l) x")
		if err != nil {
			return nil, err
		}
		for _, r := range rows {
			if r[1] != "" {
				held[r[0]] = r[1]
			}
		}
	}
	return held, nil
}

// fence ends the sessions that hold one of the locks and waits for their end: a writer whose process has died, or whose
// connection broke, may have its last statement, XA PREPARE, still running there.
func (s *session) fence(ctx context.Context, locks map[string]bool) error {
	names := map[string]string{}
	for lock := range locks {
		names[lock] = lock
	}
	held, err := s.holders(ctx, names)
	if err != nil {
		return uncommitted(err, "look for sessions of earlier writers")
	}
	for _, lock := range slices.Sorted(maps.Keys(held)) {
		if err := s.exec(ctx, "kill "+held[lock]); err != nil && numberOf(err) != noThread {
			return uncommitted(err, "end session %s of an earlier writer", held[lock])
		}
		got, err := s.one(ctx, fmt.Sprintf("select get_lock('%s', %d)", lock, endSeconds))
		if err == nil {
			err = s.exec(ctx, fmt.Sprintf("do release_lock('%s')", lock))
		}
		if err != nil {
			return uncommitted(err, "wait for the end of session %s of an earlier writer", held[lock])
		}
		if got != "1" {
			return fault.New(fault.CommitFailed, "mysql: session %s of an earlier writer doesn't end", held[lock]).
				WithFix("look at the server's processlist; the session may be rolling back what it has written")
		}
	}
	return nil
}
