package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/examples/internal/embedded"
)

func startRedis(t *testing.T, dir string) (*embedded.Redis, *redis.Client) {
	t.Helper()
	srv, err := embedded.StartRedis(dir, embedded.RedisOptions{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	cl := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	t.Cleanup(func() { _ = cl.Close() })
	return srv, cl
}

// copyLog makes a directory as a crash at this moment would leave it.
func copyLog(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "redis.aof"))
	if err != nil {
		t.Fatal(err)
	}
	copied := t.TempDir()
	if err := os.WriteFile(filepath.Join(copied, "redis.aof"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return copied
}

// dump describes every key of two databases. Times to live are left out.
func dump(t *testing.T, cl *redis.Client) map[string]string {
	t.Helper()
	all := map[string]string{}
	for db := range 2 {
		conn := cl.Conn()
		if err := conn.Select(t.Context(), db).Err(); err != nil {
			t.Fatal(err)
		}
		for _, key := range conn.Keys(t.Context(), "*").Val() {
			all[fmt.Sprintf("%d/%s", db, key)] = describe(t.Context(), conn, key)
		}
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func describe(ctx context.Context, c *redis.Conn, key string) string {
	switch kind := c.Type(ctx, key).Val(); kind {
	case "string":
		return c.Get(ctx, key).Val()
	case "list":
		return fmt.Sprint(c.LRange(ctx, key, 0, -1).Val())
	case "set":
		return fmt.Sprint(slices.Sorted(slices.Values(c.SMembers(ctx, key).Val())))
	case "hash":
		return fmt.Sprint(c.HGetAll(ctx, key).Val()) // maps print in order
	case "zset":
		return fmt.Sprint(c.ZRangeWithScores(ctx, key, 0, -1).Val())
	case "stream":
		return fmt.Sprint(c.XRange(ctx, key, "-", "+").Val())
	default:
		return kind
	}
}

// randomCommand returns a command that may also be wrong for the kind of its key.
func randomCommand(rnd *rand.Rand) []any {
	n := func(max int) string { return strconv.Itoa(rnd.IntN(max)) }
	key := func(kind string) string { return kind + n(4) }
	val := strings.Repeat("v", rnd.IntN(20)) + "\r\n\x00" + n(100)
	all := [][]any{
		{"SET", key("s"), val},
		{"SET", key("s"), val, "NX", "PX", 1 + rnd.IntN(30)},
		{"incrby", key("n"), n(9)},
		{"APPEND", key("s"), val},
		{"HSET", key("h"), "f" + n(9), val, "g" + n(9), val},
		{"HDEL", key("h"), "f" + n(9)},
		{"SADD", key("t"), n(50), n(50), n(50)},
		{"SPOP", key("t"), 1 + rnd.IntN(2)},
		{"SRANDMEMBER", key("t")},
		{"ZADD", key("z"), rnd.NormFloat64(), n(20), "-inf", "low"},
		{"ZREMRANGEBYRANK", key("z"), 0, 1},
		{"RPUSH", key("l"), val, n(9)},
		{"LPOP", key("l")},
		{"DEL", key("s"), key("h"), key("z")},
		{"RENAME", key("l"), key("l")},
		{"PEXPIRE", key("h"), 1 + rnd.IntN(50)},
		{"EXPIRE", key("z"), 100},
		{"PERSIST", key("h")},
		{"LPUSH", key("h"), "wrong kind"},
		{"MOVE", key("n"), 1},
		{"EVAL", "redis.call('INCR', KEYS[1]); redis.call('SPOP', KEYS[2]); return redis.call('LPUSH', KEYS[3], 'x')", 3, key("n"), key("t"), key("s")},
	}
	return all[rnd.IntN(len(all))]
}

// awaitExpiry returns when no key of the first database has less than a second to live.
func awaitExpiry(t *testing.T, cl *redis.Client) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for dying := true; dying; {
		dying = false
		for _, key := range cl.Keys(t.Context(), "*").Val() {
			left := cl.PTTL(t.Context(), key).Val() // whole milliseconds, so 0 is still alive; negative = for ever
			dying = dying || left >= 0 && left < time.Second
		}
		if time.Now().After(deadline) {
			t.Fatal("keys of a few milliseconds are still there")
		}
	}
}

func TestRedisReplayGivesTheSameData(t *testing.T) {
	rnd := random(t)
	dir := t.TempDir()
	srv, cl := startRedis(t, dir)
	for range 1500 {
		if rnd.IntN(10) > 0 {
			cl.Do(t.Context(), randomCommand(rnd)...)
			continue
		}
		cmds := [][]any{randomCommand(rnd), randomCommand(rnd), randomCommand(rnd)}
		if rnd.IntN(4) == 0 {
			cmds = slices.Insert(cmds, 1, []any{"SELECT", 1}, []any{"XREADGROUP", "bad"})
		}
		_, _ = cl.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			for _, c := range cmds {
				p.Do(t.Context(), c...)
			}
			return nil
		})
	}
	awaitExpiry(t, cl)
	want := dump(t, cl)
	if len(want) < 8 {
		t.Fatalf("only %d keys to compare", len(want))
	}
	for _, crashed := range []bool{true, false} {
		again := copyLog(t, dir)
		for restart := range 2 { // the second one reads the shortened log
			other, otherCl := startRedis(t, again)
			if got := dump(t, otherCl); !maps.Equal(got, want) {
				t.Errorf("crashed %v, restart %d:\ngot  %q\nwant %q", crashed, restart, got, want)
			}
			if err := other.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if crashed {
			if err := srv.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRedisShortensItsLog(t *testing.T) {
	dir := t.TempDir()
	srv, cl := startRedis(t, dir)
	for i := range 500 {
		if err := cl.Set(t.Context(), "key", i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	srv, _ = startRedis(t, dir)
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "redis.aof"))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 100 {
		t.Fatalf("log of one key has %d bytes", info.Size())
	}
}

func TestRedisKeepsStreams(t *testing.T) {
	dir := t.TempDir()
	srv, cl := startRedis(t, dir)
	for i := range 3 {
		if err := cl.XAdd(t.Context(), &redis.XAddArgs{Stream: "st", Values: []any{"i", i}}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	want := dump(t, cl)
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "redis.aof")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("\x00\x00\x00\x30torn")
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		srv, cl = startRedis(t, dir)
		if got := dump(t, cl); !maps.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
		if err := cl.XAdd(t.Context(), &redis.XAddArgs{Stream: "st", Values: []any{"more", 1}}).Err(); err != nil {
			t.Fatal(err)
		}
		want = dump(t, cl)
		if err := srv.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRedisExpiresByTheClock(t *testing.T) {
	dir := t.TempDir()
	srv, cl := startRedis(t, dir)
	ctx := t.Context()
	if err := errors.Join(
		cl.Set(ctx, "long", 1, time.Hour).Err(),
		cl.HSet(ctx, "hash", "f", 1, "g", 2).Err(),
		cl.HExpire(ctx, "hash", time.Hour, "f").Err(),
		cl.Set(ctx, "short", 1, 60*time.Millisecond).Err(),
	); err != nil {
		t.Fatal(err)
	}
	again, againCl := startRedis(t, copyLog(t, dir))
	defer again.Close()
	begin := time.Now()
	for cl.Exists(ctx, "short").Val()+againCl.Exists(ctx, "short").Val() > 0 {
		if time.Since(begin) > 5*time.Second {
			t.Fatal("a key of 60 ms is still there")
		}
	}
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	third, thirdCl := startRedis(t, dir)
	defer third.Close()
	for _, c := range []*redis.Client{againCl, thirdCl} {
		if ttl := c.PTTL(ctx, "long").Val(); ttl > time.Hour-50*time.Millisecond || ttl < time.Hour-time.Minute {
			t.Errorf("key has %v to live, want a little less than an hour", ttl)
		}
		if ttl := c.HTTL(ctx, "hash", "f", "g").Val(); len(ttl) != 2 || ttl[0] < 3500 || ttl[0] > 3600 || ttl[1] != -1 {
			t.Errorf("fields have %v s to live, want an hour and none", ttl)
		}
	}
}

func TestRedisTransactionGivenUpIsNotReplayed(t *testing.T) {
	dir := t.TempDir()
	srv, cl := startRedis(t, dir)
	defer srv.Close()
	ctx := t.Context()
	err := cl.Watch(ctx, func(tx *redis.Tx) error {
		if err := cl.Set(ctx, "watched", "theirs", 0).Err(); err != nil {
			return err
		}
		_, err := tx.TxPipelined(ctx, func(p redis.Pipeliner) error { return p.Set(ctx, "watched", "mine", 0).Err() })
		return err
	}, "watched")
	if !errors.Is(err, redis.TxFailedErr) {
		t.Fatalf("transaction: %v, want it given up", err)
	}
	again, againCl := startRedis(t, copyLog(t, dir))
	defer again.Close()
	if v := againCl.Get(ctx, "watched").Val(); v != "theirs" {
		t.Fatalf("replay gave %q", v)
	}
}

func TestRedisWaitingReads(t *testing.T) {
	srv, cl := startRedis(t, t.TempDir())
	ctx := t.Context()
	if err := cl.BLPop(ctx, time.Second, "list").Err(); err == nil || !strings.Contains(err.Error(), "BLPOP") {
		t.Fatalf("BLPOP: %v, want a refusal", err)
	}
	if err := cl.Do(ctx, "SELECT", 16).Err(); err == nil {
		t.Fatal("a database that isn't kept was selected")
	}
	read := make(chan error, 1)
	go func() {
		for { // the first reads may begin after the write and see nothing new
			res, err := cl.XRead(ctx, &redis.XReadArgs{Streams: []string{"st", "0"}, Block: time.Second}).Result()
			if err != nil || len(res) > 0 {
				read <- err
				return
			}
		}
	}()
	if err := cl.XAdd(ctx, &redis.XAddArgs{Stream: "st", Values: []any{"k", "v"}}).Err(); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	go func() {
		read <- redis.NewClient(&redis.Options{Addr: srv.Addr(), MaxRetries: -1, ReadTimeout: 10 * time.Second}).
			XRead(ctx, &redis.XReadArgs{Streams: []string{"none", "$"}, Block: -1}).Err()
	}()
	if err := srv.Close(); err != nil { // must not wait for that read
		t.Fatal(err)
	}
	if err := <-read; err == nil {
		t.Fatal("a read of nothing succeeded")
	}
}

func TestRedisReportsADroppedEntry(t *testing.T) {
	dir := t.TempDir()
	srv, cl := startRedis(t, dir)
	if err := cl.MSet(t.Context(), "a", 1, "b", 2).Err(); err != nil {
		t.Fatal(err)
	}
	if err := cl.Set(t.Context(), "c", 3, 0).Err(); err != nil {
		t.Fatal(err)
	}
	whole := copyLog(t, dir)
	if err := srv.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(whole, "redis.aof")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, info.Size()-1); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	torn, err := embedded.StartRedis(whole, embedded.RedisOptions{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer torn.Close()
	if !strings.Contains(said.String(), "incomplete entry") {
		t.Errorf("log says %q", said.String())
	}
	tornCl := redis.NewClient(&redis.Options{Addr: torn.Addr()})
	defer tornCl.Close()
	if got := tornCl.MGet(t.Context(), "a", "b", "c").Val(); fmt.Sprint(got) != "[1 2 <nil>]" {
		t.Errorf("keys are %v", got)
	}
}
