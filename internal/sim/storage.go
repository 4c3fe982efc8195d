package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/hybrid"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// storage is the checkpoint directory of one process: it fails as planned, and looks at everything that is published.
type storage struct {
	store.Store
	inc *incarnation
	ctx context.Context
}

// open is for engine.Config.Store.
func (i *incarnation) open(o store.Options) (store.Store, error) {
	o.FS = i.disk
	if i.run.disk > 0 {
		i.disk.FailAt(i.run.disk, map[bool]error{true: errDead, false: errPlanned}[i.run.dies], i.run.applied, i.run.dies)
	}
	d, err := store.Open("/state", o)
	if err != nil {
		return nil, i.noticed(err)
	}
	i.w.learn(d)
	return storage{d, i, context.Background()}, nil
}

// learn asks a ledger what it has: a record of a commit may have got there although the process died of it.
func (w *world) learn(d store.Store) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.tables {
		for token := range t.done {
			if d.IsCommitted(token) {
				w.recorded[token] = true
			}
		}
	}
}

// noticed kills the process when its disk has died.
func (i *incarnation) noticed(err error) error {
	if errors.Is(err, errDead) {
		i.kill()
		return sink.Permanent(err)
	}
	return err
}

// NextEpoch implements store.Epochs.
func (s storage) NextEpoch() (uint64, error) {
	if err := s.inc.at(s.ctx, atNumber); err != nil {
		return 0, err
	}
	n, err := s.Store.NextEpoch()
	if err != nil {
		return 0, s.inc.noticed(err)
	}
	w := s.inc.w
	w.mu.Lock()
	again := n <= w.number && !s.inc.isDead()
	w.number = max(w.number, n)
	w.mu.Unlock()
	if again {
		w.wrong("epoch number %d is handed out again", n)
	}
	return n, nil
}

// Create implements store.Blobs.
func (s storage) Create(epoch uint64, name string) (store.Writer, error) {
	if err := s.inc.at(s.ctx, atBlob); err != nil {
		return nil, err
	}
	w, err := s.Store.Create(epoch, name)
	return w, s.inc.noticed(err)
}

