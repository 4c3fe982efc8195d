package kafka

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

func TestOutOfRange(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"))
	produce(t, c.ListenAddrs(), "a", 0, numbered("v", 0, 10)...)
	src := text(c, "a")
	src.Stop = StopLatest
	splits := find(t, src)
	if err := c.DeleteRecords("a", 0, 6); err != nil {
		t.Fatal(err)
	}

	err := readErr(t, open(t, src, task(nil, nil), splits...))
	if fault.CodeOf(err) != fault.LostRange.ID || !strings.Contains(err.Error(), "records 0 to 5") {
		t.Errorf("default policy: %v", err)
	}

	m, l := &counts{}, &logs{}
	src.OutOfRange = ToEarliest
	got, _ := drain(t, open(t, src, task(m, l), splits...), 1, -1)
	if !slices.Equal(got["a/0"], numbered("v", 6, 10)) || m.get("lost_records") != 6 {
		t.Errorf("to earliest: %v, lost %d", got, m.get("lost_records"))
	}
	if l.count("from=0 to=6") != 1 {
		t.Errorf("the lost range is not in the log: %s", l.b.String())
	}

	m = &counts{}
	src.OutOfRange = ToLatest
	got, _ = drain(t, open(t, src, task(m, nil), splits...), 1, -1)
	if len(got["a/0"]) != 0 || m.get("lost_records") != 10 {
		t.Errorf("to latest: %v, lost %d", got, m.get("lost_records"))
	}

	beyond := splits[0]
	beyond.Next, beyond.Stop = 20, Unbounded
	src.OutOfRange = FailIfLost
	if err := readErr(t, open(t, src, task(nil, nil), beyond)); fault.CodeOf(err) != fault.LostRange.ID {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestDeletedTopic(t *testing.T) {
	for _, again := range []bool{false, true} {
		c := fake(t, kfake.SeedTopics(1, "a"), kfake.SeedTopics(1, "b"))
		produce(t, c.ListenAddrs(), "a", 0, "one")
		src := text(c, "a")
		splits := find(t, src)
		r := open(t, src, task(nil, nil), splits...)
		_, at := drain(t, r, 1, 1)
		src.Deleted = DropIfDeleted
		m := &counts{}
		dropper := open(t, src, task(m, nil), at["a/0"])
		if err := c.DeleteTopic("a"); err != nil {
			t.Fatal(err)
		}
		if again {
			if err := c.CreateTopic("a", 1, nil); err != nil {
				t.Fatal(err)
			}
			produce(t, c.ListenAddrs(), "a", 0, "other", "other")
		}
		if err := readErr(t, r); fault.CodeOf(err) != fault.LostSplit.ID {
			t.Errorf("again=%v, default policy: %v", again, err)
		}
		if err := readErr(t, open(t, text(c, "a"), task(nil, nil), at["a/0"])); fault.CodeOf(err) != fault.LostSplit.ID {
			t.Errorf("again=%v, restored: %v", again, err)
		}
		got, _ := drain(t, dropper, 1, -1)
		if len(got["a/0"]) != 0 || m.get("dropped_partitions") != 1 {
			t.Errorf("again=%v, drop: %v, dropped %d", again, got, m.get("dropped_partitions"))
		}
	}
}

func TestTopicNoLongerNamed(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"), kfake.SeedTopics(1, "b"))
	old := Split{Topic: "b", Next: 3, Stop: Unbounded}
	if err := readErr(t, open(t, text(c, "a"), task(nil, nil), old)); fault.CodeOf(err) != fault.LostSplit.ID {
		t.Errorf("default policy: %v", err)
	}
	src := text(c, "a")
	src.Deleted = DropIfDeleted
	if got, _ := drain(t, open(t, src, task(nil, nil), old), 1, -1); len(got["b/0"]) != 0 {
		t.Errorf("drop: %v", got)
	}
}

func TestLogCutOff(t *testing.T) {
	loss := &kgo.ErrDataLoss{Topic: "a", ConsumedTo: 10, ResetTo: 4}
	src := Source[string]{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}}
	fetch := kgo.FetchPartition{Err: loss}
	at := Split{Topic: "a", Next: 8, Stop: Unbounded}
	r := open(t, src, task(nil, nil), at)
	r.partError(t.Context(), kgo.FetchTopic{Topic: "a"}, fetch, time.Now())
	if err := readErr(t, r); fault.CodeOf(err) != fault.LostRange.ID {
		t.Errorf("default policy: %v", err)
	}
	src.OutOfRange = ToEarliest
	m := &counts{}
	r = open(t, src, task(m, nil), at)
	r.parts[at.key()].fetched = []*kgo.Record{{Offset: 8}, {Offset: 9}}
	r.partError(t.Context(), kgo.FetchTopic{Topic: "a"}, fetch, time.Now())
	if q := r.parts[at.key()]; q.split.Next != 4 || len(q.fetched) != 0 || m.get("lost_records") != 6 {
		t.Errorf("going on: at %+v with %d records, %d lost", q.split, len(q.fetched), m.get("lost_records"))
	}
}

func TestPreflight(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"))
	if err := text(c, "a").Preflight(t.Context()); err != nil {
		t.Errorf("good settings: %v", err)
	}
	if err := text(c, "a", "nosuch").Preflight(t.Context()); fault.CodeOf(err) != fault.NoTopic.ID || !strings.Contains(err.Error(), "nosuch") {
		t.Errorf("unknown topic: %v", err)
	}
	if c.TopicInfo("nosuch") != nil {
		t.Error("the topic was created")
	}
	far := Source[string]{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}, Client: Client{Timeout: 300 * time.Millisecond}}
	begun := time.Now()
	if err := far.Preflight(t.Context()); fault.CodeOf(err) != fault.Unreachable.ID {
		t.Errorf("no broker: %v", err)
	}
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("no broker took %v", d)
	}
	to := Sink[string]{Brokers: c.ListenAddrs(), Topic: "nosuch", Encode: TextRecord}
	if err := to.Preflight(t.Context()); fault.CodeOf(err) != fault.NoTopic.ID {
		t.Errorf("sink, unknown topic: %v", err)
	}
}

