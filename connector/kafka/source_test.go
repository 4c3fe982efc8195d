package kafka

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
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

func TestBoundedReadsEverything(t *testing.T) {
	c := fake(t, kfake.SeedTopics(3, "a"), kfake.SeedTopics(2, "b"))
	want := make(map[string][]string)
	for _, s := range []struct {
		topic string
		p     int32
		n     int
	}{{"a", 0, 500}, {"a", 1, 1}, {"b", 1, 300}} {
		vs := numbered(fmt.Sprintf("%s%d-", s.topic, s.p), 0, s.n)
		produce(t, c.ListenAddrs(), s.topic, s.p, vs...)
		want[fmt.Sprintf("%s/%d", s.topic, s.p)] = vs
	}
	src := text(c, "b", "a")
	src.Stop = StopLatest
	splits := find(t, src)
	if len(splits) != 5 {
		t.Fatalf("found %v", splits)
	}
	produce(t, c.ListenAddrs(), "a", 0, "later")
	got, at := drain(t, open(t, src, task(nil, nil), splits...), 5, -1)
	for _, s := range splits {
		if !slices.Equal(got[s.ID()], want[s.ID()]) {
			t.Errorf("%s: got %d values, want %d", s.ID(), len(got[s.ID()]), len(want[s.ID()]))
		}
		if p := at[s.ID()]; p.Next != s.Stop {
			t.Errorf("%s ends at %d, want %d", s.ID(), p.Next, s.Stop)
		}
	}
}

func TestEmptyPartitionNeedsNoBroker(t *testing.T) {
	src := Source[string]{Brokers: []string{"127.0.0.1:1"}, Topics: []string{"a"}}
	r := open(t, src, task(nil, nil), Split{Topic: "a", Next: 7, Stop: 7})
	var b source.Batch[string]
	b.Limit(8)
	s, err := r.Read(t.Context(), &b)
	if !errors.Is(err, io.EOF) || s.Next != 7 || len(b.Values) != 0 {
		t.Fatalf("got %v, %v, %d values", s, err, len(b.Values))
	}
}

func TestStarts(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "a"))
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for i := range 10 {
		r := &kgo.Record{Topic: "a", Partition: 0, Value: []byte("x"), Timestamp: noon.Add(time.Duration(i) * time.Minute)}
		if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.DeleteRecords("a", 0, 2); err != nil {
		t.Fatal(err)
	}
	var os kadm.Offsets
	os.AddOffset("a", 0, 6, -1)
	if _, err := kadm.NewClient(cl).CommitOffsets(t.Context(), "g", os); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		start Start
		want  [2]int64
	}{
		{"earliest", Earliest, [2]int64{2, 0}},
		{"latest", Latest, [2]int64{10, 0}},
		{"at", At(noon.Add(270 * time.Second)), [2]int64{5, 0}},
		{"at, beyond the end", At(noon.Add(time.Hour)), [2]int64{10, 0}},
		{"committed", Committed("g", OrEarliest), [2]int64{6, 0}},
		{"committed by nobody", Committed("h", OrLatest), [2]int64{10, 0}},
		{"offsets", Offsets(map[string]map[int32]int64{"a": {0: 8}}), [2]int64{8, 0}},
	} {
		src := text(c, "a")
		src.Start = tc.start
		got := find(t, src)
		if len(got) != 2 || got[0].Next != tc.want[0] || got[1].Next != tc.want[1] || got[0].Stop != Unbounded {
			t.Errorf("%s: got %+v, want next %v", tc.name, got, tc.want)
		}
	}
	src := text(c, "a")
	src.Start = Committed("h", OrFail)
	e, err := src.Enumerator(t.Context(), task(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.Discover(t.Context()); fault.CodeOf(err) != fault.BadPosition.ID {
		t.Errorf("no committed offset: %v", err)
	}
}

func TestStops(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "a"))
	produce(t, c.ListenAddrs(), "a", 0, numbered("v", 0, 10)...)
	produce(t, c.ListenAddrs(), "a", 1, numbered("w", 0, 10)...)
	src := text(c, "a")
	src.Stop = StopAt(map[string]map[int32]int64{"a": {0: 4}})
	splits := find(t, src)
	got, _ := drain(t, open(t, src, task(nil, nil), splits...), 2, -1)
	if len(got["a/0"]) != 4 || len(got["a/1"]) != 10 {
		t.Errorf("got %v", got)
	}
}

func TestExplicitPartitions(t *testing.T) {
	c := fake(t, kfake.SeedTopics(3, "a"))
	src := Source[string]{Brokers: c.ListenAddrs(), Partitions: map[string][]int32{"a": {2, 0}}}
	got := find(t, src)
	if len(got) != 2 || got[0].ID() != "a/2" || got[1].ID() != "a/0" {
		t.Errorf("got %v", got)
	}
	src.Partitions["a"] = []int32{3}
	if err := src.Preflight(t.Context()); fault.CodeOf(err) != fault.NoTopic.ID {
		t.Errorf("partition that doesn't exist: %v", err)
	}
}

