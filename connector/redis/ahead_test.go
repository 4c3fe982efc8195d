package redis_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// unmarked hides that a sink keeps marks.
type unmarked struct{ sink.Sink[string] }

// destinations are what stands behind the write-ahead sink here, by how it is asked for.
var destinations = map[string]func(addr, prefix string) sink.Sink[string]{
	"marked": func(addr, prefix string) sink.Sink[string] {
		return redis.MarkedSink[string]{Addr: addr, Prefix: prefix, Do: push}
	},
	"unmarked": func(addr, prefix string) sink.Sink[string] {
		return unmarked{redis.MarkedSink[string]{Addr: addr, Prefix: prefix, Do: push}}
	},
	"upserts": func(addr, prefix string) sink.Sink[string] {
		return redis.Sink[string]{Addr: addr, Prefix: prefix, Do: func(v string, c *redis.Cmds) error {
			c.HSet("hash", v, "")
			return nil
		}}
	},
}

// visible is what the destination has: a list, or the fields of a hash.
func visible(ctx context.Context, db *goredis.Client, prefix string) ([]string, error) {
	list, err := db.LRange(ctx, prefix+"list", 0, -1).Result()
	fields, herr := db.HKeys(ctx, prefix+"hash").Result()
	return append(list, fields...), errors.Join(err, herr)
}

// TestAheadContract is the contract of two-phase sinks, for a write-ahead sink to each destination.
func TestAheadContract(t *testing.T) {
	srv := testsvc.Redis(t)
	db := srv.Client()
	defer db.Close()
	for name, to := range destinations {
		t.Run(name, func(t *testing.T) {
			prefix := "contract-" + name + ":"
			dir := filepath.Join(t.TempDir(), "ahead")
			place := ahead.Directory(dir)
			s := ahead.Sink[string]{To: to(srv.Addr, prefix), Dir: dir, Batch: 7}
			lossy := s
			lossy.Lost = txn.AcceptLoss
			of := func(ctx context.Context, slot, token string) ([]string, error) {
				return place.List(ctx, txn.NameOf(slot, token))
			}
			txntest.Run(t, txntest.Case[string]{
				TxCase: sinktest.TxCase[string]{
					Sink: s, Make: strconv.Itoa, Visible: func() ([]string, error) { return visible(t.Context(), db, prefix) },
					Left: func(slot sink.Slot) ([]string, error) { return waiting(t.Context(), place, slot) },
				},
				Lossy: lossy,
				RollBack: func(ctx context.Context, h sink.Handle) error {
					names, err := of(ctx, h.Slot.Name, h.Token)
					return errors.Join(err, place.Remove(ctx, names))
				},
				Forget: func(ctx context.Context, h sink.Handle) (sink.Handle, error) {
					return h, errors.Join(place.Remove(ctx, []string{h.Slot.Name + ".applied"}), db.Del(ctx, prefix+"weirline:mark:"+h.Slot.Name).Err())
				},
				MaxSlot: 208,
			})
		})
	}
}

// waiting names what a place has of a slot's transactions.
func waiting(ctx context.Context, p ahead.Place, s sink.Slot) ([]string, error) {
	names, err := p.List(ctx, s.Name+"-")
	return slices.DeleteFunc(names, func(name string) bool {
		token, _, _ := strings.Cut(name[len(s.Name)+1:], ".")
		return len(token) != txn.TokenLen
	}), err
}

const killRecords = 20_000

// numbers is the job: generated numbers into a list, whose commands mustn't be repeated.
func numbers(c *txntest.Child) error {
	state := filepath.Join(c.Args["dir"], "state")
	rate := 1_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if c.Step == "" {
		rate = killRecords
	}
	p := engine.New(engine.Config{Name: "kill", Dir: state, Store: c.Store(state), Parallelism: c.Parallelism, CheckpointEvery: 10 * time.Millisecond})
	s := engine.From(p, "numbers", gen.Source[string]{
		Make: func(seq int64) string { return fmt.Sprint("n", seq) }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	to := destinations[c.Args["to"]](c.Args["addr"], c.Args["to"]+":")
	engine.ToTx(s, "out", txntest.Wrap(c, ahead.Sink[string]{To: to, Dir: filepath.Join(state, "ahead"), Batch: 50}))
	return p.Run(context.Background())
}

// TestAheadKilledAtEachStep looks after each death: with marks no number is there twice, without some may be; at the end each number
// is there, and none waits.
func TestAheadKilledAtEachStep(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	db := srv.Client()
	defer db.Close()
	for name := range destinations {
		t.Run(name, func(t *testing.T) {
			dir, most := t.TempDir(), 0
			txntest.Kills{
				Args: map[string]string{"dir": dir, "to": name, "addr": srv.Addr},
				Check: func(over bool) error {
					got, err := visible(t.Context(), db, name+":")
					if err != nil {
						return err
					}
					seen := map[string]int{}
					for _, v := range got {
						if seen[v]++; seen[v] > 1 && name != "unmarked" {
							return fmt.Errorf("%q is there twice", v)
						}
					}
					most = len(got) - len(seen)
					waits, err := filepath.Glob(filepath.Join(dir, "state", "ahead", "*-*-*-*.*"))
					if err != nil || over && (len(seen) != killRecords || len(waits) > 0) {
						return fmt.Errorf("%d of %d are there, and %q wait, %w", len(seen), killRecords, waits, err)
					}
					return nil
				},
			}.Run(t)
			t.Logf("%s: each of %d numbers is there, and %d repetitions", name, killRecords, most)
		})
	}
}

// TestAheadServerKilled kills the server again and again while the job writes.
func TestAheadServerKilled(t *testing.T) {
	srv := testsvc.NewRedis(t, testsvc.RedisOptions{})
	db := srv.Client()
	defer db.Close()
	done := make(chan error, 1)
	go func() {
		done <- numbers(&txntest.Child{Args: map[string]string{"dir": t.TempDir(), "to": "marked", "addr": srv.Addr}, Parallelism: 2})
	}()
	for n := range 3 {
		for have := int64(0); have < int64(n+1)*killRecords/5; {
			select {
			case err := <-done:
				t.Fatalf("the job ended early: %v", err)
			case <-time.After(5 * time.Millisecond):
			}
			have = db.LLen(t.Context(), "marked:list").Val()
		}
		srv.Kill()
		if err := srv.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	got, err := visible(t.Context(), db, "marked:")
	seen := map[string]bool{}
	for _, v := range got {
		seen[v] = true
	}
	if err != nil || len(got) != killRecords || len(seen) != killRecords {
		t.Errorf("%d numbers, %d of them different, %v; want %d", len(got), len(seen), err, killRecords)
	}
}
