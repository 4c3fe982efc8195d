package deadletter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// How many letters are written at once, and how many between two flushes of a plain sink.
const (
	batchLetters = 200
	flushLetters = 2000
)

// Replay writes letters of one sink's operator through that sink again. All fields are needed, unless they say otherwise.
type Replay struct {
	From     Log
	Operator string // whose letters, as they say it
	Filter   Filter // which of them; Operator is ignored. Unset: all
	To       Outlet
	Task     sink.Task // for the sink; its Operator is what the operator is called now
	Slot     string    // the name of the slot of the transaction, if there is one: no other may have it

	// Refused keeps letters whose records the destination refuses again, with the new cause, and returns when they are safe: they
	// count as replayed afterwards. A replay that dies may hand over the same ones again.
	Refused func(ls []Letter) error

	DryRun bool // count only: nothing is written, nothing remembered
}

// Result is what a replay has done.
type Result struct {
	Chosen     int   // letters that the filter chooses
	Before     int   // of these, written by an earlier replay
	Sent       int   // written and taken by the destination; with DryRun, that would be written
	Refused    int   // written and refused again
	Unreadable int   // without a record, or with one that isn't of the sink's type; they stay as they are
	Why        error // why the first of those can't be read
	Finished   int   // letters of a transaction that an earlier replay had left, which was committed first
}

// Run writes all that is chosen and wasn't written before. After an error, what was delivered until then is remembered as far as the
// package comment says, and Run may be called again.
func (r Replay) Run(ctx context.Context) (res Result, err error) {
	r.Filter.Operator = r.Operator
	if err := r.To.check(); err != nil {
		return res, err
	}
	if !r.DryRun {
		unlock, err := r.From.Lock(ctx, r.Operator)
		if err != nil {
			return res, err
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	data, err := r.From.Marks(ctx, r.Operator)
	if err != nil {
		return res, err
	}
	m, err := readMarks(data, r.Operator)
	if err != nil {
		return res, err
	}
	p := &replaying{Replay: r, res: &res, marks: m, now: map[string]ranges{}}
	if err := p.open(ctx); err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	err = r.From.Scan(ctx, func(at Place, l Letter) error { return p.letter(ctx, at, l) })
	if err == nil {
		err = p.settle(ctx)
	}
	return res, err
}

// replaying is a Replay under way.
type replaying struct {
	Replay
	res   *Result
	marks marks
	flow  outflow
	now   map[string]ranges // taken since the last settle, by part
	taken int               // as many letters
	held  int               // taken since the last send
}

// open begins, with what an earlier replay had left.
func (p *replaying) open(ctx context.Context) (err error) {
	left := p.marks.Pending
	if left != nil && !p.To.inOne() {
		return fault.New(fault.DeadLetters, "an earlier replay has left a transaction, and the sink isn't two-phase any more").At("operator " + p.Operator).
			WithFix("replay once more by a binary with the sink of that time, which finishes the transaction")
	}
	if left != nil {
		p.marks.merge(left.Done)
		p.marks.Pending = nil
	}
	if p.DryRun {
		return nil
	}
	var keep []sink.Handle
	if left != nil {
		keep = []sink.Handle{left.Handle}
	}
	if p.flow, err = p.To.open(ctx, p.Task, sink.Slot{Name: p.Slot}, keep); err != nil || left == nil {
		return err
	}
	for _, rs := range left.Done {
		for _, r := range rs {
			p.res.Finished += int(r[1] - r[0] + 1)
		}
	}
	if err := p.save(ctx); err != nil {
		return errors.Join(err, p.close())
	}
	return nil
}

func (p *replaying) close() error {
	if p.flow == nil {
		return nil
	}
	return p.flow.close()
}

func (p *replaying) letter(ctx context.Context, at Place, l Letter) error {
	if !p.Filter.Takes(l) {
		return nil
	}
	p.res.Chosen++
	if p.marks.has(at) || p.now[at.Part].has(at.N) {
		p.res.Before++
		return nil
	}
	if err := p.To.reads(l); err != nil {
		if p.res.Unreadable++; p.res.Why == nil {
			p.res.Why = fmt.Errorf("letter %d of %s: %w", at.N, at.Part, err)
		}
		return nil
	}
	p.res.Sent++
	if p.DryRun {
		return nil
	}
	if err := p.flow.take(l); err != nil {
		return err
	}
	p.now[at.Part] = p.now[at.Part].add(at.N, at.N)
	p.taken++
	if p.held++; p.held == batchLetters {
		if err := p.send(ctx); err != nil {
			return err
		}
	}
	if p.taken >= flushLetters && !p.To.inOne() {
		return p.settle(ctx)
	}
	return nil
}

func (p *replaying) send(ctx context.Context) error {
	if p.held == 0 {
		return nil
	}
	p.held = 0
	refused, err := p.flow.send(ctx)
	return p.keep(refused, err)
}

// keep hands over what is refused, also if something failed.
func (p *replaying) keep(refused []Letter, err error) error {
	if len(refused) > 0 {
		p.res.Sent -= len(refused)
		p.res.Refused += len(refused)
		err = errors.Join(err, p.Refused(refused))
	}
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fault.Ensure(fault.SinkFailed, err, "write dead letters again")
}

// settle sees to it that what was taken is delivered, and remembers it.
func (p *replaying) settle(ctx context.Context) error {
	if p.taken == 0 {
		return nil
	}
	if err := p.send(ctx); err != nil {
		return err
	}
	p.marks.Epoch = max(p.marks.Epoch+1, uint64(time.Now().Unix())) //nolint:gosec // after 1970
	refused, h, err := p.flow.settle(ctx, p.marks.Epoch)
	if err := p.keep(refused, err); err != nil {
		return err
	}
	if h != nil {
		p.marks.Pending = &pending{Handle: *h, Done: p.now}
		if err := p.save(ctx); err != nil {
			return err
		}
		if err := p.flow.commit(ctx, *h); err != nil {
			return fault.Ensure(fault.CommitFailed, err, "commit what was written again")
		}
		p.marks.Pending = nil
	}
	p.marks.merge(p.now)
	p.now, p.taken = map[string]ranges{}, 0
	return p.save(ctx)
}

// save stores the marks. It is tried also after an interrupt, since what they say has happened.
func (p *replaying) save(ctx context.Context) error {
	data, err := json.Marshal(p.marks)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return p.From.SetMarks(ctx, p.Operator, data)
}
