package blob_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/blob"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/internal/fault"
)

// TestSlow runs the script on a store where each request takes a second.
func TestSlow(t *testing.T) {
	seed := newSeed(t)
	bubble.Test(t, func(t *testing.T) {
		f := &faulty{Bucket: newMemory(), slow: time.Second}
		h := script(f, seed, 30, true)
		if h.failed != nil {
			t.Fatal(h.failed)
		}
		h.check(t, f)
	})
}

// TestLongPause lets an owner sleep until the number it will use next was taken, and deleted again with other old entries.
func TestLongPause(t *testing.T) {
	m := newMemory()
	h := script(m, newSeed(t), 20, true)
	if h.failed != nil {
		t.Fatal(h.failed)
	}
	before, err := m.List(t.Context(), "log/", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	other, err := blob.OpenBucket(m, options())
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		n, err := other.NextEpoch()
		if err == nil {
			err = other.Publish(&store.Record{Epoch: n})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	list, err := m.List(t.Context(), "log/", "", 0)
	if err != nil || len(list) > 40 || list[0].Key <= before[len(before)-1].Key {
		t.Fatalf("%d entries from %s on (%v)", len(list), list[0].Key, err)
	}
	if err := h.publish(); fault.CodeOf(err) != fault.Fenced.ID {
		t.Fatalf("a late publish on a number that is free again was told %v", err)
	}
	last := other.Records()
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	h.published, h.trying = last[len(last)-1].Epoch, 0
	h.highest, h.committed = h.published, nil
	h.check(t, m)
}

// late is a bucket whose creates of entries time out, and are done later.
type late struct {
	*memory
	held []func() error
	on   bool
}

func (l *late) Create(ctx context.Context, key string, data []byte) error {
	if !l.on {
		return l.memory.Create(ctx, key, data)
	}
	l.held = append(l.held, func() error { return l.memory.Create(ctx, key, data) })
	return context.DeadlineExceeded
}

// TestLateRequest has a create arrive after its owner was told that nobody knows: before it asks, before another process
// takes over, and after that.
func TestLateRequest(t *testing.T) {
	for _, when := range []string{"before asking", "before taking over", "after taking over"} {
		t.Run(when, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				l := &late{memory: newMemory()}
				h := script(l, 7, 20, true)
				if h.failed != nil {
					t.Fatal(h.failed)
				}
				was := h.published
				n, err := h.number()
				if err != nil {
					t.Fatal(err)
				}
				l.on = true
				err = h.s.Publish(&store.Record{Epoch: n})
				if !errors.Is(err, store.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("publish without an answer: %v", err)
				}
				h.s.Discard(n)
				if _, err := h.s.Latest(); !errors.Is(err, store.ErrUnknown) {
					t.Fatalf("asked while nothing answers: %v", err)
				}
				l.on = false
				arrive := func() {
					for _, f := range l.held {
						_ = f() // only the first can succeed
					}
				}
				switch when {
				case "before asking":
					arrive()
					if r, err := h.s.Latest(); err != nil || r.Epoch != n {
						t.Fatalf("latest is %v, %v", r, err)
					}
					h.published = n
				case "before taking over":
					arrive()
					h.published = n
				default:
					s, err := blob.OpenBucket(l, options())
					if err != nil {
						t.Fatal(err)
					}
					arrive()
					if r, err := s.Latest(); err != nil || r.Epoch != was {
						t.Fatalf("latest is %v, %v", r, err)
					}
				}
				h.trying = 0
				h.check(t, l)
			})
		})
	}
}

// careless is a bucket that overwrites.
type careless struct{ *memory }

func (c careless) Create(_ context.Context, key string, data []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[key] = data
	return nil
}

func TestCarelessStoreIsRefused(t *testing.T) {
	m := newMemory()
	_, err := blob.OpenBucket(careless{m}, options())
	wantCode(t, err, fault.NoCreate, "second create", "If-None-Match")
	if len(m.objects) != 0 {
		t.Errorf("left behind: %d objects", len(m.objects))
	}
}

// TestLostLog damages the log itself.
func TestLostLog(t *testing.T) {
	var (
		m    *memory
		h    *history
		list []blob.Object
		err  error
	)
	for seed := newSeed(t); len(list) < 2; seed++ { // a run may end with what it did dropped but for one entry
		m = newMemory()
		h = script(m, seed, 40, true)
		if list, err = m.List(t.Context(), "log/", "", 0); err != nil || h.failed != nil {
			t.Fatal(err, h.failed)
		}
	}
	for name, key := range map[string]string{"newest": list[len(list)-1].Key, "middle": list[len(list)-2].Key} {
		m := &memory{objects: maps.Clone(m.objects)}
		m.objects[key] = m.objects[key][:20]
		_, err := blob.OpenBucket(m, options())
		wantCode(t, err, fault.DamagedEpoch, key)
		o := options()
		o.Salvage = true
		s, err := blob.OpenBucket(m, o)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // also for the next process it's a loss until an epoch is complete
			_, err = s.Latest()
			if name == "newest" {
				wantCode(t, err, fault.DamagedEpoch, "log/")
			} else if err != nil {
				t.Fatal(err)
			}
			_ = s.Close()
			if s, err = blob.OpenBucket(m, options()); err != nil {
				t.Fatal(err)
			}
		}
		if name == "newest" {
			if r, err := s.Fallback(); err != nil || r == nil {
				t.Fatalf("fallback is %v, %v", r, err)
			}
		}
		n, err := s.NextEpoch()
		if err != nil || n <= h.highest {
			t.Fatalf("next epoch is %d after %d (%v)", n, h.highest, err)
		}
		if err := s.Publish(&store.Record{Epoch: n}); err != nil {
			t.Fatal(err)
		}
		if r, err := s.Latest(); err != nil || r.Epoch != n {
			t.Errorf("latest is %v, %v", r, err)
		}
	}
	for _, o := range list {
		delete(m.objects, o.Key)
	}
	_, err = blob.OpenBucket(m, options())
	wantCode(t, err, fault.DamagedEpoch, "its log is gone", "lifecycle")
}
