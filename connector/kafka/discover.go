package kafka

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/source"
)

// enumerator finds partitions: once, and then at intervals if the topics may grow. It connects for each look only.
type enumerator struct {
	o settings
	t source.Task

	// Discover's goroutine only.
	reported map[string]bool // IDs
	down     bool            // the last look failed

	// known are the topics whose partitions the engine has in its table. It is what must be stored: a partition that turns
	// up in such a topic was added later and is read from its beginning, whatever Start says. It is taken from Assign and
	// not from Discover, so that it never runs ahead of the table in the same checkpoint.
	mu    sync.Mutex
	known map[string]bool
}

var (
	_ source.Enumerator[Split] = (*enumerator)(nil)
	_ source.Stateful          = (*enumerator)(nil)
)

func newEnumerator(o settings, t source.Task) *enumerator {
	return &enumerator{o: o, t: t, reported: make(map[string]bool), known: make(map[string]bool)}
}

// Discover implements source.Enumerator.
func (e *enumerator) Discover(ctx context.Context) ([]Split, bool, error) {
	if len(e.reported) == 0 {
		found, err := e.look(ctx)
		if err != nil {
			return nil, false, err
		}
		return found, e.o.every == 0, nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-time.After(e.o.every):
		}
		found, err := e.look(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, false, ctx.Err()
		case err == nil && e.down:
			e.t.Log.Info("looking for new kafka partitions works again")
			e.down = false
		case err != nil && !e.down:
			// What is known is being read all the same, and the reader has a policy for topics that are gone.
			e.t.Log.Warn("looking for new kafka partitions failed, retrying", "error", err)
			e.down = true
		}
		if err == nil && len(found) > 0 {
			return found, false, nil
		}
	}
}

// look returns the partitions not reported yet, with their positions.
func (e *enumerator) look(ctx context.Context) ([]Split, error) {
	cl, err := e.o.connect(&health{log: slog.New(slog.DiscardHandler), count: e.t.Metrics.Count}) // failures are told by who calls
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	known := e.knownTopics()
	var fresh []Split
	err = e.o.client.ask(ctx, e.o.brokers, func(ctx context.Context) error {
		found, err := e.o.find(ctx, cl, func(t string) bool { return e.o.deleted == DropIfDeleted && known[t] })
		if err != nil {
			return err
		}
		fresh = slices.DeleteFunc(found, func(s Split) bool { return e.reported[s.ID()] })
		if len(fresh) == 0 {
			return nil
		}
		return e.o.place(ctx, cl, fresh, known)
	})
	if err != nil {
		return nil, err
	}
	for _, s := range fresh {
		e.reported[s.ID()] = true
		if known[s.Topic] {
			e.t.Log.Info("kafka partition found", "split", s.ID(), "offset", s.Next)
		}
	}
	return fresh, nil
}

// knownTopics are those of the engine's table, and those this enumerator has reported before.
func (e *enumerator) knownTopics() map[string]bool {
	known := make(map[string]bool)
	e.mu.Lock()
	for t := range e.known {
		known[t] = true
	}
	e.mu.Unlock()
	if len(e.reported) > 0 {
		for _, t := range e.o.topics {
			known[t] = true
		}
	}
	return known
}

// Assign implements source.Enumerator: it gives each reader an equal share, also while readers are still coming up.
func (e *enumerator) Assign(ev source.Event[Split], to *source.Assignments[Split]) {
	if ev.Kind == source.Found {
		e.mu.Lock()
		for _, s := range ev.Splits {
			e.known[s.Topic] = true
		}
		e.mu.Unlock()
	}
	open := slices.Clone(to.Unassigned())
	readers := to.Readers()
	total := len(open)
	for _, r := range readers {
		total += to.Load(r)
	}
	n := max(e.t.Parallelism, len(readers), 1)
	share := (total + n - 1) / n
	for _, s := range open {
		r, ok := to.LeastLoaded()
		if !ok || to.Load(r) >= share {
			return
		}
		to.Give(r, s)
	}
}

// enumeratorState is what Snapshot stores.
type enumeratorState struct {
	Version int      `json:"version"`
	Topics  []string `json:"topics"`
}

// Snapshot implements source.Stateful.
func (e *enumerator) Snapshot() ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	st := enumeratorState{Version: 1}
	for t := range e.known {
		st.Topics = append(st.Topics, t)
	}
	slices.Sort(st.Topics)
	return json.Marshal(st)
}

// Restore implements source.Stateful.
func (e *enumerator) Restore(state []byte) error {
	var st enumeratorState
	if err := json.Unmarshal(state, &st); err != nil {
		return fault.Wrap(fault.BadPosition, err, "decode state of the kafka enumerator")
	}
	if st.Version != 1 {
		return fault.New(fault.NewerFormat, "state of the kafka enumerator has version %d", st.Version)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range st.Topics {
		e.known[t] = true
	}
	return nil
}
