package engine

import (
	"fmt"
	"io"
	"slices"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/flight"
)

// tryOvertake takes the task's part of an epoch before its barriers have arrived: what is queued before them is stored with
// it. It waits until windows that fire have fired, until records that were stored are here, and for broadcast channels.
func (t *task) tryOvertake() error {
	epoch := t.overtaking
	if epoch <= t.epoch || epoch < t.aligning || slices.Contains(t.aborted, epoch) {
		t.overtaking = 0
		return nil
	}
	if t.busyWork || t.replaying > 0 {
		return nil
	}
	rec := &flight.Recorder{Logs: map[any][]byte{}}
	for _, c := range t.in.chans {
		over := c.blocked && t.aligning == epoch
		if !over && c.link.codec == nil {
			return nil
		}
		rec.Channels = append(rec.Channels, flight.Channel{Link: c.link, Codec: c.link.codec, Sender: c.from, Over: over})
	}
	t.overtaking, t.aligning, t.arrived = 0, 0, 0
	t.in.unblockAll()
	return t.barrier(epoch, rec)
}

// inFlight is an item as a recorder of the epoch sees it.
func (it item) inFlight(epoch uint64) flight.Item {
	if it.kind == itemBatch {
		return flight.Item{Batch: it.payload}
	}
	return flight.Item{Barrier: it.kind == itemBarrier && it.epoch >= epoch}
}

// peek shows the recorder what is queued.
func (c *capture) peek(i, n int) (flight.Item, bool) {
	it, ok := c.ack.t.in.peek(i, n)
	return it.inFlight(c.ack.epoch), ok
}

// writeFlights writes the records in flight to a task into the store.
func (at *attempt) writeFlights(a *ack, r *flight.Recorder) error {
	if r.Err != nil {
		return r.Err
	}
	for key, b := range r.Logs {
		l := key.(*link)
		f := store.Flight{From: l.from.name, Port: l.port, To: l.to.name, Index: a.t.index}
		w, err := at.job.store.Create(a.epoch, fmt.Sprintf("in-flight-%s-%s-%s-%d", f.From, f.Port, f.To, f.Index))
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := w.Write(b); err != nil {
			return err
		}
		if f.Blob, err = w.Finish(); err != nil {
			return err
		}
		a.flights = append(a.flights, f)
	}
	return nil
}

// linkOf finds the link that records in flight belong to; nil if it is gone.
func (p *Pipeline) linkOf(f store.Flight) *link {
	if v := p.byName[f.To]; v != nil {
		for _, l := range v.inputs {
			if l.from.name == f.From && l.port == f.Port {
				return l
			}
		}
	}
	return nil
}

// keepFlights sees to it that records in flight find their link: it must exist, and must not be fused away.
func (j *job) keepFlights(rec *store.Record) error {
	for _, f := range rec.InFlight {
		if l := j.p.linkOf(f); l != nil {
			l.stored = true
		} else if !j.cfg.AllowDropped {
			return fault.New(fault.DroppedState, "epoch %d has records in flight from %s to %s", rec.Epoch, f.From, f.To).
				WithFix("resume from an aligned checkpoint, such as that of a stop, before you change the graph; or leave them behind with -allow-dropped")
		}
	}
	return nil
}

// replay puts records that were in flight back into the queues, before anything else. At the same parallelism each batch goes
// where it was, otherwise its records are dealt anew. They bring no clock: what their sender knew of event time then holds
// for the splits it had then, and it may have others now.
func (a *attempt) replay(rec *store.Record) error {
	for _, f := range rec.InFlight {
		l := a.job.p.linkOf(f)
		if l == nil || l.to.region != a.region {
			continue
		}
		to := -1
		if rec.Operators[f.From].Parallelism == l.from.tasks && rec.Operators[f.To].Parallelism == l.to.tasks {
			to = f.Index
		}
		err := (&restorer{job: a.job}).blob(f.Blob, func(rd store.Reader) error {
			b, err := io.ReadAll(io.NewSectionReader(rd, 0, rd.Size()))
			if err != nil {
				return err
			}
			return l.codec.Read(b, func(sender int, batch any) error {
				return a.byHead[l.from.head][sender%l.from.tasks].edges[l].replay(batch, to)
			})
		})
		if err != nil {
			return fault.Wrap(fault.BadState, err, "take back records in flight from %s", f.From).At("operator " + f.To)
		}
	}
	// Whoever has stored records takes nothing new before it has them all: a split may be read by another task than before,
	// and its newer records would overtake.
	for _, t := range a.tasks {
		if t.src == nil && slices.ContainsFunc(t.in.chans, func(c *channel) bool { return c.queued.Load() > 0 }) {
			t.replaying = len(t.in.chans)
			for _, c := range t.in.chans {
				c.put(item{kind: itemReplayed})
			}
		}
	}
	return nil
}

// checkFlights refuses records on exchanges that can't be stored.
func (p *Pipeline) checkFlights() (errs []error) {
	p.plan()
	for _, v := range p.vertices {
		for _, l := range v.inputs {
			if l.fused || l.flight == nil {
				continue
			}
			if _, err := l.flight(); err != nil {
				errs = append(errs, fault.Wrap(fault.BadType, err, "records from %q to %q can't be stored, as Unaligned wants", l.from.name, v.name).At(v.line))
			}
		}
	}
	return errs
}
