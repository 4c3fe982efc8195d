package async

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/weirline/weirline/sink"
)

func testTask(l *logLines, m *counts) sink.Task {
	return sink.Task{Operator: "out", Log: slog.New(l), Metrics: m}
}

func TestValidate(t *testing.T) {
	send := func(context.Context, []rec) error { return nil }
	cases := []struct {
		name string
		s    Sink[rec]
		want string
	}{
		{"fine", Sink[rec]{Send: send}, ""},
		{"no send", Sink[rec]{}, "Send is missing"},
		{"in flight", Sink[rec]{Send: send, MaxInFlight: -1}, "MaxInFlight is negative"},
		{"half a codec", Sink[rec]{Send: send, Decode: func([]byte) (rec, error) { return rec{}, nil }}, "only one of Encode and Decode"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.s.Writer(t.Context(), sink.Task{})
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestCodecIsTheUsersOwn(t *testing.T) {
	type odd struct{ f func() int }
	s := Sink[odd]{
		Send:   func(ctx context.Context, _ []odd) error { <-ctx.Done(); return ctx.Err() },
		Encode: func(dst []byte, v odd) ([]byte, error) { return append(dst, byte(v.f())), nil },
		Decode: func(b []byte) (odd, error) { return odd{func() int { return int(b[0]) }}, nil },
	}
	w, err := s.Writer(t.Context(), sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := w.Write(t.Context(), []odd{{func() int { return 5 }}}); err != nil {
		t.Fatal(err)
	}
	state, err := w.(sink.Stateful).Snapshot()
	equal(t, "error", err, nil)
	vs, err := w.(*writer[odd]).decode(nil, state)
	equal(t, "error", err, nil)
	equal(t, "value", vs[0].v.f(), 5)
}

func TestSteadyStateDoesNotAllocatePerRecord(t *testing.T) {
	for name, key := range map[string]func(rec) string{"shared": nil, "keyed": func(r rec) string { return r.K }} {
		s := Sink[rec]{Send: func(context.Context, []rec) error { return nil }, Key: key, Size: func(rec) int { return 1 }}
		w, err := s.Writer(t.Context(), sink.Task{})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		var batch []rec
		for _, k := range []string{"a", "b", "c", "d"} {
			batch = append(batch, seq(k, 0, 250)...)
		}
		cycle := func() {
			if err := errors.Join(w.Write(t.Context(), batch), w.Flush(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		cycle()
		per := testing.AllocsPerRun(50, cycle) / float64(len(batch))
		if per > 0.05 {
			t.Errorf("%s: %.3f allocations per record", name, per)
		}
	}
}

func BenchmarkWrite(b *testing.B) {
	for name, key := range map[string]func(rec) string{"key=none": nil, "key=64": func(r rec) string { return r.K }} {
		b.Run(name, func(b *testing.B) {
			s := Sink[rec]{Send: func(context.Context, []rec) error { return nil }, Key: key}
			w, err := s.Writer(b.Context(), sink.Task{})
			if err != nil {
				b.Fatal(err)
			}
			defer w.Close()
			var batch []rec
			for i := range 256 {
				batch = append(batch, rec{string(rune('A' + i%64)), i})
			}
			b.ReportAllocs()
			for b.Loop() {
				if err := w.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*len(batch))/b.Elapsed().Seconds(), "rec/s")
		})
	}
}
