package txn_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

func TestSlotOf(t *testing.T) {
	token := txn.NewToken()
	cases := []struct {
		name, slot string
		ok         bool
	}{
		{txn.NameOf("job-out-1", token), "job-out-1", true},
		{txn.NameOf("job-out-1-"+token, token), "job-out-1-" + token, true},
		{txn.NameOf("job-out-1", token[1:]), "", false},
		{txn.NameOf("job-out-1", strings.Repeat("z", txn.TokenLen)), "", false},
		{txn.NameOf("job-out-1", strings.Repeat("A", txn.TokenLen)), "", false},
		{txn.NameOf("", token), "", false},
		{txn.NameOf("a b", token), "", false},
		{"x" + token, "", false},
		{"xy" + token, "", false},
		{token, "", false},
		{"", "", false},
	}
	for _, c := range cases {
		slot, tok, ok := txn.SlotOf(c.name)
		if slot != c.slot || ok != c.ok || ok && tok != token {
			t.Errorf("%q: got %q %q %v, want %q %v", c.name, slot, tok, ok, c.slot, c.ok)
		}
	}
	if len(token) != txn.TokenLen || token == txn.NewToken() {
		t.Errorf("token %q", token)
	}
}

func TestCheckSlot(t *testing.T) {
	for name, says := range map[string]string{
		"": "slot name", "a b": "slot name", "a_b": "slot name", "a'": "slot name", "ä": "slot name", "123456789": "shorter", "aZ0.-678": "",
	} {
		err := txn.CheckSlot(sink.Slot{Name: name}, 8)
		if (err == nil) != (says == "") || err != nil && (!strings.Contains(err.Error(), says) || !sink.IsPermanent(err)) {
			t.Errorf("%q: got %v, want %q", name, err, says)
		}
	}
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		slot, prefix string
		want         bool
	}{{"job-out-1", "job", true}, {"job-out-1", "", true}, {"job-out-1", "job-out-1", true}, {"job2-out-1", "job", false}, {"jo", "job", false}} {
		if got := txn.Under(c.slot, c.prefix); got != c.want {
			t.Errorf("%q under %q: %v", c.slot, c.prefix, got)
		}
	}
}

type ids struct {
	ID    int
	Added string
}