func TestDecoders(t *testing.T) {
	type order struct {
		N int `json:"n"`
	}
	c := fake(t, kfake.SeedTopics(1, "a"))
	produce(t, c.ListenAddrs(), "a", 0, `{"n":1}`, `{"n":`, `{"n":3}`)
	base := text(c, "a")
	base.Stop = StopLatest
	splits := find(t, base)

	js := Source[order]{Brokers: base.Brokers, Topics: base.Topics, Decode: JSON[order]}
	r := open(t, js, task(nil, nil), splits...)
	var b source.Batch[order]
	b.Limit(8)
	s, err := r.Read(t.Context(), &b)
	if !errors.Is(err, io.EOF) || s.Next != 3 || !slices.Equal(b.Values, []order{{1}, {3}}) {
		t.Errorf("JSON: %v %v %v", s, err, b.Values)
	}
	if len(b.Times) != 2 || time.Since(time.UnixMicro(b.Times[0])) > time.Minute {
		t.Errorf("event times %v", b.Times)
	}
	if len(b.Rejects) != 1 || b.Rejects[0].At != "a/0@1" || string(b.Rejects[0].Raw) != `{"n":` || b.Rejects[0].Index != 1 {
		t.Errorf("rejects %+v", b.Rejects)
	}

	words := Source[string]{Brokers: base.Brokers, Topics: base.Topics, DecodeInto: func(r *Record, out *source.Batch[string]) error {
		for w := range strings.SplitSeq(string(r.Value), ":") {
			out.Add(w)
		}
		return nil
	}}
	got, _ := drain(t, open(t, words, task(nil, nil), splits...), 1, -1)
	if len(got["a/0"]) != 6 {
		t.Errorf("several values a record: %q", got)
	}

	raw := Source[[]byte]{Brokers: base.Brokers, Topics: base.Topics}
	bytes, _ := drain(t, open(t, raw, task(nil, nil), splits...), 1, -1)
	if len(bytes["a/0"]) != 3 || string(bytes["a/0"][2]) != `{"n":3}` {
		t.Errorf("bytes: %q", bytes)
	}
}

func TestTombstonesAndHeaders(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"))
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	at := time.UnixMilli(1_700_000_000_123)
	in := &kgo.Record{Topic: "a", Key: []byte("k"), Headers: []kgo.RecordHeader{{Key: "h", Value: []byte("v")}}, Timestamp: at}
	if err := cl.ProduceSync(t.Context(), in).FirstErr(); err != nil {
		t.Fatal(err)
	}
	src := Source[Record]{
		Brokers: c.ListenAddrs(), Topics: []string{"a"}, Stop: StopLatest,
		Decode: func(r *Record) (Record, error) { return *r, nil },
	}
	got, _ := drain(t, open(t, src, task(nil, nil), find(t, src)...), 1, -1)
	want := Record{Topic: "a", Key: []byte("k"), Headers: []Header{{Key: "h", Value: []byte("v")}}, Time: at}
	if len(got["a/0"]) != 1 || !reflect.DeepEqual(got["a/0"][0], want) {
		t.Errorf("got %+v, want %+v", got["a/0"], want)
	}
}

