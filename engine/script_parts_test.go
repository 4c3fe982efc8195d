package engine

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// scriptSource is a source in its task: it has splits and positions, and does nothing by itself.
type scriptSource struct {
	a     *coordActor
	t     *task
	tx    *txNode[int]
	order []string
	at    map[string]int
	done  map[string]bool
}

func (s *scriptSource) say(format string, args ...any) {
	s.a.say("task %d: %s", s.t.index, fmt.Sprintf(format, args...))
}

func (s *scriptSource) addSplit(split any, _ int64) error {
	p := split.(place)
	if _, twice := s.at[p.Name]; twice {
		return fault.New(fault.Misplaced, "split %q was assigned twice", p.Name)
	}
	s.order = append(s.order, p.Name)
	s.at[p.Name] = p.At
	s.say("gets %s at %d", p.Name, p.At)
	return nil
}

func (s *scriptSource) hold(held bool) error {
	s.say("%s", map[bool]string{true: "holds event time", false: "lets event time go"}[held])
	return nil
}

func (s *scriptSource) positions() (out []store.Split, err error) {
	var kept []string
	for _, name := range s.order {
		b, err := source.EncodeSplit(place{name, s.at[name]})
		if err != nil {
			return nil, err
		}
		out = append(out, store.Split{ID: name, Position: b, Started: true, Finished: s.done[name], Watermark: minTime})
		if !s.done[name] {
			kept = append(kept, name)
		}
	}
	s.order = kept
	s.say("barrier %d", s.t.epoch)
	return out, nil
}

func (s *scriptSource) stop()                       { s.say("stops reading") }
func (s *scriptSource) end()                        { s.say("has no more input") }
func (s *scriptSource) ack(epoch uint64)            { s.say("hears that %d is complete", epoch) }
func (s *scriptSource) tick(time.Time, bool) error  { return nil }
func (s *scriptSource) read() int64                 { return 0 }
func (s *scriptSource) start(context.Context)       {}
func (s *scriptSource) advance(clock) error         { return nil }
func (s *scriptSource) allow(at int64, _ time.Time) { s.say("may read up to %s", showTime(at)) }

func showTime(at int64) string {
	if at == maxTime {
		return "any time"
	}
	return strconv.FormatInt(at, 10)
}

// move reads up to a position.
func (s *scriptSource) move(name string, at int) { s.at[name] = at }

// finish reads a split to its end, as sourceRun does.
func (s *scriptSource) finish(name string) {
	s.done[name] = true
	left := 0
	for _, n := range s.order {
		if !s.done[n] {
			left++
		}
	}
	p := place{name, s.at[name]}
	b, _ := source.EncodeSplit(p)
	s.a.c.post(splitFinished{s: s.a.s, task: s.t.index, id: name, at: p, pos: b, wanted: left == 0})
}

// scriptEnum deals splits to readers that have none, and has as many stages as the script says.
type scriptEnum struct{ stage, stages int }

func (e *scriptEnum) Discover(context.Context) ([]place, bool, error) { return nil, true, nil }
func (e *scriptEnum) Next(context.Context, []place) (bool, error)     { return false, nil }
func (e *scriptEnum) Last() bool                                      { return e.stage >= e.stages-1 }

func (e *scriptEnum) Snapshot() ([]byte, error) { return []byte(strconv.Itoa(e.stage)), nil }

func (e *scriptEnum) Restore(b []byte) (err error) {
	e.stage, err = strconv.Atoi(string(b))
	return err
}

func (e *scriptEnum) Assign(_ source.Event[place], to *source.Assignments[place]) {
	for _, r := range to.Readers() {
		if free := to.Unassigned(); to.Load(r) == 0 && len(free) > 0 {
			to.Give(r, free[0])
		}
	}
}

// scriptTx prepares handles named after their task and epoch.
type scriptTx struct {
	a    *coordActor
	task int
}

func (w *scriptTx) Begin(_ context.Context, s sink.Slot) error {
	w.a.say("task %d: begins a transaction in slot %d", w.task, s.ID)
	return nil
}
func (w *scriptTx) Write(context.Context, []int) error { return nil }
func (w *scriptTx) Prepare(_ context.Context, epoch uint64) (sink.Handle, error) {
	return sink.Handle{Token: fmt.Sprintf("h%d.%d", w.task, epoch)}, nil
}
func (w *scriptTx) Close() error { return nil }

// scriptStore keeps the newest record, and answers as the script says: "fail", "unknown" (not written), "unknown written".
type scriptStore struct {
	store.Store
	say       func(format string, args ...any)
	number    uint64
	newest    *store.Record
	answer    string
	committed map[string]bool
}

var errScripted = errors.New("as the script says")

func (s *scriptStore) NextEpoch() (uint64, error) {
	if s.answer == "none" {
		s.answer = ""
		return 0, errScripted
	}
	s.number++
	return s.number, nil
}

func (s *scriptStore) Publish(r *store.Record) error {
	answer := s.answer
	s.answer = ""
	switch answer {
	case "fail":
		return errScripted
	case "unknown":
		return fmt.Errorf("%w: %w", store.ErrUnknown, errScripted)
	}
	s.newest = r
	s.say("epoch %d is written: %s", r.Epoch, showRecord(r))
	if answer == "unknown written" {
		return fmt.Errorf("%w: %w", store.ErrUnknown, errScripted)
	}
	return nil
}

func (s *scriptStore) Discard(uint64)                 {}
func (s *scriptStore) Latest() (*store.Record, error) { return s.newest, nil }
func (s *scriptStore) IsCommitted(token string) bool  { return s.committed[token] }

func showRecord(r *store.Record) string {
	var out []string
	src := r.Sources["src"]
	for _, x := range src.Splits {
		p, err := source.DecodeSplit[place](x.Position)
		if err != nil {
			return err.Error()
		}
		how := ""
		switch {
		case x.Finished:
			how = " finished"
		case !x.Started:
			how = " unstarted"
		}
		out = append(out, fmt.Sprintf("%s@%d%s", p.Name, p.At, how))
	}
	if len(src.Enumerator) > 0 && string(src.Enumerator) != "0" {
		out = append(out, "stage "+string(src.Enumerator))
	}
	for _, h := range r.Handles {
		out = append(out, h.Token)
	}
	return strings.Join(out, ", ")
}
