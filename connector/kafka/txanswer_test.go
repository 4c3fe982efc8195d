package kafka

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

func TestAnswersToACommit(t *testing.T) {
	for _, c := range []struct {
		err  error
		want txn.Outcome
	}{
		{kerr.InvalidTxnState, txn.Absent},
		{kerr.ProducerFenced, txn.Absent},
		{kerr.InvalidProducerEpoch, txn.Absent},
		{kerr.InvalidProducerIDMapping, txn.Absent},
		{kerr.TransactionalIDNotFound, txn.Absent},
		{kerr.TransactionAbortable, txn.Absent},
		{kerr.TransactionalIDAuthorizationFailed, txn.Stop},
		{kerr.ClusterAuthorizationFailed, txn.Stop},
		{kerr.SaslAuthenticationFailed, txn.Stop},
		{kerr.UnsupportedSaslMechanism, txn.Stop},
		{kerr.UnsupportedVersion, txn.Stop},
		{kerr.ConcurrentTransactions, txn.Again},
		{kerr.NotCoordinator, txn.Again},
		{kerr.CoordinatorNotAvailable, txn.Again},
		{kerr.CoordinatorLoadInProgress, txn.Again},
		{kerr.RequestTimedOut, txn.Again},
		{kerr.UnknownServerError, txn.Again},
		{kerr.PolicyViolation, txn.Again}, // not listed
		{kgo.ErrClientClosed, txn.Again},
		{errors.New("connection refused"), txn.Again},
		{context.DeadlineExceeded, txn.Again},
	} {
		got, err := answer(fmt.Errorf("ask: %w", c.err))
		if got != c.want || err == nil || sink.IsPermanent(err) || (got == txn.Stop) != (fault.CodeOf(err) == fault.CommitFailed.ID) {
			t.Errorf("%v: outcome %d (%v), want %d", c.err, got, err, c.want)
		}
	}
}

func TestWhatTheCoordinatorProves(t *testing.T) {
	n := native{ID: "a", Producer: 7, Epoch: 3}
	for _, c := range []struct {
		state         string
		producer      int64
		epoch         int16
		before, since txn.Outcome // EndTxn version 4, and 5
	}{
		{"Ongoing", 7, 3, txn.Again, txn.Again},
		{"Ongoing", 7, 4, txn.Unknown, txn.Unknown}, // the next one: the log knows
		{"PrepareCommit", 7, 3, txn.Again, txn.Again},
		{"PrepareCommit", 7, 4, txn.Unknown, txn.Again},
		{"CompleteCommit", 7, 3, txn.Unknown, txn.Unknown},
		{"CompleteCommit", 7, 4, txn.Unknown, txn.Unknown},
		{"PrepareAbort", 7, 3, txn.Lost, txn.Lost},
		{"PrepareAbort", 7, 4, txn.Lost, txn.Lost},
		{"PrepareEpochFence", 7, 4, txn.Lost, txn.Lost},
		{"CompleteAbort", 7, 3, txn.Lost, txn.Lost},
		{"CompleteAbort", 7, 4, txn.Lost, txn.Lost},
		{"CompleteAbort", 7, 5, txn.Unknown, txn.Unknown},
		{"CompleteAbort", 8, 3, txn.Unknown, txn.Unknown},
		{"Empty", 7, 5, txn.Unknown, txn.Unknown},
		{"Dead", 7, 3, txn.Unknown, txn.Unknown},
	} {
		d := kadm.DescribedTransaction{State: c.state, ProducerID: c.producer, ProducerEpoch: c.epoch}
		for end, want := range map[int16]txn.Outcome{4: c.before, 5: c.since} {
			n.EndTxn = end
			if got, err := judge(n, d); got != want || (err == nil) != (want == txn.Unknown) {
				t.Errorf("%+v, EndTxn %d: outcome %d (%v), want %d", c, end, got, err, want)
			}
		}
		d.Err = kerr.TransactionalIDNotFound
		if got, _ := judge(n, d); got != txn.Unknown {
			t.Errorf("an id nobody knows proves %d", got)
		}
	}
}

func TestWhatAWriterMeets(t *testing.T) {
	for _, c := range []struct {
		err       error
		code      fault.Code
		permanent bool
	}{
		{kerr.MessageTooLarge, fault.SinkRejected, true},
		{kerr.InvalidRecord, fault.SinkRejected, true},
		{kerr.TopicAuthorizationFailed, fault.AuthFailed, true},
		{kerr.TransactionalIDAuthorizationFailed, fault.AuthFailed, true},
		{kerr.InvalidTransactionTimeout, fault.Preflight, true},
		{kerr.UnknownTopicOrPartition, fault.NoTopic, false},
		{kerr.InvalidProducerEpoch, fault.SinkFailed, false},
		{kerr.ProducerFenced, fault.SinkFailed, false},
		{kerr.NotEnoughReplicas, fault.SinkFailed, false},
		{errors.New("broken"), fault.SinkFailed, false},
	} {
		err := txSettings{}.produceFault(fmt.Errorf("x: %w", c.err), "write")
		if fault.CodeOf(err) != c.code.ID || sink.IsPermanent(err) != c.permanent || !errors.Is(err, c.err) {
			t.Errorf("%v: %v, permanent %v", c.err, err, sink.IsPermanent(err))
		}
	}
	if err := (txSettings{}).produceFault(context.Canceled, "write"); fault.CodeOf(err) != "" {
		t.Errorf("a task that ends is told %v", err)
	}
}

func TestHandles(t *testing.T) {
	n := native{ID: "a", Producer: 1 << 40, Epoch: 32000, EndTxn: 5, Begun: 1, Timeout: 2, Places: []place{{"t", 3, 1 << 50}, {"u", 0, 0}}}
	data, err := txn.Encode(handleVersion, n)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := readNative(sink.Handle{Native: data}); err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []native{{}, {ID: "a", Producer: -1}, {ID: "a", Epoch: -1}, {ID: "a", EndTxn: 6}} {
		data, err := txn.Encode(handleVersion, bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := readNative(sink.Handle{Native: data}); !sink.IsPermanent(err) || fault.CodeOf(err) != fault.CommitFailed.ID {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