func TestHandles(t *testing.T) {
	b, err := txn.Encode(2, ids{7, "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		data string
		want ids
		code fault.Code
	}{
		{string(b), ids{7, "x"}, fault.Code{}},
		{`{"version":1,"native":{"ID":7}}`, ids{7, ""}, fault.Code{}},
		{`{"version":3,"native":{"ID":7}}`, ids{}, fault.NewerFormat},
		{`{"native":{"ID":7}}`, ids{}, fault.CommitFailed},
		{`{"version":2}`, ids{}, fault.CommitFailed},
		{`{"version":2,"native":[]}`, ids{}, fault.CommitFailed},
		{``, ids{}, fault.CommitFailed},
	} {
		got, err := txn.Decode[ids](sink.Handle{Native: []byte(c.data)}, 2)
		if got != c.want || fault.CodeOf(err) != c.code.ID || (err != nil) != sink.IsPermanent(err) {
			t.Errorf("%s: got %+v, %v", c.data, got, err)
		}
	}
	if _, err := txn.Encode(1, func() {}); err == nil {
		t.Error("a function was encoded")
	}
}

// answers is a resource that answers as told and writes down what it is asked. It lists, too.
type answers struct {
	txn.Lister
	commit, prove map[string]txn.Outcome // by token
	err           error
	log           []string
}

func (a *answers) Commit(_ context.Context, h sink.Handle) (txn.Outcome, error) {
	a.log = append(a.log, "commit "+h.Token)
	return a.answer(a.commit[h.Token])
}

func (a *answers) Prove(_ context.Context, h sink.Handle) (txn.Outcome, error) {
	a.log = append(a.log, "prove "+h.Token)
	return a.answer(a.prove[h.Token])
}

func (a *answers) answer(o txn.Outcome) (txn.Outcome, error) {
	if o == txn.Done {
		return o, nil
	}
	return o, a.err
}

func (a *answers) Clear(_ context.Context, slots []sink.Slot) error {
	a.log = append(a.log, fmt.Sprint("clear ", slots))
	return nil
}

func (a *answers) Close() error {
	a.log = append(a.log, "close")
	return nil
}

type counts map[string]int64

func (c counts) Count(name string, n int64) { c[name] += n }
func (counts) Gauge(string, float64)        {}
func (counts) Observe(string, float64)      {}

func committer(a *answers, lost txn.Loss) (sink.Committer, counts) {
	n := counts{}
	return txn.NewCommitter(a, sink.Task{Log: slog.New(slog.DiscardHandler), Metrics: n}, lost), n
}

// TestOutcomes has every answer of Commit and of Prove, with and without a reason, under both policies.
func TestOutcomes(t *testing.T) {
	own := fault.New(fault.UnknownCommit, "own").WithFix("do this")
	cases := []struct {
		commit, prove txn.Outcome
		err           error
		code          string // "": committed
		permanent     bool
		lost          bool // AcceptLoss goes on
	}{
		{txn.Done, 0, nil, "", false, false},
		{txn.Absent, txn.Done, nil, "", false, false},
		{txn.Again, txn.Done, errors.New("away"), fault.CommitFailed.ID, false, false},
		{txn.Again, txn.Done, nil, fault.CommitFailed.ID, false, false},
		{txn.Again, txn.Done, fault.New(fault.Unreachable, "away"), fault.Unreachable.ID, false, false},
		{txn.Stop, txn.Done, errors.New("no right"), fault.CommitFailed.ID, true, false},
		{txn.Stop, txn.Done, nil, fault.CommitFailed.ID, true, false},
		{txn.Lost, txn.Done, errors.New("gone"), fault.LostCommit.ID, true, true},
		{txn.Unknown, txn.Done, errors.New("who knows"), fault.UnknownCommit.ID, true, true},
		{txn.Absent, txn.Again, errors.New("away"), fault.CommitFailed.ID, false, false},
		{txn.Absent, txn.Stop, errors.New("no right"), fault.CommitFailed.ID, true, false},
		{txn.Absent, txn.Lost, errors.New("gone"), fault.LostCommit.ID, true, true},
		{txn.Absent, txn.Lost, nil, fault.LostCommit.ID, true, true},
		{txn.Absent, txn.Unknown, own, fault.UnknownCommit.ID, true, true},
		{txn.Absent, txn.Absent, errors.New("no evidence"), fault.UnknownCommit.ID, true, true},
		{txn.Outcome(99), txn.Done, nil, fault.CommitFailed.ID, false, false},
	}
	for _, c := range cases {
		for _, policy := range []txn.Loss{txn.FailOnLoss, txn.AcceptLoss} {
			a := &answers{commit: map[string]txn.Outcome{"t": c.commit}, prove: map[string]txn.Outcome{"t": c.prove}, err: c.err}
			com, n := committer(a, policy)
			err := com.Commit(t.Context(), []sink.Handle{{Token: "t"}})
			code, permanent, lost := c.code, c.permanent, int64(0)
			if policy == txn.AcceptLoss && c.lost {
				code, permanent, lost = "", false, 1
			}
			if (err == nil) != (code == "") || fault.CodeOf(err) != code || sink.IsPermanent(err) != permanent || n["lost_transactions"] != lost {
				t.Errorf("commit %d, prove %d, %v, policy %d: got %v, %v", c.commit, c.prove, c.err, policy, err, n)
			}
		}
	}
}

// A commit that fails further on is repeated, and what was given up isn't counted again.
func TestALossIsCountedOnce(t *testing.T) {
	a := &answers{commit: map[string]txn.Outcome{"a": txn.Lost, "b": txn.Again, "c": txn.Unknown}, err: errors.New("no")}
	com, n := committer(a, txn.AcceptLoss)
	for range 3 {
		if err := com.Commit(t.Context(), []sink.Handle{{Token: "a"}, {Token: "b"}, {Token: "c"}}); err == nil {
			t.Fatal("done")
		}
	}
	a.commit["b"] = txn.Done
	if err := com.Commit(t.Context(), []sink.Handle{{Token: "a"}, {Token: "b"}, {Token: "c"}}); err != nil || n["lost_transactions"] != 2 {
		t.Errorf("%v, %v; want two losses", err, n)
	}
}

// A committer that says Done and gives an error hasn't done it.
func TestDoneWithAnErrorIsNotDone(t *testing.T) {
	com := txn.NewCommitter(doneBut{}, sink.Task{}, txn.FailOnLoss)
	if err := com.Commit(t.Context(), []sink.Handle{{}}); err == nil || sink.IsPermanent(err) {
		t.Errorf("got %v, want an error that is retried", err)
	}
}

type doneBut struct{ txn.Resource }

func (doneBut) Commit(context.Context, sink.Handle) (txn.Outcome, error) {
	return txn.Done, errors.New("but")
}

func TestOrder(t *testing.T) {
	hs := []sink.Handle{{Token: "a"}, {Token: "b"}, {Token: "c"}}
	slots := []sink.Slot{{ID: 1, Name: "s"}}
	for _, c := range []struct {
		name string
		b    txn.Outcome // of the second
		call func(context.Context, sink.Committer) error
		want []string
	}{
		{"commit", txn.Done, func(ctx context.Context, c sink.Committer) error { return c.Commit(ctx, hs) }, []string{"commit a", "commit b", "commit c"}},
		{"commit that fails", txn.Again, func(ctx context.Context, c sink.Committer) error { return c.Commit(ctx, hs) }, []string{"commit a", "commit b"}},
		{
			"recover", txn.Done, func(ctx context.Context, c sink.Committer) error { return c.Recover(ctx, hs, slots) },
			[]string{"commit a", "commit b", "commit c", "clear [{1 s}]"},
		},
		{
			"recover that fails", txn.Again, func(ctx context.Context, c sink.Committer) error { return c.Recover(ctx, hs, slots) },
			[]string{"commit a", "commit b"},
		},
		{
			"recover without slots", txn.Done, func(ctx context.Context, c sink.Committer) error { return c.Recover(ctx, hs[:1], nil) },
			[]string{"commit a"},
		},
		{"close", txn.Done, func(_ context.Context, c sink.Committer) error { return c.Close() }, []string{"close"}},
		{"cancelled", txn.Done, func(ctx context.Context, c sink.Committer) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			if err := c.Commit(ctx, hs); !errors.Is(err, context.Canceled) {
				return fmt.Errorf("got %w", err)
			}
			return errors.New("cancelled")
		}, nil},
	} {
		a := &answers{commit: map[string]txn.Outcome{"a": txn.Done, "b": c.b, "c": txn.Done}}
		com, _ := committer(a, txn.FailOnLoss)
		err := c.call(t.Context(), com)
		if (err == nil) != (c.b == txn.Done && c.name != "cancelled") || !slices.Equal(a.log, c.want) {
			t.Errorf("%s: %q, %v; want %q", c.name, a.log, err, c.want)
		}
	}
}

func TestListerIsFound(t *testing.T) {
	a := &answers{}
	com, _ := committer(a, txn.FailOnLoss)
	if l, ok := sink.As[txn.Lister](com); !ok || l != txn.Lister(a) {
		t.Errorf("found %v, %v", l, ok)
	}
}

func TestLossIsChecked(t *testing.T) {
	for l, ok := range map[txn.Loss]bool{txn.FailOnLoss: true, txn.AcceptLoss: true, -1: false, 2: false} {
		if err := l.Check(); (err == nil) != ok {
			t.Errorf("%d: %v", l, err)
		}
	}
}
