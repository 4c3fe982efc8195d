package reader_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

type at struct {
	Name string
	N    int
}

func (a at) ID() string { return a.Name }

func forever(_ context.Context, a at, out *source.Batch[string]) (at, error) {
	for !out.Full() {
		out.Add(fmt.Sprint(a.Name, a.N))
		a.N++
	}
	return a, nil
}

// open makes a reader with splits; it is closed when the test ends.
func open(t *testing.T, r source.NewReader[string, at], splits ...at) source.Reader[string, at] {
	t.Helper()
	out, err := r(t.Context(), source.Task{Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := out.Add(t.Context(), splits...); err != nil {
		t.Fatal(err)
	}
	return out
}

func read(ctx context.Context, r source.Reader[string, at], limit int) (string, at, error) {
	var b source.Batch[string]
	b.Limit(limit)
	next, err := r.Read(ctx, &b)
	return strings.Join(b.Values, " "), next, err
}

func TestRoundRobinAndPause(t *testing.T) {
	r := open(t, reader.Poll(forever), at{Name: "a"}, at{Name: "b"}, at{Name: "c"})
	defer r.Close()
	p, _ := source.As[source.Pauser](r)
	var got []string
	for i := range 9 {
		if i == 3 {
			p.Pause("b", "unknown")
		}
		if i == 6 {
			p.Resume("b", "b")
		}
		s, _, err := read(t.Context(), r, 1)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s)
	}
	if s := strings.Join(got, " "); s != "a0 b0 c0 a1 c1 a2 b1 c2 a3" {
		t.Error(s)
	}
}

// wait is a step that never has anything.
func wait(ctx context.Context, a at, _ *source.Batch[string]) (at, error) {
	<-ctx.Done()
	return a, ctx.Err()
}

func TestWaitingSplitDoesNotStarveOthers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		step := func(ctx context.Context, a at, out *source.Batch[string]) (at, error) {
			if a.Name == "quiet" {
				return wait(ctx, a, out)
			}
			return forever(ctx, a, out)
		}
		r := open(t, reader.Poll(step), at{Name: "quiet"}, at{Name: "a"})
		defer r.Close()
		start, got := time.Now(), 0
		for range 200 {
			s, _, err := read(t.Context(), r, 1)
			if err != nil {
				t.Fatal(err)
			}
			if s != "" {
				got++
			}
		}
		if took := time.Since(start); got != 100 || took > time.Second {
			t.Errorf("%d records in %v", got, took)
		}
	})
}

func TestPauseWakesAWaitingRead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		step := func(ctx context.Context, a at, out *source.Batch[string]) (at, error) {
			if a.Name == "quiet" {
				return wait(ctx, a, out)
			}
			return forever(ctx, a, out)
		}
		r := open(t, reader.Poll(step), at{Name: "quiet"}, at{Name: "a"})
		defer r.Close()
		p, _ := source.As[source.Pauser](r)
		p.Pause("a")
		start := time.Now()
		time.AfterFunc(time.Second, func() { p.Resume("a") })
		for {
			s, _, err := read(t.Context(), r, 1)
			if err != nil {
				t.Fatal(err)
			}
			if s != "" {
				break
			}
		}
		if took := time.Since(start); took > 1200*time.Millisecond || took < time.Second {
			t.Errorf("the resumed split was read after %v", took)
		}
	})
}

func TestEverythingPausedBlocks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := open(t, reader.Poll(forever), at{Name: "a"})
		defer r.Close()
		p, _ := source.As[source.Pauser](r)
		p.Pause("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		start := time.Now()
		if s, _, err := read(ctx, r, 1); s != "" || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("%q, %v after %v", s, err, time.Since(start))
		}
	})
}

