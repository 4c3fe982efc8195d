package engine

import (
	"io"
	"slices"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/flight"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/state"
)

// part is one operator's share in the task's snapshots. Functions that are nil have nothing to add.
type part struct {
	name      string
	watermark int64
	ahead     []int64 // event time each key group has reached, where that is more; nil if nowhere
	scope     scope
	lists     *state.Lists
	prepare   func(epoch uint64) error // before the barrier goes on
	writer    func() ([]byte, error)
	handles   func() []sink.Handle
	completed func(epoch uint64)
	freed     func(sink.Slot)
	declined  func() error // an epoch that was asked for failed
}

// scope is keyed state without its types.
type scope interface {
	Capture()
	Sweep(budget int) (done bool)
	AbortCapture()
	Captured() *state.Snapshot
}

// capture is a snapshot being taken: the ack so far, the scopes still to be swept, and what is recorded of the input if the
// barriers have overtaken it.
type capture struct {
	ack     ack
	sweeps  []*part
	began   time.Time
	rec     *flight.Recorder // nil if the epoch was aligned
	stalled bool             // all is copied that is there; barriers haven't come
}

// ack is what a task answers to a barrier: everything of it that belongs to the epoch.
type ack struct {
	t        *task
	epoch    uint64
	splits   []store.Split
	ops      map[string]store.Task
	handles  []sink.Handle
	flights  []store.Flight
	pause    time.Duration // longest time the task was held up
	aligned  time.Duration // from the first barrier to the last, or until they were overtaken
	overtook bool
	inFlight int64 // bytes stored of what the barriers have overtaken
	bytes    int64
	err      error // the snapshot couldn't be written: the epoch is declined, the task goes on
}

func (t *task) addPart(name string) *part {
	p := &part{name: name, watermark: minTime}
	t.parts = append(t.parts, p)
	return p
}

func (t *task) addState(name string, s scope) *part {
	p := t.addPart(name)
	p.scope = s
	if t.restore != nil {
		p.watermark = t.restore.watermark(name, t.index)
	}
	return p
}

// align counts the barriers of an epoch; channels that have delivered theirs wait.
func (t *task) align(epoch uint64, from int) error {
	if epoch < t.aligning || epoch <= t.epoch || slices.Contains(t.aborted, epoch) {
		return nil
	}
	if epoch > t.aligning {
		t.in.unblockAll() // an older epoch was given up
		t.aligning, t.arrived, t.alignAt = epoch, 0, time.Now()
	}
	t.arrived++
	if t.arrived < len(t.chans) {
		if !t.job.cfg.AtLeastOnce {
			t.in.block(from)
		}
		return nil
	}
	t.in.unblockAll()
	t.aligning, t.arrived = 0, 0
	return t.barrier(epoch, nil)
}

// barrier takes the task's part of the cut: operators prepare, the barrier goes on, state is captured. Copying and writing
// follow while the task works on. One capture is copied at a time: an older one that isn't copied yet is dropped, since the
// epoch of this one, once complete, makes the other superfluous.
func (t *task) barrier(epoch uint64, rec *flight.Recorder) error {
	began := time.Now()
	if t.capture != nil {
		t.dropCapture()
	}
	t.aborted = slices.DeleteFunc(t.aborted, func(e uint64) bool { return e <= epoch })
	for _, p := range t.parts {
		if p.prepare != nil {
			if err := p.prepare(epoch); err != nil {
				return err
			}
		}
	}
	t.epoch = epoch
	for _, o := range t.outs {
		o.send(item{kind: itemBarrier, epoch: epoch})
	}
	c := &capture{
		began: began, rec: rec,
		ack: ack{t: t, epoch: epoch, ops: map[string]store.Task{}, overtook: rec != nil},
	}
	if !t.alignAt.IsZero() {
		c.ack.aligned, t.alignAt = began.Sub(t.alignAt), time.Time{}
	}
	for _, p := range t.parts {
		st := store.Task{Index: t.index, Watermark: p.watermark, Ahead: p.ahead}
		if p.writer != nil {
			b, err := p.writer()
			if err != nil {
				return sinkError(p.name, err)
			}
			st.Writer = b
		}
		if p.lists != nil {
			if err := putLists(p.lists, &st); err != nil {
				return fault.At(err, "operator "+p.name)
			}
		}
		if p.handles != nil {
			c.ack.handles = append(c.ack.handles, p.handles()...)
		}
		if p.scope != nil {
			p.scope.Capture()
			c.sweeps = append(c.sweeps, p)
		}
		c.ack.ops[p.name] = st
	}
	if t.src != nil {
		splits, err := t.src.positions()
		if err != nil {
			return err
		}
		c.ack.splits = splits
	}
	t.capture = c
	t.pausedFor(c, time.Since(began))
	t.sweep()
	return nil
}

