package sim

import (
	"fmt"
	"sync"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
)

// world is what outlives processes: the disk, the destinations, what was promised to the outside.
type world struct {
	plan   *Plan
	disk   *storetest.Disk
	tables map[string]*table
	dead   *deadLetters

	mu       sync.Mutex
	wrongs   []string
	number   uint64          // highest epoch number handed out
	last     *store.Record   // newest complete epoch
	unsure   []*store.Record // published after it, with an unknown outcome
	recorded map[string]bool // tokens whose commit is in the ledger
	confirm  map[string]int  // by source and split: position acknowledged outside
	epochs   int
}

func newWorld(p *Plan) *world {
	w := &world{
		plan: p, disk: storetest.NewDisk(), tables: map[string]*table{}, recorded: map[string]bool{}, confirm: map[string]int{},
		dead: &deadLetters{seen: map[string]int{}},
	}
	for _, t := range p.tails {
		w.tables[t.name] = newTable(w, t.name)
		if t.kind >= tailWindow {
			w.tables[t.name+".late"] = newTable(w, t.name+".late")
		}
	}
	return w
}

// wrong notes that a property doesn't hold.
func (w *world) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wrongs) < 20 {
		w.wrongs = append(w.wrongs, fmt.Sprintf(format, args...))
	}
}

// acked notes that a position was acknowledged outside: no reader may begin before it again.
func (w *world) acked(src, split string, next int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	k := src + " " + split
	w.confirm[k] = max(w.confirm[k], next)
}

func (w *world) opened(src, split string, next int) {
	w.mu.Lock()
	was := w.confirm[src+" "+split]
	w.mu.Unlock()
	if next < was {
		w.wrong("split %s of %s is read from %d, but %d was acknowledged outside", split, src, next, was)
	}
}
