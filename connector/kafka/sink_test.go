package kafka

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/sink"
)

func writerOf[T any](t testing.TB, s Sink[T], m *counts) sink.Writer[T] {
	t.Helper()
	w, err := s.Writer(t.Context(), sink.Task{
		Job: "job", Operator: "out", Parallelism: 1, Metrics: m, Request: func() {}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	if g, ok := sink.As[sink.Gated](w); ok {
		g.OnRoom(func() {})
	}
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func write[T any](t testing.TB, w sink.Writer[T], vs ...T) {
	t.Helper()
	if err := w.Write(t.Context(), vs); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// content reads all of a topic.
func content(t testing.TB, addr, topic string) []string {
	t.Helper()
	src := Source[string]{Brokers: []string{addr}, Topics: []string{topic}, Stop: StopLatest}
	splits := find(t, src)
	r := open(t, src, task(nil, nil), splits...)
	got, _ := drain(t, r, len(splits), -1)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range splits {
		all = append(all, got[s.ID()]...)
	}
	return all
}

func TestSinkWritesInOrder(t *testing.T) {
	c := fake(t, kfake.SeedTopics(4, "out"), kfake.SeedTopics(1, "other"))
	s := Sink[string]{Brokers: c.ListenAddrs(), Topic: "out", Batch: 100, Encode: func(v string) (Record, error) {
		switch v {
		case "skip":
			return Record{}, ErrSkip
		case "bad":
			return Record{}, errors.New("bad value")
		case "other":
			return Record{Topic: "other", Value: []byte(v)}, nil
		}
		key, _, _ := strings.Cut(v, "-")
		return Record{Key: []byte(key), Value: []byte(v)}, nil
	}}
	w := writerOf(t, s, &counts{})
	var vs []string
	for i := range 3000 {
		vs = append(vs, fmt.Sprintf("k%d-%d", i%7, i))
	}
	vs = append(vs, "skip", "bad", "other")
	write(t, w, vs...)
	got := content(t, c.ListenAddrs()[0], "out")
	if len(got) != 3000 {
		t.Fatalf("%d values written", len(got))
	}
	for k := range 7 {
		prefix := fmt.Sprintf("k%d-", k)
		others := func(v string) bool { return !strings.HasPrefix(v, prefix) }
		if !slices.Equal(slices.DeleteFunc(slices.Clone(got), others), slices.DeleteFunc(slices.Clone(vs), others)) {
			t.Errorf("key %d: order lost", k)
		}
	}
	if got := content(t, c.ListenAddrs()[0], "other"); !slices.Equal(got, []string{"other"}) {
		t.Errorf("topic of the record: %v", got)
	}
	rj, ok := sink.As[sink.Rejecter](w)
	if !ok {
		t.Fatal("the writer hides what was rejected")
	}
	if rs := rj.Rejects(); len(rs) != 1 || rs[0].Value != "bad" {
		t.Errorf("rejected: %+v", rs)
	}
	if _, ok := sink.As[sink.Stateful](w); !ok {
		t.Error("the writer hides its state")
	}
}

func TestSinkRejectsOnlyWhatIsTooLarge(t *testing.T) {
	// The client refuses what is over MaxBytes; a topic with a lower limit refuses whole batches.
	c := fake(t)
	if err := c.CreateTopic("out", 1, map[string]string{"max.message.bytes": "2000"}); err != nil {
		t.Fatal(err)
	}
	s := Sink[string]{Brokers: c.ListenAddrs(), Topic: "out", Encode: TextRecord, Compression: Uncompressed, MaxBytes: 10_000}
	w := writerOf(t, s, &counts{})
	large, huge := strings.Repeat("x", 3000), strings.Repeat("y", 20_000)
	write(t, w, "a", large, "b", huge, "c")
	got := content(t, c.ListenAddrs()[0], "out")
	slices.Sort(got)
	if !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("written: %d values", len(got))
	}
	rj, _ := sink.As[sink.Rejecter](w)
	rs := rj.Rejects()
	if len(rs) != 2 {
		t.Fatalf("rejected: %d", len(rs))
	}
	for _, r := range rs {
		if r.Value != large && r.Value != huge {
			t.Errorf("rejected %v", r)
		}
	}
}

func TestSinkPartitions(t *testing.T) {
	c := fake(t, kfake.SeedTopics(3, "out"))
	for how, want := range map[Partitioner][]int{ByKey: {6}, RoundRobin: {2, 2, 2}, AsEncoded: {1, 5}} {
		s := Sink[int]{Brokers: c.ListenAddrs(), Topic: "out", Partitioner: how, Encode: func(i int) (Record, error) {
			return Record{Key: []byte("one key"), Value: []byte{byte(how)}, Partition: int32(min(i, 1))}, nil
		}}
		write(t, writerOf(t, s, &counts{}), 0, 1, 2, 3, 4, 5)
		src := Source[byte]{Brokers: c.ListenAddrs(), Topics: []string{"out"}, Stop: StopLatest, Decode: func(r *Record) (byte, error) { return r.Value[0], nil }}
		splits := find(t, src)
		all, _ := drain(t, open(t, src, task(nil, nil), splits...), len(splits), -1)
		var got []int
		for _, vs := range all {
			if n := len(vs) - len(slices.DeleteFunc(vs, func(v byte) bool { return v == byte(how) })); n > 0 {
				got = append(got, n)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("partitioner %d: records by partition %v, want %v", how, got, want)
		}
	}
	if err := (Sink[int]{Brokers: c.ListenAddrs(), Encode: JSONRecord[int], Partitioner: 7}).validate(); err == nil {
		t.Error("an unknown partitioner was taken")
	}
}

func TestSinkCloseWhileBrokerIsAway(t *testing.T) {
	s := Sink[string]{Brokers: []string{"127.0.0.1:1"}, Topic: "out", Encode: TextRecord}
	w := writerOf(t, s, &counts{})
	if err := w.Write(t.Context(), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Flush(ctx); err == nil {
		t.Error("flushed into the void")
	}
	begun := time.Now()
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if d := time.Since(begun); d > 3*time.Second {
		t.Errorf("close took %v", d)
	}
}

func TestSinkKnowsSizes(t *testing.T) {
	if n := (Sink[string]{}).size()("abc"); n != 3 {
		t.Errorf("string: %d", n)
	}
	if n := (Sink[[]byte]{}).size()([]byte("ab")); n != 2 {
		t.Errorf("bytes: %d", n)
	}
	if f := (Sink[int]{}).size(); f != nil {
		t.Error("a size for int")
	}
	if n := (Sink[int]{Size: func(v int) int { return v }}).size()(9); n != 9 {
		t.Errorf("own: %d", n)
	}
}

func TestEndOffsets(t *testing.T) {
	c := fake(t, kfake.SeedTopics(2, "a"))
	produce(t, c.ListenAddrs(), "a", 1, "x", "y")
	got, err := EndOffsets(t.Context(), c.ListenAddrs(), Client{}, "a")
	if err != nil || len(got) != 2 || got[0] != 0 || got[1] != 2 {
		t.Errorf("got %v, %v", got, err)
	}
}

func BenchmarkSink(b *testing.B) {
	c := fake(b, kfake.SeedTopics(4, "out"))
	value := []byte(strings.Repeat("v", 100))
	vs := make([][]byte, 1000)
	for i := range vs {
		vs[i] = value
	}
	b.Run("how=bare", func(b *testing.B) {
		cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("out"))
		if err != nil {
			b.Fatal(err)
		}
		defer cl.Close()
		for b.Loop() {
			for _, v := range vs {
				cl.Produce(b.Context(), kgo.SliceRecord(v), nil)
			}
		}
		if err := cl.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("how=sink", func(b *testing.B) {
		w := writerOf(b, Sink[[]byte]{Brokers: c.ListenAddrs(), Topic: "out", Encode: BytesRecord}, &counts{})
		for b.Loop() {
			if err := w.Write(b.Context(), vs); err != nil {
				b.Fatal(err)
			}
		}
		if err := w.Flush(b.Context()); err != nil {
			b.Fatal(err)
		}
	})
}