// Publish implements store.Epochs.
func (s storage) Publish(r *store.Record) error {
	if err := s.inc.at(s.ctx, atPublish); err != nil {
		return err
	}
	w := s.inc.w
	if !s.inc.isDead() {
		w.check(r)
	}
	err := s.Store.Publish(r)
	w.mu.Lock()
	switch {
	case s.inc.isDead() && err != nil, errors.Is(err, store.ErrUnknown):
		w.unsure = append(w.unsure, r)
	case err == nil:
		w.last, w.unsure = r, nil
		w.epochs++
	}
	w.mu.Unlock()
	if err != nil {
		return s.inc.noticed(err)
	}
	if err := s.inc.at(s.ctx, atPublished); err != nil {
		return fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	return nil
}

// Latest implements store.Epochs.
func (s storage) Latest() (*store.Record, error) {
	r, err := s.Store.Latest()
	w := s.inc.w
	if err != nil || s.inc.isDead() {
		return r, s.inc.noticed(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := slices.IndexFunc(w.unsure, func(u *store.Record) bool { return r != nil && u.Epoch == r.Epoch }); i >= 0 {
		w.last = w.unsure[i]
	}
	w.unsure = nil
	switch {
	case w.last == nil && r != nil:
		w.wrongs = append(w.wrongs, fmt.Sprintf("epoch %d is restored, but none was published", r.Epoch))
	case w.last != nil && (r == nil || r.Epoch != w.last.Epoch):
		w.wrongs = append(w.wrongs, fmt.Sprintf("epoch %d is restored, but %d is the newest", numberOf(r), w.last.Epoch))
	}
	return r, nil
}

func numberOf(r *store.Record) uint64 {
	if r == nil {
		return 0
	}
	return r.Epoch
}

// Committed implements store.Ledger.
func (s storage) Committed(hs []sink.Handle) error {
	if err := s.inc.at(s.ctx, atRecorded); err != nil {
		return err
	}
	w := s.inc.w
	for _, h := range hs {
		t := w.tables[h.Operator]
		t.mu.Lock()
		early := !t.done[h.Token] && !s.inc.isDead()
		t.mu.Unlock()
		if early {
			w.wrong("%s: the commit of %s is recorded before it is done", h.Operator, h.Token)
		}
	}
	if err := s.Store.Committed(hs); err != nil {
		return s.inc.noticed(err)
	}
	w.mu.Lock()
	for _, h := range hs {
		w.recorded[h.Token] = true
	}
	w.mu.Unlock()
	return s.inc.at(s.ctx, atNoted)
}

// Grant implements store.Ledger.
func (s storage) Grant(op string, upTo int) error {
	if err := s.inc.at(s.ctx, atGrant); err != nil {
		return err
	}
	return s.inc.noticed(s.Store.Grant(op, upTo))
}

// check looks at a record that is about to become the newest.
func (w *world) check(r *store.Record) {
	w.mu.Lock()
	last, number := w.last, w.number
	w.mu.Unlock()
	if r.Epoch > number || last != nil && r.Epoch <= last.Epoch {
		w.wrong("epoch %d is published, numbers were given up to %d", r.Epoch, number)
	}
	for name, op := range r.Operators {
		for i, t := range op.Tasks {
			if t.Index != i {
				w.wrong("epoch %d: tasks of %s are %v", r.Epoch, name, op.Tasks)
			}
		}
		if len(op.Tasks) > 0 && len(op.Tasks) != op.Parallelism {
			w.wrong("epoch %d: %s has %d tasks of %d", r.Epoch, name, len(op.Tasks), op.Parallelism)
		}
	}
	slots, tokens := map[string]string{}, map[string]bool{}
	for _, h := range r.Handles {
		at := fmt.Sprint(h.Operator, " ", h.Slot.ID)
		if tokens[h.Token] || slots[at] != "" {
			w.wrong("epoch %d: slot %s holds %s and %s", r.Epoch, at, slots[at], h.Token)
		}
		tokens[h.Token], slots[at] = true, h.Token
		if h.Epoch > r.Epoch {
			w.wrong("epoch %d has a handle of epoch %d", r.Epoch, h.Epoch)
		}
	}
	for _, s := range w.plan.sources {
		w.checkSource(r, last, s)
	}
	if c := w.plan.cfg; w.plan.exact && r.End != store.Drained && !c.Unaligned && !c.AtLeastOnce { // at the end of an input, the last step of its event time needn't be told
		for _, t := range w.plan.tails {
			w.checkTime(r, t)
		}
	}
}

// checkTime demands that event time isn't held back: at a barrier a tail has reached the lowest time of the splits that are
// being read, if all that is known of its sources is being read or finished.
func (w *world) checkTime(r *store.Record, t *tailSpec) {
	at := int64(math.MaxInt64)
	for _, i := range t.sources {
		src := r.Sources[w.plan.sources[i].name]
		if !src.Discovered || w.plan.sources[i].hybrid && stageOf(src) == 0 {
			return
		}
		for _, x := range src.Splits {
			if !x.Started {
				return
			}
			if !x.Finished {
				at = min(at, x.Watermark)
			}
		}
	}
	if at == math.MaxInt64 {
		return
	}
	for _, name := range []string{t.name + ".timer", t.name + ".window"} {
		for _, task := range r.Operators[name].Tasks {
			if task.Watermark < at {
				w.wrong("epoch %d: %s/%d is at %d, the splits are all at %d or later", r.Epoch, name, task.Index, task.Watermark, at)
			}
		}
	}
}

// stageOf is the stage a hybrid has got to.
func stageOf(s store.Source) int {
	var seam struct{ Stage int }
	_ = json.Unmarshal(s.Enumerator, &seam)
	return seam.Stage
}

// switched demands that the switch of a hybrid to its second stage is in a complete epoch.
func (w *world) switched(s *sourceSpec) {
	w.mu.Lock()
	stage := 0
	for _, r := range append(w.unsure[:len(w.unsure):len(w.unsure)], w.last) {
		if r != nil {
			stage = max(stage, stageOf(r.Sources[s.name]))
		}
	}
	w.mu.Unlock()
	if stage == 0 {
		w.wrong("the second stage of %s begins before its epoch is complete", s.name)
	}
}

// checkSource looks at the split table of one source.
func (w *world) checkSource(r, last *store.Record, s *sourceSpec) {
	old := map[string]store.Split{}
	if last != nil {
		for _, x := range last.Sources[s.name].Splits {
			old[x.ID] = x
		}
	}
	seen := map[string]bool{}
	for _, x := range r.Sources[s.name].Splits {
		if seen[x.ID] {
			w.wrong("epoch %d: split %s of %s is there twice", r.Epoch, x.ID, s.name)
		}
		seen[x.ID] = true
		at, err := s.position(x)
		if err != nil {
			w.wrong("epoch %d: split %s of %s: %v", r.Epoch, x.ID, s.name, err)
			continue
		}
		if x.Finished != (at.Next == at.End) && x.Finished || at.Next > at.End {
			w.wrong("epoch %d: split %s of %s is at %d of %d, finished: %v", r.Epoch, x.ID, s.name, at.Next, at.End, x.Finished)
		}
		before, ok := old[x.ID]
		if !ok {
			continue
		}
		was, _ := s.position(before)
		if at.Next < was.Next || before.Finished && !x.Finished || before.Watermark > x.Watermark && !x.Finished {
			w.wrong("epoch %d: split %s of %s goes back from %d at %d to %d at %d", r.Epoch, x.ID, s.name,
				was.Next, before.Watermark, at.Next, x.Watermark)
		}
	}
	for id := range old {
		if !seen[id] {
			w.wrong("epoch %d: split %s of %s is lost", r.Epoch, id, s.name)
		}
	}
}

func (s *sourceSpec) position(x store.Split) (Pos, error) {
	b := x.Position
	if s.hybrid {
		h, err := source.DecodeSplit[hybrid.Split](b)
		if err != nil {
			return Pos{}, err
		}
		if b, err = h.Inner(); err != nil {
			return Pos{}, err
		}
	}
	return source.DecodeSplit[Pos](b)
}
