package engine

import (
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/weirline/weirline/deadletter"
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
type DeadLetter = deadletter.Letter

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

	minute deadletter.Minute
}

// record handles a bad value, which a destination was asked to take so many times; a non-nil result fails the task.
func (p *poisoner) record(v any, at int64, attempts int, cause error) error {
	d := deadletter.Of(v)
	d.Attempts = attempts
	return p.handle(d, at, cause)
}

// keyed handles a bad value that has its key.
func (p *poisoner) keyed(v, key any, at int64, cause error) error {
	d := deadletter.Of(v)
	d.Key = deadletter.Printed(key)
	return p.handle(d, at, cause)
}

// reject handles what a reader could not decode.
func (p *poisoner) reject(r source.Reject, split string) error {
	return p.handle(DeadLetter{Raw: r.Raw, At: strings.TrimSpace(split + " " + r.At)}, source.NoTime, r.Err)
}

// rejected handles the records of a batch that a sink refused.
func rejected[T any](p *poisoner, b *source.Batch[T], r *sink.Rejected) error {
	for i := range b.Values {
		if cause := r.Errs[i]; cause != nil {
			if err := p.record(b.Values[i], timeOf(b, i), 1, cause); err != nil {
				return err
			}
		}
	}
	return nil
}

func (p *poisoner) handle(d DeadLetter, at int64, cause error) error {
	now := time.Now()
	d.Operator, d.Job, d.Task, d.Epoch, d.Found, d.Cause = p.op, p.task.job.cfg.Name, p.task.index, p.task.epoch+1, now.UTC(), cause.Error()
	if at != source.NoTime {
		d.Time = time.UnixMicro(at).UTC()
	}
	p.stats.poison.Add(1)
	if p.policy.Policy == PoisonFail {
		return fault.Wrap(fault.BadRecord, cause, "bad record %s", d.What()).At("operator " + p.op)
	}
	if err := p.budget(now, cause); err != nil {
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
func (p *poisoner) budget(now time.Time, cause error) error {
	n, before := p.minute.Add(now)
	if before > 1 {
		p.log.Warn("bad records in the last minute", "operator", p.op, "records", before)
	}
	if n == 1 {
		p.log.Warn("bad record", "operator", p.op, "error", cause)
	}
	if p.policy.Budget > 0 && n > p.policy.Budget {
		return fault.Wrap(fault.PoisonBudget, cause, "more than %d bad records within a minute in one task (Poison.Budget); the last one", p.policy.Budget).
			At("operator " + p.op)
	}
	return nil
}
