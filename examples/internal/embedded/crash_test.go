package embedded_test

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/examples/internal/embedded"
)

// The crash tests run this test binary again as a child that starts a server, writes to it through real clients and
// prints every acknowledged write as "WRITER NUMBER". The parent kills it in the middle.
const (
	childEnv = "WEIRLINE_EMBEDDED_CHILD"
	dirEnv   = "WEIRLINE_EMBEDDED_DIR"
	writers  = 4
	rounds   = 4
)

func TestMain(m *testing.M) {
	children := map[string]func(context.Context, string) error{"kafka": writeKafka, "redis": writeRedis}
	child, ok := children[os.Getenv(childEnv)]
	if !ok {
		os.Exit(m.Run())
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	fmt.Fprintln(os.Stderr, child(ctx, os.Getenv(dirEnv)))
	os.Exit(1)
}

// write runs one goroutine per writer until one fails, and prints what was acknowledged.
func write(next func(w int) (int, error)) error {
	errs := make(chan error, writers)
	for w := range writers {
		go func() {
			for {
				n, err := next(w)
				if err != nil {
					errs <- err
					return
				}
				fmt.Fprintf(os.Stdout, "%d %d\n", w, n)
			}
		}()
	}
	return <-errs
}

// crash runs a child on dir, kills it after about the given number of acknowledged writes and returns the highest
// number that each writer has reported.
func crash(t *testing.T, kind, dir string, after int) [writers]int {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+kind, dirEnv+"="+dir)
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var acked [writers]int
	lines := 0
	for sc := bufio.NewScanner(out); sc.Scan(); lines++ {
		w, n, ok := strings.Cut(sc.Text(), " ")
		writer, err := strconv.Atoi(w)
		number, err2 := strconv.Atoi(n)
		if !ok || err != nil || err2 != nil {
			break // the last line may be cut off
		}
		acked[writer] = max(acked[writer], number)
		if lines == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Wait(); err == nil || lines < after {
		t.Fatalf("child ended by itself after %d writes: %v: %s", lines, err, complaint.String())
	}
	return acked
}

// random gives a test its seed and prints it.
func random(t *testing.T) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("WEIRLINE_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = n
	}
	t.Logf("WEIRLINE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// writeRedis changes several kinds of keys in one transaction per write.
func writeRedis(ctx context.Context, dir string) error {
	srv, err := embedded.StartRedis(dir, embedded.RedisOptions{})
	if err != nil {
		return err
	}
	cl := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	return write(func(w int) (int, error) {
		var n *redis.IntCmd
		id := strconv.Itoa(w)
		now := time.Now().String()
		_, err := cl.TxPipelined(ctx, func(p redis.Pipeliner) error {
			n = p.Incr(ctx, "count:"+id)
			p.RPush(ctx, "list:"+id, now)
			p.HSet(ctx, "hash:"+id, now, w)
			p.Expire(ctx, "hash:"+id, time.Hour)
			return nil
		})
		if err != nil {
			return 0, err
		}
		return int(n.Val()), cl.Set(ctx, "plain:"+id, n.Val(), 0).Err()
	})
}

func TestRedisLosesNothingAcknowledged(t *testing.T) {
	rnd := random(t)
	dir := t.TempDir()
	for round := range rounds {
		acked := crash(t, "redis", dir, 50+rnd.IntN(1000))
		srv, cl := startRedis(t, dir)
		for w, want := range acked {
			id := strconv.Itoa(w)
			count, err := cl.Get(t.Context(), "count:"+id).Int()
			if err != nil {
				t.Fatal(err)
			}
			plain, err := cl.Get(t.Context(), "plain:"+id).Int()
			if err != nil {
				t.Fatal(err)
			}
			list := int(cl.LLen(t.Context(), "list:"+id).Val())
			hash := int(cl.HLen(t.Context(), "hash:"+id).Val())
			if plain < want || count < plain || count > plain+1 {
				t.Errorf("round %d writer %d: %d was acknowledged, plain key has %d, counter %d", round, w, want, plain, count)
			}
			if list != count || hash != count {
				t.Errorf("round %d writer %d: half a transaction: counter %d, list %d, hash %d", round, w, count, list, hash)
			}
			// The next round's child goes on from here.
			if err := cl.Set(t.Context(), "plain:"+id, count, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if err := srv.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// writeKafka produces a numbered record per write and commits its offset for a group, from which it goes on.
func writeKafka(ctx context.Context, dir string) error {
	srv, err := embedded.StartKafka(dir, crashTopic)
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(srv.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DefaultProduceTopic("events"), kgo.ProducerLinger(0))
	if err != nil {
		return err
	}
	adm := kadm.NewClient(cl)
	var mu sync.Mutex // one commit at a time: the group is shared
	return write(func(w int) (int, error) {
		rec := kgo.StringRecord(strconv.Itoa(w))
		rec.Partition = int32(w)
		if err := cl.ProduceSync(ctx, rec).FirstErr(); err != nil {
			return 0, err
		}
		mu.Lock()
		defer mu.Unlock()
		var offsets kadm.Offsets
		offsets.AddOffset("events", rec.Partition, rec.Offset+1, -1)
		resp, err := adm.CommitOffsets(ctx, "group", offsets)
		if err == nil {
			err = resp.Error()
		}
		return int(rec.Offset) + 1, err
	})
}

var crashTopic = embedded.KafkaOptions{Topics: []embedded.Topic{{Name: "events", Partitions: writers}}}

func TestKafkaLosesNothingAcknowledged(t *testing.T) {
	rnd := random(t)
	dir := t.TempDir()
	for round := range rounds {
		acked := crash(t, "kafka", dir, 50+rnd.IntN(500))
		srv, err := embedded.StartKafka(dir, crashTopic)
		if err != nil {
			t.Fatal(err)
		}
		held := countRecords(t, srv.Addr(), "events")
		group := committed(t, srv.Addr(), "group")
		for w, want := range acked {
			if held[w] < want {
				t.Errorf("round %d partition %d: %d records acknowledged, %d there", round, w, want, held[w])
			}
			if group[w] < want || group[w] > held[w] {
				t.Errorf("round %d partition %d: offset %d acknowledged, %d there, of %d records", round, w, want, group[w], held[w])
			}
		}
		srv.Close()
	}
}

// countRecords reads every partition to its end and returns the number of records, which have their writer's number.
func countRecords(t *testing.T, addr, topic string) (n [writers]int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(t.Context(), topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
	left := 0
	ends.Each(func(o kadm.ListedOffset) { left += int(o.Offset) })
	for left > 0 {
		fs := cl.PollFetches(t.Context())
		if errs := fs.Errors(); len(errs) > 0 {
			t.Fatal(errs[0].Err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset != int64(n[r.Partition]) || string(r.Value) != strconv.Itoa(int(r.Partition)) {
				t.Fatalf("partition %d: record %q at offset %d after %d records", r.Partition, r.Value, r.Offset, n[r.Partition])
			}
			n[r.Partition]++
			left--
		})
	}
	return n
}

func committed(t *testing.T, addr, group string) (n [writers]int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	offsets, err := kadm.NewClient(cl).FetchOffsets(t.Context(), group)
	if err != nil {
		t.Fatal(err)
	}
	offsets.Each(func(o kadm.OffsetResponse) { n[o.Partition] = int(o.At) })
	return n
}
