package reader

import (
	"context"
	"errors"
	"reflect"
	"sync"
)

// gate knows the splits of a reader and which of them are paused, and wakes the reader when that changes. Pause and
// Resume come from any goroutine; everything else from the fetch goroutine.
type gate struct {
	mu      sync.Mutex
	known   map[string]bool // id -> paused
	paused  int             // how many are
	reading string          // the split whose turn it is, or anySplit, or "" between turns
	cancel  context.CancelFunc

	changed chan struct{} // one signal is kept: something was paused or resumed since the last look

	// Touched by the fetch goroutine only: the turn's context, made anew if the caller's changed or it was cancelled.
	parent, turn context.Context
}

// anySplit as the split of a turn lets the pause of any split end it.
const anySplit = "*"

func newGate() gate { return gate{known: map[string]bool{}, changed: make(chan struct{}, 1)} }

// Pause holds splits back; see source.Pauser.
func (g *gate) Pause(ids ...string) { g.set(true, ids) }

// Resume lets paused splits be read again; see source.Pauser.
func (g *gate) Resume(ids ...string) { g.set(false, ids) }

func (g *gate) set(pause bool, ids []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	wake := false
	for _, id := range ids {
		was, known := g.known[id]
		if !known || was == pause {
			continue
		}
		g.known[id] = pause
		if pause {
			g.paused++
			wake = wake || g.reading == id || g.reading == anySplit
		} else {
			g.paused--
			wake = true
		}
	}
	if !wake {
		return
	}
	if g.reading != "" {
		g.cancel()
	}
	select {
	case g.changed <- struct{}{}:
	default:
	}
}

func (g *gate) add(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, known := g.known[id]; !known {
		g.known[id] = false
	}
}

func (g *gate) remove(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known[id] {
		g.paused--
	}
	delete(g.known, id)
}

// open says whether a split may be read, or, for anySplit, whether none is paused.
func (g *gate) open(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.paused == 0 || id != anySplit && !g.known[id]
}

// free is the number of splits that may be read.
func (g *gate) free() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.known) - g.paused
}

// begin starts a turn. Its context ends with ctx, or when the split is paused, or when another one is resumed. ok is false
// if the split was paused just before.
func (g *gate) begin(ctx context.Context, id string) (turn context.Context, ok bool) {
	if g.turn == nil || g.turn.Err() != nil || !same(g.parent, ctx) {
		g.end()
		turn, cancel := context.WithCancel(ctx)
		g.parent, g.turn = ctx, turn
		g.mu.Lock()
		old := g.cancel
		g.cancel = cancel
		g.mu.Unlock()
		if old != nil {
			old()
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.known[id] || id == anySplit && g.paused > 0 {
		return nil, false
	}
	g.reading = id
	return g.turn, true
}

// end ends a turn.
func (g *gate) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading = ""
}

// stop frees the context; the gate goes on working as a list.
func (g *gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reading = ""
	if g.cancel != nil {
		g.cancel()
	}
}

// woken says that a turn ended early for the gate's own reasons: err is no failure and the caller still wants records.
func woken(ctx, turn context.Context, err error) bool {
	return err != nil && turn.Err() != nil && ctx.Err() == nil &&
		(errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded))
}

func same(a, b context.Context) bool {
	return reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}
