package prom

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/state"
)

// kind is a metric's type.
type kind string

const (
	counterKind   kind = "counter"
	gaugeKind     kind = "gauge"
	histogramKind kind = "histogram"
)

func (k kind) valueType() prometheus.ValueType {
	if k == counterKind {
		return prometheus.CounterValue
	}
	return prometheus.GaugeValue
}

// scrape is what one scrape sees.
type scrape struct {
	engine.Status
	now time.Time
}

// family is one metric name.
type family struct {
	name, help string
	kind       kind
	labels     []string
	read       func(s scrape, emit func(v float64, labels ...string)) // labels after job; nil for the histogram
}

var (
	jobLabels  = []string{"job"}
	opLabels   = []string{"job", "operator", "task"}
	phaseLabel = []string{"job", "phase"}
	groupLabel = []string{"job", "group"}
	partLabels = []string{"job", "region"}
)

// phases are the values of the label phase.
var phases = []string{"starting", "running", "restarting", "stopping", "ended"}

// families is every metric of the engine, in the order of docs/metrics.md.
var families = []family{
	{"weirline_job_phase", "1 for the phase the job is in, 0 for the others.", gaugeKind, phaseLabel, readPhase},
	job("weirline_job_start_time_seconds", "When the job was started, in seconds since 1970.", gaugeKind,
		func(s scrape) float64 { return unix(s.Began) }),
	job("weirline_job_parallelism", "Tasks of an operator that doesn't say otherwise.", gaugeKind,
		func(s scrape) float64 { return float64(s.Parallelism) }),
	job("weirline_restarts_total", "Restarts after a failure.", counterKind, func(s scrape) float64 { return float64(s.Restarts) }),
	job("weirline_rescales_total", "Changes of parallelism of the running job.", counterKind, func(s scrape) float64 { return float64(s.Rescales) }),
	{
		"weirline_rescale_last_seconds", "From the last of them being asked for until the job ran again.", gaugeKind, jobLabels,
		func(s scrape, emit func(float64, ...string)) {
			if s.Rescales > 0 {
				emit(s.RescaleTook.Seconds())
			}
		},
	},
	region("weirline_region_restarts_total", "Restarts of the operators that restart together with the first of them, the region.", counterKind,
		func(r engine.RegionStatus) (float64, bool) { return float64(r.Restarts), true }),
	region("weirline_region_last_failure_timestamp_seconds", "When the region failed last, in seconds since 1970.", gaugeKind,
		func(r engine.RegionStatus) (float64, bool) { return unix(r.LastFailure.At), !r.LastFailure.At.IsZero() }),
	region("weirline_region_last_recovery_seconds", "From that failure until the region ran again, the pause before the restart included.", gaugeKind,
		func(r engine.RegionStatus) (float64, bool) {
			return r.LastFailure.Down.Seconds(), r.LastFailure.Down > 0
		}),

	stored("weirline_checkpoints_completed_total", "Checkpoints that are complete.", counterKind,
		func(s scrape) float64 { return float64(s.Epochs.Completed) }),
	stored("weirline_checkpoints_failed_total", "Checkpoints that were given up.", counterKind,
		func(s scrape) float64 { return float64(s.Epochs.Failed) }),
	{"weirline_checkpoint_duration_seconds", "From the start of a checkpoint until it is complete.", histogramKind, jobLabels, nil},
	last("weirline_checkpoint_last_duration_seconds", "The same, of the last complete one.",
		func(s scrape) float64 { return s.Epochs.LastDuration.Seconds() }),
	last("weirline_checkpoint_last_pause_seconds", "Longest time a task was held up by the last complete checkpoint.",
		func(s scrape) float64 { return s.Epochs.LastPause.Seconds() }),
	stored("weirline_checkpoint_longest_pause_seconds", "Longest time a task was held up by any checkpoint since the job was started.", gaugeKind,
		func(s scrape) float64 { return s.Epochs.LongestPause.Seconds() }),
	last("weirline_checkpoint_last_size_bytes", "Keyed state written for the last complete checkpoint.",
		func(s scrape) float64 { return float64(s.Epochs.LastBytes) }),
	stored("weirline_checkpoints_unaligned_total", "Complete checkpoints whose barriers have overtaken queued records.", counterKind,
		func(s scrape) float64 { return float64(s.Epochs.Unaligned) }),
	last("weirline_checkpoint_last_in_flight_bytes", "Such records stored with the last complete checkpoint.",
		func(s scrape) float64 { return float64(s.Epochs.LastInFlight) }),
	last("weirline_checkpoint_last_alignment_seconds", "Longest time a task waited from the first to the last barrier of the last complete checkpoint.",
		func(s scrape) float64 { return s.Epochs.LastAlignment.Seconds() }),
	last("weirline_checkpoint_last_epoch", "Number of the last complete checkpoint.",
		func(s scrape) float64 { return float64(s.Epochs.Last) }),
	last("weirline_checkpoint_last_timestamp_seconds", "When the last checkpoint was complete, in seconds since 1970.",
		func(s scrape) float64 { return unix(s.Epochs.LastAt) }),
	stored("weirline_checkpoint_age_seconds", "Time since the last checkpoint was complete, or since the start if there is none.", gaugeKind, age),
	stored("weirline_uncommitted_transactions", "Transactions prepared in a complete checkpoint and not committed yet.", gaugeKind,
		func(s scrape) float64 { return float64(s.Uncommitted) }),

	{
		"weirline_records_total", "Records an operator has taken; of a source, records read.", counterKind, opLabels,
		operators(func(o engine.OperatorStatus) int64 { return o.In }),
	},
	{
		"weirline_poison_records_total", "Records that could not be decoded, processed or written.", counterKind, opLabels,
		operators(func(o engine.OperatorStatus) int64 { return o.Poison }),
	},
	{
		"weirline_late_records_total", "Records that came after their window had closed.", counterKind, opLabels,
		operators(func(o engine.OperatorStatus) int64 { return o.Late }),
	},
	onDisk("weirline_state_entries", "Keys in memory, of keyed state with a disk behind it.", gaugeKind,
		func(s state.Stats) float64 { return float64(s.Entries) }),
	onDisk("weirline_state_memory_bytes", "Memory that those take, about.", gaugeKind, func(s state.Stats) float64 { return float64(s.Bytes) }),
	onDisk("weirline_state_disk_bytes", "Size of keyed state on the disk.", gaugeKind, func(s state.Stats) float64 { return float64(s.Disk) }),
	onDisk("weirline_state_hits_total", "Accesses to keyed state with a disk behind it that memory answered.", counterKind,
		func(s state.Stats) float64 { return float64(s.Hits) }),
	onDisk("weirline_state_misses_total", "Accesses to keyed state that asked the disk.", counterKind,
		func(s state.Stats) float64 { return float64(s.Misses) }),
	onDisk("weirline_state_hit_seconds_total", "Time of the accesses in memory that were sampled.", counterKind,
		func(s state.Stats) float64 { return s.Hit.Total.Seconds() }),
	onDisk("weirline_state_hit_samples_total", "Number of them.", counterKind, func(s state.Stats) float64 { return float64(s.Hit.Samples) }),
	onDisk("weirline_state_miss_seconds_total", "Time of the accesses to the disk that were sampled.", counterKind,
		func(s state.Stats) float64 { return s.Miss.Total.Seconds() }),
	onDisk("weirline_state_miss_samples_total", "Number of them.", counterKind, func(s state.Stats) float64 { return float64(s.Miss.Samples) }),
	{
		"weirline_watermark_timestamp_seconds", "Event time up to which all records are here, in seconds since 1970.", gaugeKind, opLabels,
		readWatermark(func(_ scrape, w time.Time) float64 { return unix(w) }),
	},
	{
		"weirline_watermark_lag_seconds", "How far event time is behind the clock.", gaugeKind, opLabels,
		readWatermark(func(s scrape, w time.Time) float64 { return s.now.Sub(w).Seconds() }),
	},
	task("weirline_task_idle_seconds_total", "Time a task waited for input.", counterKind,
		func(t engine.TaskStatus) float64 { return t.Idle.Seconds() }),
	task("weirline_task_blocked_seconds_total", "Time a task waited for room behind it: back pressure.", counterKind,
		func(t engine.TaskStatus) float64 { return t.Blocked.Seconds() }),
	task("weirline_task_longest_pause_seconds", "Longest time a checkpoint held the task up.", gaugeKind,
		func(t engine.TaskStatus) float64 { return t.LongestPause.Seconds() }),
	task("weirline_queue_batches", "Batches that wait in front of a task.", gaugeKind,
		func(t engine.TaskStatus) float64 { return float64(t.Queued) }),
	task("weirline_alignment_pauses_total", "Splits paused because their event time was ahead of their group's.", counterKind,
		func(t engine.TaskStatus) float64 { return float64(t.Paused) }),
	task("weirline_alignment_lapsed_leases_total", "Such pauses that ended because nobody renewed them.", counterKind,
		func(t engine.TaskStatus) float64 { return float64(t.Lapsed) }),
	group("weirline_alignment_drift_seconds", "Event time a split may be ahead of its group's slowest before it is paused.",
		func(a engine.AlignStatus) float64 { return a.Drift.Seconds() }),
	group("weirline_alignment_lead_seconds", "Event time the fastest split of a group is ahead of the slowest.",
		func(a engine.AlignStatus) float64 { return a.Lead.Seconds() }),
	group("weirline_alignment_worst_lead_seconds", "The largest lead since the job was started.",
		func(a engine.AlignStatus) float64 { return a.Worst.Seconds() }),
}

