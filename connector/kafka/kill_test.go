package kafka_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

const killRecords = 40_000

// numbers is the job: generated numbers into two topics, exactly once.
func numbers(c *txntest.Child) error {
	rate := 4_000.0 // slow enough that there is input left in the epoch in which it dies, on a busy machine too
	if c.Step == "" {
		rate = 40_000
	}
	p := engine.New(engine.Config{
		Name: "kill", Dir: c.Args["dir"], Store: c.Store(c.Args["dir"]), Parallelism: c.Parallelism, CheckpointEvery: 20 * time.Millisecond,
		Restart: engine.Restart{Attempts: 1000},
	})
	s := engine.From(p, "numbers", gen.Source[int64]{
		Make: func(seq int64) int64 { return seq }, Count: killRecords, PerSecond: rate, Splits: 4,
	})
	engine.ToTx(s, "out", txntest.Wrap(c, kafka.TxSink[int64]{
		Brokers: []string{c.Args["addr"]}, Topic: "even", MaxDowntime: time.Minute,
		Encode: func(v int64) (kafka.Record, error) {
			r := kafka.Record{Value: strconv.AppendInt(nil, v, 10)}
			if v%2 == 1 {
				r.Topic = "odd"
			}
			return r, nil
		},
	}))
	return p.Run(context.Background())
}

func TestMain(m *testing.M) {
	txntest.Main(numbers)
	os.Exit(testsvc.Main(m))
}

func numbersTopics(t *testing.T, o testsvc.KafkaOptions) *testsvc.KafkaServer {
	t.Helper()
	k := testsvc.NewKafka(t, o)
	for _, topic := range []string{"even", "odd"} {
		if err := k.CreateTopic(t.Context(), topic, 2); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

// TestTxKilledAtEachStep counts after each death what readers of committed records see: no number is there twice, and at the end
// each is, and no transaction is open.
func TestTxKilledAtEachStep(t *testing.T) {
	for version, steps := range map[int][]txntest.Step{
		2: nil, // all
		1: {txntest.AfterPrepare, txntest.AfterPointer, txntest.BeforeRecorded, txntest.AfterRecover},
	} {
		t.Run(fmt.Sprint("version=", version), func(t *testing.T) {
			t.Parallel()
			k := numbersTopics(t, testsvc.KafkaOptions{TransactionVersion: version})
			txntest.Kills{
				Args:  map[string]string{"addr": k.Addr, "dir": t.TempDir()},
				Steps: steps,
				Check: func(over bool) error { return tally(t.Context(), k, over) },
			}.Run(t)
		})
	}
}

// TestTxBrokerDiesWhileTheJobRuns kills the broker under a running job, which goes on when it is back.
func TestTxBrokerDiesWhileTheJobRuns(t *testing.T) {
	t.Parallel()
	k := numbersTopics(t, testsvc.KafkaOptions{})
	done := make(chan error, 1)
	go func() {
		done <- numbers(&txntest.Child{Args: map[string]string{"addr": k.Addr, "dir": t.TempDir()}, Parallelism: 3})
	}()
	for part := range 2 {
		for seen := 0; seen <= part*killRecords/5; {
			ns, err := seenNumbers(t.Context(), k, "even", "odd")
			if err != nil {
				t.Fatal(err)
			}
			seen = len(ns)
		}
		k.Kill()
		if err := k.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := tally(t.Context(), k, true); err != nil {
		t.Error(err)
	}
}

// seenNumbers are the committed numbers, in order.
func seenNumbers(ctx context.Context, k *testsvc.KafkaServer, topics ...string) (ns []int, err error) {
	for _, topic := range topics {
		rs, err := k.ReadAll(ctx, topic)
		if err != nil {
			return nil, err
		}
		for _, r := range rs {
			n, err := strconv.Atoi(string(r.Value))
			if err != nil {
				return nil, err
			}
			ns = append(ns, n)
		}
	}
	slices.Sort(ns)
	return ns, nil
}

// tally says if a number is there twice, and when all is over, if one is missing or a transaction is open.
func tally(ctx context.Context, k *testsvc.KafkaServer, over bool) error {
	cl, err := k.Client()
	if err != nil {
		return err
	}
	defer cl.Close()
	for settled := !over; !settled; { // what is committed is visible a moment after the answer
		found, err := kadm.NewClient(cl).ListTransactions(ctx, nil, nil)
		if err != nil {
			return err
		}
		settled = true
		for id, l := range found {
			switch {
			case strings.HasPrefix(l.State, "Prepare"):
				settled = false
			case l.State == "Ongoing":
				return fmt.Errorf("transaction %s is open", id)
			}
		}
	}
	ns, err := seenNumbers(ctx, k, "even", "odd")
	if err != nil {
		return err
	}
	for i, n := range ns {
		if i > 0 && n == ns[i-1] {
			return fmt.Errorf("%d is there twice", n)
		}
	}
	if over && (len(ns) != killRecords || ns[0] != 0 || ns[len(ns)-1] != killRecords-1) {
		return fmt.Errorf("%d numbers, want %d", len(ns), killRecords)
	}
	return nil
}
