package engine

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/source"
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
	Uncommitted int // transactions prepared in a complete checkpoint, commit not recorded yet
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
	Durations    []time.Duration
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
}

// OperatorStatus is about one operator in one task.
type OperatorStatus struct {
	Name string
	In   int64 // records taken; for a source, records read

	Poison int64 // bad records
	Late   int64 // records that came after their window had closed
}

// ConnectorMetric is something a connector counts.
type ConnectorMetric struct {
	Operator string
	Task     int // -1: an enumerator or committer
	Name     string
	Value    float64
	Counter  bool
}

// Status tells what the job does; the zero Status before Run.
func (p *Pipeline) Status() Status {
	j := p.running()
	if j == nil {
		return Status{}
	}
	j.statusMu.Lock()
	defer j.statusMu.Unlock()
	e := j.epochs
	s := Status{
		Job: j.cfg.Name, Phase: j.phase, Began: j.began, Parallelism: j.cfg.Parallelism,
		Outcome: j.outcome, Stored: j.store != nil, Uncommitted: int(j.left.Load()),
		Epochs: EpochStatus{
			Completed: e.completed, Failed: e.failed, Last: e.lastEpoch, LastAt: e.lastEnd, LastDuration: e.lastDuration,
			LastPause: e.lastPause, LongestPause: e.longestPause, LastBytes: e.lastBytes,
			Durations: append([]time.Duration(nil), e.durations...),
		},
		Alignment:  j.p.alignStatus(),
		Connectors: j.metrics.list(),
	}
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
				s.Tasks = append(s.Tasks, t.status())
			}
		}
	}
	return s
}

func (t *task) status() TaskStatus {
	s := TaskStatus{
		Name: t.name, Index: t.index,
		Idle: time.Duration(t.stats.idleNanos.Load()), Blocked: time.Duration(t.stats.blockedNanos.Load()),
		LongestPause: time.Duration(t.stats.longestPause.Load()), Paused: t.stats.pauses.Load(), Lapsed: t.stats.lapsed.Load(),
	}
	if at := t.stats.watermark.Load(); at != minTime {
		s.Watermark = time.UnixMicro(at).UTC()
	}
	for _, o := range t.ops {
		s.Operators = append(s.Operators, OperatorStatus{Name: o.name, In: o.in.Load(), Poison: o.poison.Load(), Late: o.late.Load()})
		s.Poison += o.poison.Load()
		s.Late += o.late.Load()
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

// connectorMetrics is what connectors count, by operator, task and name.
type connectorMetrics struct {
	mu sync.Mutex
	m  map[metricKey]*metric
}

type metricKey struct {
	op   string
	task int
	name string
}

type metric struct {
	bits    atomic.Uint64
	counter bool
}

func newConnectorMetrics() *connectorMetrics { return &connectorMetrics{m: map[metricKey]*metric{}} }

// of is the view of one operator's task; it is both a source.Metrics and a sink.Metrics.
func (c *connectorMetrics) of(op string, task int) source.Metrics {
	return &metricsView{all: c, op: op, task: task}
}

type metricsView struct {
	all  *connectorMetrics
	op   string
	task int
	mine sync.Map // name -> *metric
}

func (v *metricsView) find(name string, counter bool) *metric {
	if m, ok := v.mine.Load(name); ok {
		return m.(*metric)
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	k := metricKey{v.op, v.task, name}
	m := v.all.m[k]
	if m == nil {
		m = &metric{counter: counter}
		v.all.m[k] = m
	}
	v.mine.Store(name, m)
	return m
}

// Count adds to a counter.
func (v *metricsView) Count(name string, n int64) {
	m := v.find(name, true)
	for {
		old := m.bits.Load()
		if m.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+float64(n))) {
			return
		}
	}
}

// Gauge sets a value.
func (v *metricsView) Gauge(name string, x float64) {
	v.find(name, false).bits.Store(math.Float64bits(x))
}

func (c *connectorMetrics) list() []ConnectorMetric {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]ConnectorMetric, 0, len(c.m))
	for k, m := range c.m {
		out = append(out, ConnectorMetric{
			Operator: k.op, Task: k.task, Name: k.name, Value: math.Float64frombits(m.bits.Load()), Counter: m.counter,
		})
	}
	slices.SortFunc(out, func(a, b ConnectorMetric) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.Task, b.Task), cmp.Compare(a.Name, b.Name))
	})
	return out
}