// job is a family with one value a job.
func job(name, help string, k kind, value func(scrape) float64) family {
	return family{name, help, k, jobLabels, func(s scrape, emit func(float64, ...string)) { emit(value(s)) }}
}

// region is a family with one value a region that has it.
func region(name, help string, k kind, value func(engine.RegionStatus) (float64, bool)) family {
	return family{name, help, k, partLabels, func(s scrape, emit func(float64, ...string)) {
		for _, r := range s.Regions {
			if v, ok := value(r); ok {
				emit(v, r.Name)
			}
		}
	}}
}

// stored is a family of jobs that have a state directory.
func stored(name, help string, k kind, value func(scrape) float64) family {
	return family{name, help, k, jobLabels, func(s scrape, emit func(float64, ...string)) {
		if s.Stored {
			emit(value(s))
		}
	}}
}

// last is a gauge about the last complete checkpoint, absent before there is one.
func last(name, help string, value func(scrape) float64) family {
	return family{name, help, gaugeKind, jobLabels, func(s scrape, emit func(float64, ...string)) {
		if !s.Epochs.LastAt.IsZero() {
			emit(value(s))
		}
	}}
}

// task is a family with one value a task, under the name of the task's first operator.
func task(name, help string, k kind, value func(engine.TaskStatus) float64) family {
	return family{name, help, k, opLabels, func(s scrape, emit func(float64, ...string)) {
		for _, t := range s.Tasks {
			emit(value(t), t.Name, strconv.Itoa(t.Index))
		}
	}}
}

