package kafka

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
)

func TestTxSettings(t *testing.T) {
	good := TxSink[string]{Brokers: []string{"127.0.0.1:1"}, Topic: "t", Encode: TextRecord}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for says, change := range map[string]func(s *TxSink[string]){
		"Brokers is empty":     func(s *TxSink[string]) { s.Brokers = nil },
		"Encode is needed":     func(s *TxSink[string]) { s.Encode = nil },
		"Partitioner is none":  func(s *TxSink[string]) { s.Partitioner = 9 },
		"Compression is none":  func(s *TxSink[string]) { s.Compression = -1 },
		"MaxBytes must lie":    func(s *TxSink[string]) { s.MaxBytes = -1 },
		"Buffer can't be":      func(s *TxSink[string]) { s.Buffer = -1 },
		"a second or more":     func(s *TxSink[string]) { s.Timeout = time.Millisecond },
		"use txn.FailOnLoss":   func(s *TxSink[string]) { s.Lost = 7 },
		"without a User":       func(s *TxSink[string]) { s.Client.SASL.Mechanism = Plain },
		"Client.Timeout can't": func(s *TxSink[string]) { s.Client.Timeout = -1 },
	} {
		s := good
		change(&s)
		_, werr := s.TxWriter(t.Context(), sinkTask())
		_, cerr := s.Committer(t.Context(), sinkTask())
		for _, err := range []error{s.Validate(), werr, cerr, s.Preflight(t.Context())} {
			if fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(fmt.Sprint(err), says) {
				t.Errorf("got %v, want %s with %q", err, fault.BadPipeline.ID, says)
			}
		}
	}
	good.Client.Timeout = 300 * time.Millisecond
	if err := good.Preflight(t.Context()); fault.CodeOf(err) != fault.Unreachable.ID {
		t.Errorf("no broker: %v", err)
	}
}

func TestTxPreflight(t *testing.T) {
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{Properties: map[string]string{"transaction.max.timeout.ms": "1200000"}})
	create(t, k.Addr, "out", 1)
	cl, err := k.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	limit := "5000"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"max.message.bytes": &limit}, "small"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		change func(s *TxSink[string])
		code   fault.Code
		says   string
	}{
		{func(*TxSink[string]) {}, fault.Code{}, ""},
		{func(s *TxSink[string]) { s.Topic = "" }, fault.Code{}, ""},
		{func(s *TxSink[string]) { s.Topic = "absent" }, fault.NoTopic, `"absent" doesn't exist`},
		{func(s *TxSink[string]) { s.Timeout = 20 * time.Minute }, fault.Code{}, ""},
		{func(s *TxSink[string]) { s.Timeout = 21 * time.Minute }, fault.Preflight, "Timeout is 21m0s, and broker 1 allows transactions of 20m0s"},
		{func(s *TxSink[string]) { s.Topic = "small" }, fault.Preflight, "set MaxBytes to 5000"},
		{func(s *TxSink[string]) { s.Topic, s.MaxBytes = "small", 5000 }, fault.Code{}, ""},
	} {
		s := lines(k, "out")
		c.change(&s)
		if err := s.Preflight(t.Context()); fault.CodeOf(err) != c.code.ID || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%+v: got %v, want %s with %q", s, err, c.code.ID, c.says)
		}
	}
	// Where the settings of brokers may not be asked for, the first answer tells.
	s := lines(k, "out")
	s.Timeout = 21 * time.Minute
	w, c := openTx(t, s)
	berr := w.Begin(t.Context(), slot("long", 1))
	prepare(t, opened(openTx(t, lines(k, "out"))), slot("long", 2), 1, "left")
	rerr := c.Recover(t.Context(), nil, []sink.Slot{slot("long", 2)})
	for _, err := range []error{berr, rerr} {
		if fault.CodeOf(err) != fault.Preflight.ID || !sink.IsPermanent(err) || !strings.Contains(fmt.Sprint(err), "transaction.max.timeout.ms") {
			t.Errorf("too long a timeout: %v", err)
		}
	}
}

func opened[T any](w sink.TxWriter[T], _ sink.Committer) sink.TxWriter[T] { return w }

func TestTxOldBrokers(t *testing.T) {
	v := &kmsg.ApiVersionsResponse{}
	for _, k := range []kmsg.Key{kmsg.InitProducerID, kmsg.EndTxn, kmsg.DescribeTransactions} {
		v.ApiKeys = append(v.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: int16(k), MaxVersion: 3})
	}
	if err := canRecover(v); fault.CodeOf(err) != fault.Preflight.ID || !strings.Contains(err.Error(), "DescribeProducers") {
		t.Errorf("got %v", err)
	}
	v.ApiKeys = append(v.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: int16(kmsg.DescribeProducers)})
	if err := canRecover(v); err != nil {
		t.Error(err)
	}
	if got := endVersion(v); got != 3 {
		t.Errorf("EndTxn version %d of brokers that know 3", got)
	}
	v.ApiKeys[1].MaxVersion = 5
	if got := endVersion(v); got != 4 {
		t.Errorf("EndTxn version %d without the new protocol", got)
	}
	v.FinalizedFeatures = append(v.FinalizedFeatures, kmsg.ApiVersionsResponseFinalizedFeature{Name: "transaction.version", MaxVersionLevel: 2})
	if got := endVersion(v); got != 5 {
		t.Errorf("EndTxn version %d with it", got)
	}
}