func TestSASL(t *testing.T) {
	for mech, name := range map[Mechanism]string{Plain: "PLAIN", ScramSHA256: "SCRAM-SHA-256", ScramSHA512: "SCRAM-SHA-512"} {
		c := fake(t, kfake.EnableSASL(), kfake.Superuser(name, "ann", "right"), kfake.SeedTopics(1, "a"))
		src := text(c, "a")
		src.Client.SASL = SASL{Mechanism: mech, User: "ann", Password: "right"}
		if err := src.Preflight(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		src.Client.SASL.Password, src.Client.Timeout = "wrong", 2*time.Second
		if err := src.Preflight(t.Context()); fault.CodeOf(err) != fault.AuthFailed.ID {
			t.Errorf("%s, wrong password: %v", name, err)
		}
	}
}

func TestPauseAndResume(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "a"))
	src := text(c, "a")
	r := open(t, src, task(nil, nil), find(t, src)...)
	r.Pause("a/0", "x/9")
	produce(t, c.ListenAddrs(), "a", 0, numbered("v", 0, 500)...)
	produce(t, c.ListenAddrs(), "a", 1, numbered("w", 0, 500)...)
	got, _ := drain(t, r, 2, 500)
	if len(got["a/0"]) != 0 || len(got["a/1"]) != 500 {
		t.Fatalf("while paused: %d and %d", len(got["a/0"]), len(got["a/1"]))
	}
	// Read is waiting when the resume comes.
	time.AfterFunc(50*time.Millisecond, func() { r.Resume("a/0") })
	begun := time.Now()
	got, at := drain(t, r, 2, 130)
	if len(got["a/0"]) < 130 || time.Since(begun) > 5*time.Second {
		t.Fatalf("after resume: %d in %v", len(got["a/0"]), time.Since(begun))
	}
	// Paused with records at hand: they stay, in order.
	r.Pause("a/0")
	produce(t, c.ListenAddrs(), "a", 1, "w")
	if got, _ = drain(t, r, 2, 1); len(got["a/0"]) != 0 {
		t.Fatalf("paused again: %d", len(got["a/0"]))
	}
	time.AfterFunc(50*time.Millisecond, func() { r.Resume("a/0") })
	begun = time.Now()
	var b source.Batch[string]
	b.Limit(1)
	if s, err := r.Read(t.Context(), &b); err != nil || s.ID() != "a/0" || len(b.Values) != 1 {
		t.Fatalf("resumed with records at hand: %v, %v", s, err)
	}
	if d := time.Since(begun); d > 700*time.Millisecond {
		t.Errorf("Read noticed the resume after %v", d)
	}
	next := int(at["a/0"].Next) + 1
	if got, _ = drain(t, r, 2, 500-next); !slices.Equal(got["a/0"], numbered("v", next, 500)) {
		t.Fatalf("in the end: %d values from %d", len(got["a/0"]), next)
	}
}

