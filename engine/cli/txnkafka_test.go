package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

// TestTxnOverKafka is TestTxnAfterADeath where transactions have their slot's name alone, and the one that was begun next waits
// too: nobody but the checkpoint tells the two apart.
func TestTxnOverKafka(t *testing.T) {
	k := testsvc.Kafka(t)
	for _, c := range []struct {
		step          txntest.Step
		state, action string // of the transaction with records of the step's epoch; "" = nothing is left of it
	}{
		{txntest.AfterPrepare, stateUnknown, abort},
		{beforeCommit, stateComplete, commit},
		{txntest.BeforeRecorded, stateAbsent, commit},
		{txntest.AfterRecorded, "", ""},
	} {
		name := strings.ReplaceAll(string(c.step), " ", "-")
		t.Run(name, func(t *testing.T) {
			b := kafkaBooks(t, k, "txn-"+name)
			b.dies(c.step)
			found := b.left()
			for _, l := range found {
				if l.State != c.state && l.State != stateUnknown || l.State == stateUnknown && l.Action != abort || l.Slot == "" || l.Operator != "out" {
					t.Errorf("left: %+v", l)
				}
			}
			i := slices.IndexFunc(found, func(l leftover) bool { return l.State == c.state && l.Action == c.action })
			if c.state != "" && i < 0 {
				t.Fatalf("none is %s, to %s, in %+v", c.state, c.action, found)
			}
			if c.state != "" {
				b.finishes(found[i])
			}
			if said := b.ends(); c.action == commit && strings.Contains(said, "committed what the restored epoch") {
				t.Errorf("the restarted job committed again:\n%s", said)
			}
		})
	}
}

// finishes does what is wrong with a transaction, which is refused, and then what is right with all.
func (b books) finishes(l leftover) {
	b.t.Helper()
	wrong := map[string]string{commit: abort, abort: commit}[l.Action]
	if _, no := b.run(exitUsage, "txn", wrong, l.Name); !strings.Contains(no, "WL1504") {
		b.t.Errorf("%s is refused by %s", wrong, no)
	}
	why, _ := b.run(exitDone, "txn", "explain", l.Name)
	if !strings.Contains(why, "made by operator out in slot "+l.Slot) || !strings.Contains(why, "\n  "+l.Action+": ") {
		b.t.Errorf("explained as %s", why)
	}
	before := b.lines()
	done, _ := b.run(exitDone, "txn", l.Action, "-all")
	says := map[string]string{stateUnknown: "aborted", stateComplete: "committed", stateAbsent: "was committed before"}[l.State]
	if !strings.Contains(done, l.Name+": "+says) {
		b.t.Errorf("%s -all says %q", l.Action, done)
	}
	if more := b.lines() > before; more != (l.State == stateComplete) {
		b.t.Errorf("%s of what is %s: %d records were to be seen before and %d afterwards", l.Action, l.State, before, b.lines())
	}
	b.run(exitDone, "txn", abort, "-all") // what was begun
	if again := b.left(); len(again) > 0 {
		b.t.Errorf("left afterwards: %+v", again)
	}
}

// left is what txn list prints.
func (b books) left() (out []leftover) {
	b.t.Helper()
	said, _ := b.run(exitDone, "txn", "list", "-json")
	if err := json.Unmarshal([]byte(said), &out); err != nil {
		b.t.Fatalf("%v in %s", err, said)
	}
	return out
}

// kafkaBooks writes into a topic of two partitions.
func kafkaBooks(t *testing.T, k *testsvc.KafkaServer, topic string, args ...string) books {
	t.Helper()
	if err := k.CreateTopic(t.Context(), topic, 2); err != nil {
		t.Fatal(err)
	}
	b := newBooks(t, append(args, "-broker", k.Addr, "-topic", topic)...)
	b.lines = func() int { return len(committed(t, k, topic)) }
	b.clear = func() string {
		values := committed(t, k, topic)
		all := len(values)
		slices.Sort(values)
		if once := len(slices.Compact(values)); all != txnRecords || once != txnRecords {
			return fmt.Sprintf("%d records, %d different, want %d", all, once, txnRecords)
		}
		if open := b.left(); len(open) > 0 {
			return fmt.Sprintf("left in the broker: %+v", open)
		}
		return ""
	}
	return b
}

// committed are the values that a reader of committed records sees, once no transaction is being ended.
func committed(t *testing.T, k *testsvc.KafkaServer, topic string) (values []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := k.Client(kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	stable, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err = errors.Join(err, stable.Error()); err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	stable.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	for len(left) > 0 {
		polled := cl.PollFetches(ctx)
		if err := polled.Err(); err != nil {
			t.Fatalf("read topic %s: %v", topic, err)
		}
		for _, r := range polled.Records() {
			if _, more := left[r.Partition]; !more {
				continue
			}
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		}
	}
	return values
}