// TestTxRights takes a user without any right and grants them one by one.
func TestTxRights(t *testing.T) {
	k := testsvc.NewKafka(t, testsvc.KafkaOptions{User: "ann", Password: "right", Properties: map[string]string{
		"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer", "super.users": "User:ANONYMOUS",
	}})
	create(t, k.Addr, "out", 1)
	s := TxSink[string]{Brokers: []string{k.SASLAddr}, Topic: "out", Encode: TextRecord}
	s.Client.SASL = SASL{Mechanism: Plain, User: "ann", Password: "right"}
	refused := func(what string, errs ...error) {
		t.Helper()
		for _, err := range errs {
			if fault.CodeOf(err) != fault.AuthFailed.ID {
				t.Errorf("%s: got %v, want %s", what, err, fault.AuthFailed.ID)
			}
		}
	}
	refused("no right", s.Preflight(t.Context()))
	grant(t, k, kmsg.ACLResourceTypeTopic, "out", kmsg.ACLOperationDescribe)
	eventually(t, func() bool { return !strings.Contains(fmt.Sprint(s.Preflight(t.Context())), "AUTHORIZATION") })
	refused("no right to write", s.Preflight(t.Context()))
	grant(t, k, kmsg.ACLResourceTypeTopic, "out", kmsg.ACLOperationWrite)
	eventually(t, func() bool { return s.Preflight(t.Context()) == nil })

	// The job's name isn't known to the check, so the first transaction tells.
	w, c := openTx(t, s)
	err := w.Begin(t.Context(), slot("rights", 1))
	refused("no right to transactional ids", err)
	if !sink.IsPermanent(err) || !strings.Contains(err.Error(), "transactional ids") {
		t.Errorf("begin: %v", err)
	}
	own := lines(k, "out")
	h := prepare(t, opened(openTx(t, own)), slot("rights", 2), 1, "a")
	err = c.Commit(t.Context(), []sink.Handle{h})
	if fault.CodeOf(err) != fault.CommitFailed.ID || !sink.IsPermanent(err) || !strings.Contains(err.Error(), "grant the user WRITE") {
		t.Errorf("commit without right: %v", err)
	}
	refused("recover", c.Recover(t.Context(), nil, []sink.Slot{slot("rights", 2)}))
	grant(t, k, kmsg.ACLResourceTypeTransactionalId, "rights", kmsg.ACLOperationWrite)
	eventually(t, func() bool { return w.Begin(t.Context(), slot("rights", 1)) == nil })
	if err := w.Write(t.Context(), []string{"b"}); err != nil {
		t.Fatal(err)
	}
	h1, err := w.Prepare(t.Context(), 1)
	if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{h, h1})); err != nil {
		t.Fatal(err)
	}
	wantVisible(t, k, "out", "a", "b")
}

func grant(t *testing.T, k *testsvc.KafkaServer, kind kmsg.ACLResourceType, prefix string, op kmsg.ACLOperation) {
	t.Helper()
	cl, err := k.Client()
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	c := kmsg.NewCreateACLsRequestCreation()
	c.ResourceType, c.ResourceName, c.ResourcePatternType = kind, prefix, kmsg.ACLResourcePatternTypePrefixed
	c.Principal, c.Host, c.Operation, c.PermissionType = "User:ann", "*", op, kmsg.ACLPermissionTypeAllow
	req := kmsg.NewPtrCreateACLsRequest()
	req.Creations = append(req.Creations, c)
	resp, err := req.RequestWith(t.Context(), cl)
	if err != nil || resp.Results[0].ErrorCode != 0 {
		t.Fatal(resp, err)
	}
}

// TestTxFits compares Timeout with how long a job may need a transaction.
func TestTxFits(t *testing.T) {
	times := sink.Times{Interval: 10 * time.Second, Timeout: 10 * time.Minute, Restarts: 112 * time.Second}
	for _, c := range []struct {
		timeout, down time.Duration
		want          string
	}{
		{0, 0, ""}, // the defaults fit each other
		{10*time.Minute + 122*time.Second, 0, ""},
		{10*time.Minute + 121*time.Second, 0, "Timeout is 12m1s, but a transaction may have to live for 12m2s"},
		{0, 5 * time.Minute, "may have to live for 15m10s: a checkpoint each 10s, 10m0s until it is complete, 5m0s down"},
		{time.Hour, 5 * time.Minute, ""},
		{time.Second, -1, ""},
	} {
		err := TxSink[int64]{Timeout: c.timeout, MaxDowntime: c.down}.Fits(times)
		if (c.want == "") != (err == nil) || err != nil && (fault.CodeOf(err) != fault.Preflight.ID || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("Timeout %v, MaxDowntime %v: got %v, want %s", c.timeout, c.down, err, c.want)
		}
	}
}
