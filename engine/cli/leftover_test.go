package cli

import (
	"context"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// recorded is a store that knows which transactions are committed, and nothing else.
type recorded struct {
	store.Store
	tokens string
}

func (r recorded) IsCommitted(token string) bool { return token == r.tokens }

// TestJudge shows transactions that a real job leaves only when its destination or its state was meddled with.
func TestJudge(t *testing.T) {
	handle := func(slot, token string, epoch uint64) sink.Handle {
		return sink.Handle{Operator: "out", Slot: sink.Slot{Name: slot}, Token: token, Epoch: epoch}
	}
	s := &survey{
		prefix: "hits", newest: 9, st: recorded{tokens: "done"},
		live:  map[string]sink.Handle{"a": handle("hits-out-1", "a", 8), "b": handle("old-hits-x1-out-2", "b", 7)},
		older: map[string]sink.Handle{"c": handle("hits-out-3", "c", 6)},
	}
	for _, c := range []struct {
		what, slot, token, state, action string
		epoch                            uint64
	}{
		{"in the newest checkpoint", "hits-out-1", "a", stateComplete, commit, 8},
		{"in it, and came with a savepoint", "old-hits-x1-out-2", "b", stateComplete, commit, 7},
		{"in it, and the destination keeps no tokens", "hits-out-1", "", stateComplete, commit, 8},
		{"in an older one only", "hits-out-3", "c", stateBehind, abort, 6},
		{"recorded as committed", "hits-out-4", "done", stateRecorded, commit, 0},
		{"in none", "hits-out-4", "d", stateUnknown, abort, 0},
		{"in none, and no token", "hits-out-4", "", stateUnknown, abort, 0},
		{"another job's", "old-hits-x1-out-4", "d", "", "", 0},
		{"another operator's", "hits-out-more-4", "d", "", "", 0},
	} {
		l, ours := s.judge("out", txn.Pending{Name: c.slot + "-" + c.token, Slot: c.slot, Token: c.token, Age: time.Minute})
		if !ours {
			l = leftover{}
		}
		if l.State != c.state || l.Action != c.action || l.Epoch != c.epoch || ours && l.Why == "" {
			t.Errorf("%s: %+v", c.what, l)
		}
		if ours && (l.refuses(c.action, false) != nil || l.refuses(map[string]string{commit: abort, abort: commit}[c.action], false) == nil) {
			t.Errorf("%s: the right thing is refused, or the wrong one isn't", c.what)
		}
	}
}

// given is a store as they are in object stores: the claim of a process that died isn't given back.
type given struct{ store.Store }

func (given) Holder() string { return "process 7 on h" }

// mute is a sink whose committer can commit and nothing else.
type mute struct{ sink.TwoPhase[int] }

func (mute) Committer(context.Context, sink.Task) (sink.Committer, error) {
	return muteCommitter{}, nil
}

type muteCommitter struct{}

func (muteCommitter) Commit(context.Context, []sink.Handle) error               { return nil }
func (muteCommitter) Recover(context.Context, []sink.Handle, []sink.Slot) error { return nil }
func (muteCommitter) Close() error                                              { return nil }

// TestTxnInAStoreWithoutLocks is about a claim that perhaps belongs to a job that lives, and a sink that can't list.
func TestTxnInAStoreWithoutLocks(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	st, err := store.Open(dir, store.Options{Job: "x"})
	if err != nil {
		t.Fatal(err)
	}
	hs := []sink.Handle{{Operator: "out", Slot: sink.Slot{Name: "x-out-0"}, Token: "t", Epoch: 1}}
	n, err := st.NextEpoch()
	if err == nil {
		err = st.Publish(&store.Record{Epoch: n, Taken: time.Now(), KeyGroups: 128, Handles: hs})
	}
	if err == nil {
		err = st.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	app := App{
		Name: "x",
		Store: func(string) func(store.Options) (store.Store, error) {
			return func(o store.Options) (store.Store, error) {
				d, err := store.Open(dir, o)
				return given{d}, err
			}
		},
		Flags: func(*flag.FlagSet) {},
		Build: func(_ context.Context, e *Env) (*engine.Pipeline, error) {
			p := engine.New(e.Config)
			engine.ToTx(engine.From(p, "in", gen.Source[int]{Make: func(n int64) int { return int(n) }, Count: 1}), "out", mute{enginetest.NewTx[int]()})
			return p, nil
		},
	}
	tell := func(args ...string) (int, string) {
		var out strings.Builder
		pr := testProcess(nil, append(args, "-state", "s3://b/p")...)
		pr.out, pr.err = &out, &out
		pr.notify, pr.forget = func(chan<- os.Signal) {}, func(chan<- os.Signal) {}
		return app.run(pr), out.String()
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"txn", "explain"}, exitDone, "leave: the job is perhaps running (process 7 on h)"},
		{[]string{"txn", "list"}, exitDone, "unlisted  1"},
		{[]string{"txn", "commit", "-all"}, exitHeld, "WL1101: the state was never given back: process 7 on h"},
		{[]string{"txn", "abort", "x-out-0-t", "-force"}, exitFailed, "can't finish single transactions"},
		{[]string{"txn", "commit", "-all", "-force"}, exitDone, "x-out-0-t: committed\n"},
		{[]string{"txn", "list"}, exitDone, "nothing is left"},
	} {
		if code, out := tell(c.args...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s", c.args, code, c.code, c.want, out)
		}
	}
}

// TestUnreachableDestination has its transactions all the same, from the checkpoint, and an error beside them.
func TestUnreachableDestination(t *testing.T) {
	s := &survey{
		prefix: "x", live: map[string]sink.Handle{"t": {Operator: "out", Slot: sink.Slot{Name: "x-out-0"}, Token: "t", Epoch: 3}},
		st: granted{}, committers: map[string]sink.Committer{}, task: sink.Task{Log: slog.New(slog.NewTextHandler(io.Discard, nil))},
	}
	s.p = engine.New(engine.Config{Name: "x", Dir: t.TempDir()})
	in := engine.From(s.p, "in", gen.Source[int]{Make: func(n int64) int { return int(n) }, Count: 1})
	engine.ToTx(in, "out", away{enginetest.NewTx[int]()})
	err := s.find(t.Context())
	if fault.CodeOf(err) != fault.Unreachable.ID || len(s.left) != 1 || s.left[0].State != stateUnlisted || s.left[0].Action != commit {
		t.Errorf("%v, %+v", err, s.left)
	}
}

type granted struct{ store.Store }

func (granted) Granted() map[string]int { return map[string]int{"out": 1, "gone": 1} }

type away struct{ sink.TwoPhase[int] }

func (away) Committer(context.Context, sink.Task) (sink.Committer, error) {
	return nil, fault.New(fault.Unreachable, "it is away")
}