func TestEmptyRoundsRest(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		calls := 0
		r := open(t, reader.Poll(func(_ context.Context, a at, _ *source.Batch[string]) (at, error) {
			calls++
			return a, nil
		}), at{Name: "a"}, at{Name: "b"})
		defer r.Close()
		for start := time.Now(); time.Since(start) < 10*time.Second; {
			if _, _, err := read(t.Context(), r, 1); err != nil {
				t.Fatal(err)
			}
		}
		if calls < 300 || calls > 1000 {
			t.Errorf("%d calls in 10 seconds", calls)
		}
	})
}

func TestWrappedEOFIsNoEnd(t *testing.T) {
	lost := fmt.Errorf("connection: %w", io.EOF)
	for name, r := range map[string]source.NewReader[string, at]{
		"read": reader.Poll(func(_ context.Context, a at, _ *source.Batch[string]) (at, error) { return a, lost }),
		"open": reader.Each(func(context.Context, at) (source.Cursor[string, at], error) { return nil, lost }),
	} {
		r := open(t, r, at{Name: "a"})
		if _, _, err := read(t.Context(), r, 1); err == nil || errors.Is(err, io.EOF) || !strings.Contains(err.Error(), "connection") {
			t.Errorf("%s: %v", name, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
}

// cursor counts how often it is closed.
type cursor struct {
	at
	end    bool
	closed map[string]int
}

func (c *cursor) Read(_ context.Context, out *source.Batch[string]) (at, error) {
	out.Add(c.Name)
	if c.end {
		return c.at, io.EOF
	}
	return c.at, nil
}

func (c *cursor) Close() error {
	c.closed[c.Name]++
	return fmt.Errorf("close of %s", c.Name)
}

func TestCursorsAreClosedOnce(t *testing.T) {
	closed := map[string]int{}
	r := open(t, reader.Each(func(_ context.Context, a at) (source.Cursor[string, at], error) {
		return &cursor{at: a, end: a.N == 1, closed: closed}, nil
	}), at{"a", 1}, at{"b", 0}, at{"never opened", 0})
	if _, _, err := read(t.Context(), r, 1); err == nil || err == io.EOF || !strings.Contains(err.Error(), "close of a") { //nolint:errorlint // itself
		t.Errorf("the error of Close is lost: %v", err)
	}
	if _, _, err := read(t.Context(), r, 1); err != nil {
		t.Error(err)
	}
	if err := r.Add(t.Context(), at{Name: "b"}); err == nil {
		t.Error("a split was added twice")
	}
	if err := r.Close(); err == nil || !strings.Contains(err.Error(), "close of b") {
		t.Errorf("Close: %v", err)
	}
	if s := fmt.Sprint(closed); s != "map[a:1 b:1]" {
		t.Error(s)
	}
}

func TestRateLimit(t *testing.T) {
	for _, c := range []struct {
		rate        float64
		parallelism int
		want        float64 // records in 10 seconds
	}{{1000, 1, 10000}, {1000, 4, 2500}, {0.5, 1, 6}, {1e6, 1, 1e7}} {
		bubble.Test(t, func(t *testing.T) {
			src := reader.RateLimit(source.Of(enumerator.Static[at](), reader.Poll(forever)), c.rate)
			r, err := src.Reader(t.Context(), source.Task{Parallelism: c.parallelism})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if err := r.Add(t.Context(), at{Name: "a"}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			got, next := 0, 0
			for {
				var b source.Batch[string]
				b.Limit(100_000)
				s, err := r.Read(ctx, &b)
				got += len(b.Values)
				if len(b.Values) > 0 {
					next = s.N
				}
				if float64(len(b.Values)) > max(1, c.rate/40) {
					t.Fatalf("%d records at once", len(b.Values))
				}
				if b.Room() != 100_000-len(b.Values) {
					t.Fatalf("the batch's limit was changed: room %d", b.Room())
				}
				if err != nil {
					break
				}
			}
			if next != got || float64(got) < 0.97*c.want-1 || float64(got) > 1.01*c.want+1 {
				t.Errorf("%v a second in %d tasks: %d records, position %d, want about %v", c.rate, c.parallelism, got, next, c.want)
			}
		})
	}
}