func TestSplitComesBackAfterItsEnd(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"))
	produce(t, c.ListenAddrs(), "a", 0, numbered("v", 0, 10)...)
	src := text(c, "a")
	src.Stop = StopLatest
	s := find(t, src)
	r := open(t, src, task(nil, nil), s...)
	r.Pause("a/0")
	r.Resume("a/0")
	for range 2 {
		if got, _ := drain(t, r, 1, -1); len(got["a/0"]) != 10 {
			t.Fatalf("got %v", got)
		}
		if err := r.Add(t.Context(), s...); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Add(t.Context(), s...); fault.CodeOf(err) != fault.Misplaced.ID {
		t.Errorf("the same split twice: %v", err)
	}
}

func TestAckCommits(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "a"))
	src := text(c, "a")
	src.Group = "progress"
	m := &counts{}
	r := open(t, src, task(m, nil), find(t, src)...)
	if err := r.Ack(t.Context(), []Split{{Topic: "a", Partition: 0, Next: 5}, {Topic: "a", Partition: 1, Next: 7}}); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	got, err := kadm.NewClient(cl).FetchOffsets(t.Context(), "progress")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := got["a"][0].At, got["a"][1].At; a != 5 || b != 7 || m.get("commits") != 1 {
		t.Errorf("committed %d and %d", a, b)
	}
	r.o.client.Timeout = 100 * time.Millisecond
	c.Close()
	if err := r.Ack(t.Context(), []Split{{Topic: "a", Next: 6}}); err == nil || m.get("commit_failures") != 1 {
		t.Errorf("without a broker: %v, failures %d", err, m.get("commit_failures"))
	}
	quiet := open(t, Source[string]{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}}, task(nil, nil))
	if err := quiet.Ack(t.Context(), []Split{{Topic: "a", Next: 6}}); err != nil {
		t.Errorf("without a group: %v", err)
	}
}

func TestPartitionsAddedLaterStartAtTheirBeginning(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"))
	produce(t, c.ListenAddrs(), "a", 0, "old")
	src := text(c, "a")
	src.Start, src.Discover = Latest, 20*time.Millisecond
	e, err := src.Enumerator(t.Context(), task(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	found, done, err := e.Discover(t.Context())
	if err != nil || done || len(found) != 1 || found[0].Next != 1 {
		t.Fatalf("first: %v, %v, %v", found, done, err)
	}
	e.Assign(source.Event[Split]{Kind: source.Found, Splits: found}, source.NewAssignments(found, nil))
	state, err := e.(source.Stateful).Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	grow(t, c, "a", 2)
	produce(t, c.ListenAddrs(), "a", 2, "new")
	found, done, err = e.Discover(t.Context())
	if err != nil || done || len(found) != 2 || found[1].ID() != "a/2" || found[1].Next != 0 {
		t.Fatalf("second: %v, %v, %v", found, done, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Millisecond)
	defer cancel()
	if found, _, err = e.Discover(ctx); !errors.Is(err, context.DeadlineExceeded) || len(found) != 0 {
		t.Errorf("no news: %v, %v", found, err)
	}

	// Added while the job was down: the stored state knows the topic.
	back, err := src.Enumerator(t.Context(), task(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := back.(source.Stateful).Restore(state); err != nil {
		t.Fatal(err)
	}
	if found, _, err = back.Discover(t.Context()); err != nil || len(found) != 3 || found[2].Next != 0 {
		t.Errorf("restored: %v, %v", found, err)
	}
	if err := back.(source.Stateful).Restore([]byte(`{"version":9}`)); fault.CodeOf(err) != fault.NewerFormat.ID {
		t.Errorf("newer state: %v", err)
	}
}

func grow(t *testing.T, c *kfake.Cluster, topic string, by int) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	res, err := kadm.NewClient(cl).CreatePartitions(t.Context(), by, topic)
	if err == nil {
		err = res.Error()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDiscoverySurvivesBrokersBeingAway(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"))
	src := text(c, "a")
	src.Discover, src.Client.Timeout = 10*time.Millisecond, 50*time.Millisecond
	l := &logs{}
	e, err := src.Enumerator(t.Context(), task(nil, l))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Discover(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, _, err := e.Discover(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if n := l.count("looking for new kafka partitions failed"); n != 1 {
		t.Errorf("told %d times", n)
	}
}

func TestAssignSpreadsEvenly(t *testing.T) {
	tk := task(nil, nil)
	tk.Parallelism = 3
	e := newEnumerator(settings{}, tk)
	var splits []Split
	for p := range int32(7) {
		splits = append(splits, Split{Topic: "a", Partition: p})
	}
	load := map[int]int{}
	open := splits
	for r := range 3 { // the readers come up one after the other
		load[r] = 0
		as := source.NewAssignments(open, load)
		e.Assign(source.Event[Split]{Kind: source.ReaderUp, Reader: r}, as)
		open = as.Unassigned()
	}
	if len(open) != 0 || load[0] != 3 || load[1]+load[2] != 4 || min(load[1], load[2]) < 1 {
		t.Errorf("left %d, load %v", len(open), load)
	}
}

func TestBrokerAwayIsToldOnce(t *testing.T) {
	l := &logs{}
	src := Source[string]{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}}
	r := open(t, src, task(nil, l), Split{Topic: "a", Stop: Unbounded})
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	var b source.Batch[string]
	b.Limit(1)
	for ctx.Err() == nil {
		if _, err := r.Read(ctx, &b); err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if n := l.count("level=WARN"); n != 1 {
		t.Errorf("told %d times: %s", n, l.b.String())
	}
}
