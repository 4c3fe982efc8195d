package engine_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/enginetest"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/source"
)

// acked is a source whose readers want to know what is durable, and a store that knows it.
type acked struct {
	*enginetest.Script[int]

	mu      sync.Mutex
	durable map[string]int // position by split, of the newest complete epoch
	calls   []enginetest.Place
	wrong   []string
}

type ackReader struct {
	source.Reader[int, enginetest.Place]
	s *acked
}

func (s *acked) Reader(ctx context.Context, t source.Task) (source.Reader[int, enginetest.Place], error) {
	r, err := s.Script.Reader(ctx, t)
	return ackReader{r, s}, err
}

func (r ackReader) Unwrap() any { return r.Reader }

func (r ackReader) Ack(_ context.Context, at []enginetest.Place) error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	for _, p := range at {
		if d, ok := r.s.durable[p.Name]; !ok || p.Next > d {
			r.s.wrong = append(r.s.wrong, fmt.Sprintf("%s at %d was acked, durable is %d", p.Name, p.Next, d))
		}
	}
	r.s.calls = append(r.s.calls, at...)
	return nil
}

type knowingStore struct {
	store.Store
	s *acked
}

func (k knowingStore) Publish(rec *store.Record) error {
	if err := k.Store.Publish(rec); err != nil {
		return err
	}
	k.s.mu.Lock()
	defer k.s.mu.Unlock()
	for _, row := range rec.Sources["in"].Splits {
		p, err := source.DecodeSplit[enginetest.Place](row.Position)
		if err != nil {
			return err
		}
		k.s.durable[p.Name] = p.Next
	}
	return nil
}

// TestAckOnlyWhatIsDurable acknowledges outside only positions that a complete checkpoint holds, and at last the end of
// each split.
func TestAckOnlyWhatIsDurable(t *testing.T) {
	src := &acked{Script: &enginetest.Script[int]{Splits: map[string][]enginetest.Step[int]{}}, durable: map[string]int{}}
	for _, name := range []string{"a", "b", "c"} {
		var steps []enginetest.Step[int]
		for i := range 30 {
			steps = append(steps, enginetest.Rec(i), enginetest.Wait[int](time.Millisecond))
		}
		src.Splits[name] = append(steps, enginetest.Crash[int](), enginetest.Wait[int](20*time.Millisecond), enginetest.Rec(99), enginetest.Wait[int](20*time.Millisecond))
	}
	dir := t.TempDir()
	enginetest.Run(t, engine.Config{Name: "acks", Parallelism: 2, Store: func(o store.Options) (store.Store, error) {
		d, err := store.Open(dir, o)
		return knowingStore{d, src}, err
	}}, func(p *engine.Pipeline) {
		engine.To(engine.From(p, "in", src), "out", &enginetest.Collect[int]{})
	})
	if len(src.wrong) > 0 {
		t.Errorf("%d wrong acks, the first: %s", len(src.wrong), src.wrong[0])
	}
	if len(src.calls) < 10 || !slices.ContainsFunc(src.calls, func(p enginetest.Place) bool { return p.Next > 60 }) {
		t.Errorf("%d acks: %v", len(src.calls), src.calls)
	}
}