// group is a gauge with one value an alignment group.
func group(name, help string, value func(engine.AlignStatus) float64) family {
	return family{name, help, gaugeKind, groupLabel, func(s scrape, emit func(float64, ...string)) {
		for _, a := range s.Alignment {
			emit(value(a), a.Group)
		}
	}}
}

func readPhase(s scrape, emit func(float64, ...string)) {
	for _, p := range phases {
		v := 0.0
		if s.Phase == p {
			v = 1
		}
		emit(v, p)
	}
}

// operators reads a count of every operator in every task.
func operators(value func(engine.OperatorStatus) int64) func(scrape, func(float64, ...string)) {
	return func(s scrape, emit func(float64, ...string)) {
		for _, t := range s.Tasks {
			for _, op := range t.Operators {
				emit(float64(value(op)), op.Name, strconv.Itoa(t.Index))
			}
		}
	}
}

// onDisk is about keyed state with a disk behind it; operators without are left out.
func onDisk(name, help string, k kind, value func(state.Stats) float64) family {
	return family{name, help, k, opLabels, func(s scrape, emit func(float64, ...string)) {
		for _, t := range s.Tasks {
			for _, op := range t.Operators {
				if op.State != (state.Stats{}) {
					emit(value(op.State), op.Name, strconv.Itoa(t.Index))
				}
			}
		}
	}}
}

// readWatermark leaves out tasks without a watermark.
func readWatermark(value func(scrape, time.Time) float64) func(scrape, func(float64, ...string)) {
	return func(s scrape, emit func(float64, ...string)) {
		for _, t := range s.Tasks {
			if !t.Watermark.IsZero() {
				emit(value(s, t.Watermark), t.Name, strconv.Itoa(t.Index))
			}
		}
	}
}

func age(s scrape) float64 {
	since := s.Epochs.LastAt
	if since.IsZero() {
		since = s.Began
	}
	return max(0, s.now.Sub(since).Seconds())
}

func unix(t time.Time) float64 { return float64(t.UnixMicro()) / 1e6 }