// putLists encodes an operator's lists.
func putLists(l *state.Lists, st *store.Task) error {
	for _, name := range l.Names() {
		b, err := l.Encode(name)
		if err != nil {
			return err
		}
		st.Lists, st.Items = append(st.Lists, name), append(st.Items, b)
	}
	return nil
}

// pausedFor notes how long the task was held up by a snapshot.
func (t *task) pausedFor(c *capture, d time.Duration) {
	c.ack.pause = max(c.ack.pause, d)
	if int64(d) > t.stats.longestPause.Load() {
		t.stats.longestPause.Store(int64(d))
	}
}

// sweep copies a little more of the capture; when all is copied it is written on another goroutine.
func (t *task) sweep() {
	c := t.capture
	began := time.Now()
	for len(c.sweeps) > 0 && c.sweeps[0].scope.Sweep(sweepBytes) {
		c.sweeps = c.sweeps[1:]
		if len(c.sweeps) > 0 {
			break
		}
	}
	done := len(c.sweeps) == 0
	if done && c.rec != nil {
		done, c.stalled = c.rec.Walk(sweepBytes, c.peek)
		c.ack.inFlight = c.rec.Bytes
	}
	t.pausedFor(c, time.Since(began))
	if !done {
		return
	}
	t.capture = nil
	a := c.ack
	var snaps []namedSnapshot
	for _, p := range t.parts {
		if p.scope != nil {
			snaps = append(snaps, namedSnapshot{p.name, p.scope.Captured()})
		}
	}
	t.att.loops.Go(func() {
		a.err = t.att.writeSnapshots(&a, snaps)
		if a.err == nil && c.rec != nil {
			a.err = t.att.writeFlights(&a, c.rec)
		}
		if a.err == nil && t.ctx.Err() != nil {
			return
		}
		t.att.coord.post(a)
	})
}

type namedSnapshot struct {
	op   string
	snap *state.Snapshot
}

// writeSnapshots writes the keyed state of a task into the store, and puts where it is into the ack.
func (at *attempt) writeSnapshots(a *ack, snaps []namedSnapshot) error {
	for i, s := range snaps {
		st, err := a.ops[s.op], error(nil)
		var blob store.Blob
		var linked int64
		if d := a.t.disks[s.op]; d != nil && at.coord.storeOf(a.epoch) == at.job.store { // a savepoint has no files of backends
			linked, err = d.Link(a.epoch, blobName(s.op, a.t.index), s.snap, &st)
		}
		if err == nil {
			blob, err = at.writeSnapshot(a, s)
		}
		s.snap.Release()
		if err != nil {
			for _, rest := range snaps[i+1:] {
				rest.snap.Release()
			}
			return err
		}
		st.Keyed = &blob
		a.ops[s.op] = st
		a.bytes += blob.Size + linked
	}
	return nil
}

func (at *attempt) writeSnapshot(a *ack, s namedSnapshot) (store.Blob, error) {
	w, err := at.coord.storeOf(a.epoch).Create(a.epoch, blobName(s.op, a.t.index))
	if err != nil {
		return store.Blob{}, err
	}
	if _, err := s.snap.WriteTo(io.Writer(w)); err != nil {
		w.Abort()
		return store.Blob{}, err
	}
	return w.Finish()
}

// dropCapture gives up a snapshot that nobody wants any more.
func (t *task) dropCapture() {
	for _, p := range t.parts {
		if p.scope != nil {
			p.scope.AbortCapture()
		}
	}
	t.capture = nil
}

// abort is told that an epoch will not complete: what it prepared rides with the next.
func (t *task) abort(epoch uint64) {
	if epoch > t.epoch {
		t.aborted = append(t.aborted, epoch)
	}
	if t.capture != nil && t.capture.ack.epoch == epoch {
		t.dropCapture()
	}
	if t.aligning == epoch {
		t.in.unblockAll()
		t.aligning, t.arrived, t.alignAt = 0, 0, time.Time{}
	}
}

// declined is told that an epoch failed for a reason that a restart may mend.
func (t *task) declined() error {
	for _, p := range t.parts {
		if p.declined != nil {
			if err := p.declined(); err != nil {
				return err
			}
		}
	}
	return nil
}

// complete is told that an epoch is durable.
func (t *task) complete(epoch uint64) {
	for _, d := range t.disks {
		d.Complete(epoch)
	}
	for _, p := range t.parts {
		if p.completed != nil {
			p.completed(epoch)
		}
	}
	if t.src != nil {
		t.src.ack(epoch)
	}
}