func TestSettings(t *testing.T) {
	for name, src := range map[string]interface{ Preflight(context.Context) error }{
		"no brokers":   Source[string]{Topics: []string{"a"}},
		"no topics":    Source[string]{Brokers: []string{"x:1"}},
		"both":         Source[string]{Brokers: []string{"x:1"}, Topics: []string{"a"}, Partitions: map[string][]int32{"a": {0}}},
		"no decode":    Source[int]{Brokers: []string{"x:1"}, Topics: []string{"a"}},
		"user alone":   Source[string]{Brokers: []string{"x:1"}, Topics: []string{"a"}, Client: Client{SASL: SASL{User: "u"}}},
		"policy":       Source[string]{Brokers: []string{"x:1"}, Topics: []string{"a"}, OutOfRange: 9},
		"no encode":    Sink[string]{Brokers: []string{"x:1"}},
		"sink brokers": Sink[string]{Encode: TextRecord},
	} {
		if err := src.Preflight(t.Context()); fault.CodeOf(err) != fault.BadPipeline.ID {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s := fmt.Sprintf("%v %+v %#v", Client{SASL: SASL{Password: "hush"}}, SASL{Password: "hush"}, SASL{Password: "hush"}); strings.Contains(s, "hush") {
		t.Errorf("password shown: %s", s)
	}
}

// TestCancelLosesNothing cancels reads at random moments and changes readers in between.
func TestCancelLosesNothing(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	c := fake(t, kfake.SeedTopics(3, "a"))
	want := make(map[string][]string)
	for p := range int32(3) {
		vs := numbered(fmt.Sprintf("p%d-", p), 0, 2000)
		produce(t, c.ListenAddrs(), "a", p, vs...)
		want[fmt.Sprintf("a/%d", p)] = vs
	}
	src := text(c, "a")
	src.Stop = StopLatest
	at := make(map[string]Split)
	for _, s := range find(t, src) {
		at[s.ID()] = s
	}
	got := make(map[string][]string)
	limit := time.Now().Add(20 * time.Second)
	for len(at) > 0 && time.Now().Before(limit) {
		var splits []Split
		for _, s := range at {
			splits = append(splits, s)
		}
		r := open(t, src, task(nil, nil), splits...)
		for range rnd.IntN(20) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rnd.IntN(3000))*time.Microsecond)
			var b source.Batch[string]
			b.Limit(1 + rnd.IntN(300))
			s, err := r.Read(ctx, &b)
			cancel()
			got[s.ID()] = append(got[s.ID()], b.Values...)
			at[s.ID()] = s
			switch {
			case errors.Is(err, io.EOF):
				delete(at, s.ID())
			case err != nil && !errors.Is(err, context.DeadlineExceeded):
				t.Fatal(err)
			}
			if len(at) == 0 {
				break
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for id := range want {
		if !slices.Equal(got[id], want[id]) {
			t.Errorf("%s: got %d values, want %d in order", id, len(got[id]), len(want[id]))
		}
	}
}

func TestReadWithoutSplitsWaits(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"))
	r := open(t, text(c, "a"), task(nil, nil))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	var b source.Batch[string]
	b.Limit(1)
	if s, err := r.Read(ctx, &b); !errors.Is(err, context.DeadlineExceeded) || s.ID() != "" {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestLeadersMove(t *testing.T) {
	c := fake(t, kfake.NumBrokers(3), kfake.SeedTopics(4, "a"))
	for p := range int32(4) {
		produce(t, c.ListenAddrs(), "a", p, numbered("v", 0, 2000)...)
	}
	src := text(c, "a")
	src.Stop, src.FetchBytes = StopAt(map[string]map[int32]int64{"a": {0: 2100, 1: 2100, 2: 2100, 3: 2100}}), 4<<10
	r := open(t, src, task(nil, nil), find(t, src)...)
	got, _ := drain(t, r, 4, 1000)
	c.ShufflePartitionLeaders()
	for p := range int32(4) {
		produce(t, c.ListenAddrs(), "a", p, numbered("v", 2000, 2100)...)
	}
	rest, _ := drain(t, r, 4, -1)
	for p := range 4 {
		id := fmt.Sprintf("a/%d", p)
		if all := append(got[id], rest[id]...); !slices.Equal(all, numbered("v", 0, 2100)) {
			t.Errorf("%s: %d values, want 2100 in order", id, len(all))
		}
	}
}

// TestStopInCompactedTail has a Stop behind offsets that hold no records any more.
func TestStopInCompactedTail(t *testing.T) {
	c := fake(t)
	if err := c.CreateTopic("a", 1, map[string]string{"cleanup.policy": "compact"}); err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for _, kv := range []string{"k", "l", "l", "l", "k"} {
		if err := cl.ProduceSync(t.Context(), kgo.KeyStringRecord(kv, "v")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	src := text(c, "a")
	src.Stop = StopAt(map[string]map[int32]int64{"a": {0: 3}})
	splits := find(t, src)
	c.Compact()
	got, at := drain(t, open(t, src, task(nil, nil), splits...), 1, -1)
	if at["a/0"].Next != 3 {
		t.Errorf("got %v at %+v", got, at)
	}
}

func TestDroppedTopicDoesNotStopARestart(t *testing.T) {
	c := fake(t, kfake.SeedTopics(1, "a"), kfake.SeedTopics(1, "b"))
	src := text(c, "a", "b")
	src.Deleted = DropIfDeleted
	e, err := src.Enumerator(t.Context(), task(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.(source.Stateful).Restore([]byte(`{"version":1,"topics":["b"]}`)); err != nil {
		t.Fatal(err)
	}
	if err := c.DeleteTopic("b"); err != nil {
		t.Fatal(err)
	}
	if err := src.Preflight(t.Context()); err != nil {
		t.Errorf("preflight: %v", err)
	}
	if found, _, err := e.Discover(t.Context()); err != nil || len(found) != 1 || found[0].ID() != "a/0" {
		t.Errorf("found %v, %v", found, err)
	}
	fresh, err := src.Enumerator(t.Context(), task(nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := fresh.Discover(t.Context()); fault.CodeOf(err) != fault.NoTopic.ID {
		t.Errorf("a topic that was never there: %v", err)
	}
}
