package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/source"
)

// PoisonPolicy says what happens to a record that can't be decoded, processed or written.
type PoisonPolicy int

// The policies.
const (
	PoisonFail       PoisonPolicy = iota // the job fails and shows the record; nothing is lost
	PoisonSkip                           // the record is counted and logged, and the job goes on
	PoisonDeadLetter                     // the record goes to the dead letter sink, in the same epoch
)

// Poison is the one policy for bad records, the same in every operator.
type Poison struct {
	Policy PoisonPolicy // default: PoisonFail

	// Budget is how many bad records a minute each task may have before the job fails all the same.
	// 0 = 1000, negative = no limit.
	Budget int
}

// DeadLetter is a bad record with its provenance.
type DeadLetter struct {
	Operator string
	Raw      []byte    // what was read, if it could not be decoded
	Value    string    // the value, printed, if it could
	At       string    // split and position, if known
	Key      string    // the key, printed, if it has one by now
	Time     time.Time // event time; zero if none
	Epoch    uint64    // the epoch the record belongs to
	Cause    string
}

// Errors is the stream of bad records of the operator that made s, which then don't go by Config.Poison: each becomes a record
// here, in the same epoch, with the event time it had. The policy's budget still holds. Bad records of sinks go to DeadLetters.
func (s Stream[T]) Errors() Stream[DeadLetter] {
	out := Stream[DeadLetter]{p: s.p}
	for _, u := range s.ups {
		if u.v != nil {
			u.v.errors = true
			out.ups = append(out.ups, streamOf[DeadLetter](s.p, u.v, portDead).ups...)
		}
	}
	return out
}

var errNaNKey = errors.New("the key contains NaN, which equals no key")

// poisoner applies the policy for one operator in one task. It belongs to the task's goroutine.
type poisoner struct {
	op     string
	stats  *opStats
	policy Poison
	log    *slog.Logger
	task   *task
	dead   node[DeadLetter] // nil unless dead letters are wanted
	one    source.Batch[DeadLetter]

	minute time.Time
	inMin  int
}

// record handles a bad value; a non-nil result fails the task.
func (p *poisoner) record(v any, at int64, where string, cause error) error {
	d := DeadLetter{Value: shorten(fmt.Sprintf("%+v", v)), At: where}
	return p.handle(d, at, cause)
}

// keyed handles a bad value that has its key.
func (p *poisoner) keyed(v, key any, at int64, cause error) error {
	d := DeadLetter{Value: shorten(fmt.Sprintf("%+v", v)), Key: shorten(fmt.Sprintf("%+v", key))}
	return p.handle(d, at, cause)
}

// reject handles what a reader could not decode.
func (p *poisoner) reject(r source.Reject, split string) error {
	at := split
	if r.At != "" {
		at = split + " " + r.At
	}
	return p.handle(DeadLetter{Raw: r.Raw, At: at}, source.NoTime, r.Err)
}

// rejected handles the records of a batch that a sink refused.
func rejected[T any](p *poisoner, b *source.Batch[T], r *sink.Rejected) error {
	for i := range b.Values {
		if cause := r.Errs[i]; cause != nil {
			if err := p.record(b.Values[i], timeOf(b, i), "", cause); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *poisoner) handle(d DeadLetter, at int64, cause error) error {
	d.Operator, d.Cause, d.Epoch = p.op, cause.Error(), p.task.epoch+1
	if at != source.NoTime {
		d.Time = time.UnixMicro(at).UTC()
	}
	p.stats.poison.Add(1)
	if p.policy.Policy == PoisonFail {
		return fault.Wrap(fault.BadRecord, cause, "bad record %s", d.what()).At("operator " + p.op)
	}
	if err := p.budget(cause); err != nil {
		return err
	}
	if p.policy.Policy == PoisonSkip {
		return nil
	}
	p.one.Reset()
	if p.one.Add(d); at != source.NoTime {
		p.one.Times = append(p.one.Times, at)
	}
	return p.dead.push(&p.one)
}

// budget counts bad records by the minute and logs the first of each minute.
func (p *poisoner) budget(cause error) error {
	now := time.Now()
	if now.Sub(p.minute) >= time.Minute {
		if p.inMin > 1 {
			p.log.Warn("bad records in the last minute", "operator", p.op, "records", p.inMin)
		}
		p.minute, p.inMin = now, 0
	}
	p.inMin++
	if p.inMin == 1 {
		p.log.Warn("bad record", "operator", p.op, "error", cause)
	}
	if p.policy.Budget > 0 && p.inMin > p.policy.Budget {
		return fault.Wrap(fault.PoisonBudget, cause, "more than %d bad records in a minute", p.policy.Budget).
			At("operator " + p.op)
	}
	return nil
}

func (d DeadLetter) what() string {
	s := d.Value
	if d.Key != "" {
		s = "of key " + d.Key + " " + s
	}
	if d.Raw != nil {
		s = shorten(fmt.Sprintf("%q", d.Raw))
	}
	if d.At != "" {
		s = "at " + d.At + " " + s
	}
	return s
}

func shorten(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return s[:most] + fmt.Sprintf("... (%d bytes)", len(s))
}
