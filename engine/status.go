package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/meter"
	"github.com/weirline/weirline/state"
)

// Status is what a job does now. It is a copy: reading it costs the job nothing.
type Status struct {
	Job         string
	Phase       string // "starting", "running", "restarting", "stopping", "ended"
	Began       time.Time
	Restarts    int64
	LastError   string
	Failures    []Failure // the last 16, oldest first
	Regions     []RegionStatus
	Outcome     string // once ended: "suspended", "drained", "finished"; "" = failed, or stopped between two attempts
	Stored      bool   // there is a state directory
	Parallelism int
	Rescales    int64
	RescaleTook time.Duration // the last Rescale, from the call until the job ran again
	Uncommitted int           // transactions prepared in a complete checkpoint, commit not recorded yet
	Epochs      EpochStatus
	Tasks       []TaskStatus
	Alignment   []AlignStatus // by name
	Connectors  []ConnectorMetric
}

// AlignStatus is about an alignment group, in event time.
type AlignStatus struct {
	Group string
	Drift time.Duration // how far a split may be ahead of the slowest before it is paused
	Lead  time.Duration // how far the fastest is ahead
	Worst time.Duration // the largest lead of this run
}

// Failure is something that took a region down. If it came back, Down and Epoch say when and from where.
type Failure struct {
	At       time.Time
	Region   string // its first operator
	Task     string // "count/1"; "" = none: a committer, an enumerator, a restore, too many failed checkpoints
	Operator string // whose code ran last in the task
	Error    string
	Epoch    uint64        // that the region began again from; 0 = the beginning
	Down     time.Duration // until it ran again; 0 = it doesn't yet, or never will
}

// String is the failure in a line, its error cut to the first line.
func (f Failure) String() string {
	line, _, _ := strings.Cut(f.Error, "\n")
	return fmt.Sprintf("%s %s: %s", f.At.Format(time.TimeOnly), cmp.Or(f.Task, f.Region), line)
}

// RegionStatus is about operators that fail and restart together: those connected by links or by an alignment group.
type RegionStatus struct {
	Name        string // first operator
	Restarts    int64
	LastFailure Failure // zero if there was none
}

// EpochStatus is about checkpoints.
type EpochStatus struct {
	Completed    int64
	Failed       int64
	Last         uint64    // number of the last complete one; 0 = none in this run
	LastAt       time.Time // when it was complete
	LastDuration time.Duration
	LastPause    time.Duration // longest time a task was held up by it
	LongestPause time.Duration // of all in this run
	LastBytes    int64         // keyed state written

	Unaligned     int64         // complete ones whose barriers have overtaken records
	LastInFlight  int64         // bytes stored of such records
	LastAlignment time.Duration // longest time a task waited for its barriers
	Durations     []time.Duration
}

// TaskStatus is about one task.
type TaskStatus struct {
	Name         string // first operator
	Index        int
	Operators    []OperatorStatus
	Watermark    time.Time // zero if there is none
	Poison       int64
	Late         int64
	Idle         time.Duration // waiting for input
	Blocked      time.Duration // waiting for room
	LongestPause time.Duration
	Paused       int64 // splits paused by alignment so far
	Lapsed       int64 // alignment leases that ran out
	Queued       int   // batches waiting

	// The position: why the task is slow or silent.
	State    string        // one of the State constants
	Running  string        // operator whose code runs or ran last
	Still    time.Duration // since it was last seen to take something, in whole seconds
	WaitsFor string        // "room in count/0, count/1", "the barrier from in/0"; "" = nothing that is known
}

// OperatorStatus is about one operator in one task.
type OperatorStatus struct {
	Name string
	In   int64 // records taken; for a source, records read

	State state.Stats // of keyed state with a disk behind it: Config.State

	Poison int64 // bad records
	Late   int64 // records that came after their window had closed
}

// ConnectorMetric is something a connector counts.
type ConnectorMetric struct {
	Operator string
	Task     int // -1: an enumerator or committer
	Name     string
	Value    float64 // of a distribution the sum
	Counter  bool

	Distribution *meter.Distribution // nil: not a distribution
}

// Status tells what the job does; the zero Status before Run.
func (p *Pipeline) Status() Status {
	j := p.running()
	if j == nil {
		return Status{}
	}
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	s := Status{
		Job: j.cfg.Name, Phase: j.phase, Began: j.began, Parallelism: j.cfg.Parallelism,
		Rescales: j.scales, RescaleTook: j.scaled,
		Outcome: j.outcome, Stored: j.store != nil, Uncommitted: int(j.left.Load()),
		Epochs:     j.epochs,
		Alignment:  j.p.alignStatus(),
		Connectors: j.connectors(),
	}
	s.Epochs.Durations = slices.Clone(s.Epochs.Durations)
	for _, f := range j.failures {
		s.Failures, s.LastError = append(s.Failures, *f), f.Error
	}
	if j.coord != nil {
		for _, r := range j.coord.regions {
			rs := RegionStatus{Name: r.name, Restarts: r.restarts}
			if r.last != nil {
				rs.LastFailure = *r.last
			}
			s.Regions = append(s.Regions, rs)
			s.Restarts += r.restarts
			for _, t := range r.tasks {
				s.Tasks = append(s.Tasks, t.status(time.Now()))
			}
		}
	}
	return s
}

func (t *task) status(now time.Time) TaskStatus {
	s := TaskStatus{
		Name: t.name, Index: t.index,
		Idle: time.Duration(t.stats.idleNanos.Load()), Blocked: time.Duration(t.stats.blockedNanos.Load()),
		LongestPause: time.Duration(t.stats.longestPause.Load()), Paused: t.stats.pauses.Load(), Lapsed: t.stats.lapsed.Load(),
	}
	if at := t.stats.watermark.Load(); at != minTime {
		s.Watermark = time.UnixMicro(at).UTC()
	}
	for _, o := range t.ops {
		op := OperatorStatus{Name: o.name, In: o.in.Load(), Poison: o.poison.Load(), Late: o.late.Load()}
		if d := t.disks[o.name]; d != nil {
			op.State = d.Stats()
		}
		s.Operators = append(s.Operators, op)
		s.Poison += o.poison.Load()
		s.Late += o.late.Load()
	}
	s.State, s.Running, s.WaitsFor = taskStates[t.stats.state.Load()], t.doing(), t.waitsFor()
	if at := t.stats.moved.Load(); at != 0 {
		s.Still = now.Sub(time.Unix(0, at)).Truncate(watchEvery)
	}
	for _, c := range t.in.chans {
		s.Queued += int(c.queued.Load())
	}
	return s
}

func (p *Pipeline) running() *job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.job
}

func (p *Pipeline) setJob(j *job) {
	p.mu.Lock()
	p.job, j.stopWith = j, p.stopEarly
	p.mu.Unlock()
}

func (j *job) setOutcome(end store.End) {
	j.statusMu.Lock()
	j.outcome = endName(end)
	j.statusMu.Unlock()
}

func (j *job) setEnded() {
	j.statusMu.Lock()
	j.phase = "ended"
	j.statusMu.Unlock()
}

// connectors is what connectors count.
func (j *job) connectors() (out []ConnectorMetric) {
	for _, v := range j.metrics.List() {
		out = append(out, ConnectorMetric(v))
	}
	return out
}
