package results

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// DB is the results under one prefix.
type DB struct {
	client *redis.Client
	prefix string
	keep   time.Duration
}

// Open makes a DB; it doesn't connect yet.
func Open(addr, password, prefix string, keep time.Duration) *DB {
	return &DB{client: redis.NewClient(&redis.Options{Addr: addr, Password: password}), prefix: prefix, keep: keep}
}

// Close closes the connections.
func (d *DB) Close() error { return d.client.Close() }

// ErrTaken says that another run has begun to write under the same prefix.
var ErrTaken = errors.New("the keys belong to another run")

// Own makes the keys the run's. A fresh run removes what earlier runs left under the prefix; one that goes on must find
// its own keys, or none, as they expire.
func (d *DB) Own(ctx context.Context, run string, fresh bool) error {
	if fresh {
		if err := d.clear(ctx); err != nil {
			return err
		}
		return d.client.Set(ctx, d.prefix+ownerKey, run, d.keep).Err()
	}
	was, err := d.client.Get(ctx, d.prefix+ownerKey).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("read owner of the results: %w", err)
	}
	if was != "" && was != run {
		return fmt.Errorf("use prefix %q in Redis: %w", d.prefix, ErrTaken)
	}
	return d.client.Set(ctx, d.prefix+ownerKey, run, d.keep).Err()
}

// clear removes all results, those of which the index still knows: others expire.
func (d *DB) clear(ctx context.Context) error {
	minutes, err := d.minutes(ctx, 0, -1)
	if err != nil {
		return err
	}
	for part := range slices.Chunk(minutes, 1000) {
		keys := make([]string, len(part))
		for i, m := range part {
			keys[i] = d.prefix + minuteKey(m)
		}
		if err := d.client.Del(ctx, keys...).Err(); err != nil {
			return fmt.Errorf("remove results of an earlier run: %w", err)
		}
	}
	return d.client.Del(ctx, d.prefix+minutesKey, d.prefix+tallyKey).Err()
}

// minutes lists minutes by their place in time; -1 is the newest.
func (d *DB) minutes(ctx context.Context, first, last int64) ([]int64, error) {
	list, err := d.client.ZRange(ctx, d.prefix+minutesKey, first, last).Result()
	if err != nil {
		return nil, fmt.Errorf("list minutes in Redis: %w", err)
	}
	out := make([]int64, len(list))
	for i, s := range list {
		if out[i], err = strconv.ParseInt(s, 10, 64); err != nil {
			return nil, fmt.Errorf("list minutes in Redis: %w", err)
		}
	}
	return out, nil
}

// Minute is all rows of a minute, by page.
func (d *DB) Minute(ctx context.Context, minute int64) ([]Row, error) {
	all, err := d.client.HGetAll(ctx, d.prefix+minuteKey(minute)).Result()
	if err != nil {
		return nil, fmt.Errorf("read minute %d from Redis: %w", minute, err)
	}
	rows := make([]Row, 0, len(all))
	for page, value := range all {
		r, err := row(minute, page, value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b Row) int { return cmp.Compare(a.Page, b.Page) })
	return rows, nil
}

// Each calls f with every row, by minute and page.
func (d *DB) Each(ctx context.Context, f func(Row) error) error {
	minutes, err := d.minutes(ctx, 0, -1)
	if err != nil {
		return err
	}
	for _, m := range minutes {
		rows, err := d.Minute(ctx, m)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if err := f(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// Newest is the totals of the newest n minutes, oldest first.
func (d *DB) Newest(ctx context.Context, n int) ([]Row, error) {
	minutes, err := d.minutes(ctx, int64(-n), -1)
	if err != nil || len(minutes) == 0 {
		return nil, err
	}
	got := make([]*redis.StringCmd, len(minutes))
	_, err = d.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, m := range minutes {
			got[i] = p.HGet(ctx, d.prefix+minuteKey(m), AllPages)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("read totals from Redis: %w", err)
	}
	var rows []Row
	for i, m := range minutes {
		value, err := got[i].Result()
		if errors.Is(err, redis.Nil) {
			continue // expired meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read totals from Redis: %w", err)
		}
		r, err := row(m, AllPages, value)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

// Tallies is what was read so far, as of the last reports, by input.
func (d *DB) Tallies(ctx context.Context) ([]Tally, error) {
	all, err := d.client.HGetAll(ctx, d.prefix+tallyKey).Result()
	if err != nil {
		return nil, fmt.Errorf("read tallies from Redis: %w", err)
	}
	out := make([]Tally, 0, len(all))
	for from, value := range all {
		t, err := tally(from, value)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Tally) int { return cmp.Compare(a.From, b.From) })
	return out, nil
}
