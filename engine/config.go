package engine

import (
	"log/slog"
	"runtime"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/state"
)

// Config is a job's settings. The zero value of every field but Name is a sensible default.
type Config struct {
	// Name identifies the job: letters, digits, dots, dashes, underscores. Its state belongs to this name. Required.
	Name string

	// Dir is the state directory; it is made if it doesn't exist. "" = nothing is stored: no checkpoints, a restart of
	// the process begins anew, and two-phase sinks are refused.
	Dir string

	// Store opens where checkpoints are kept, called once by Run. nil = a directory, Dir.
	Store func(o store.Options) (store.Store, error)

	// Begin is called once by Run, when the job holds its state and hasn't looked at it yet. It may put an epoch there to begin
	// from: savepoint.Start does. nil = the newest checkpoint it is.
	Begin func(own store.Store) error

	// Open opens the location of a savepoint for Pipeline.Savepoint. nil = store.Open, a directory.
	Open func(location string, o store.Options) (store.Store, error)

	// Renamed has the former names of operators whose name was changed, by which their state is found: new name -> old name.
	Renamed map[string]string
	// State is where keyed state is kept that is more than fits into memory: state/pebble. It may change with a savepoint
	// only. nil = in memory.
	State state.Backend

	// Parallelism is how many tasks each operator has. 0 = the number of processors.
	Parallelism int

	// KeyGroups is the number of parts keyed state is dealt in, the upper bound of any later parallelism, fixed by the
	// job's first checkpoint. 0 = 128.
	KeyGroups int

	// CheckpointEvery is the time between the starts of two checkpoints, the first one counted from the start of the job. 0 =
	// 10 s, negative = none but those that ends and switches of sources request.
	CheckpointEvery time.Duration

	// Batch runs bounded input to its end as one piece: event time stands still until all of it is read, so that nothing is
	// late and each window emits once, and there are no periodic checkpoints unless CheckpointEvery is set. Two-phase sinks,
	// which still need Dir, commit once, at the end. Sources without an end are refused.
	Batch bool
	// BacklogEvery takes the place of CheckpointEvery while a source reads backlog (source.Backlog). 0 = the same, negative =
	// none meanwhile.
	BacklogEvery time.Duration

	// CheckpointTimeout is how long a checkpoint may take. 0 = 10 min.
	CheckpointTimeout time.Duration

	// MinPause is the least time between the end of a checkpoint and the start of the next periodic one. 0 = none. If it is
	// set, checkpoints are taken one at a time whatever MaxConcurrent says.
	MinPause time.Duration

	// MaxConcurrent is how many checkpoints may be under way at once; a complete one makes older ones that aren't
	// superfluous. More than one helps when the store is slow and the interval short. 0 = 1.
	MaxConcurrent int

	// AtLeastOnce lets records overtake barriers where streams meet: no channel waits for the others, and after a restart
	// some records are counted twice. Two-phase sinks and ExactlyOnce are refused with it.
	AtLeastOnce bool

	// Unaligned lets the barriers of periodic checkpoints overtake queued records after UnalignedAfter, counted from the start
	// of the checkpoint: what they overtake is stored with it. UnalignedAfter 0 = at once. Every type on an exchange must be
	// one that state could hold. Not with AtLeastOnce or several checkpoints at once.
	Unaligned      bool
	UnalignedAfter time.Duration

	// DropAtEnd deletes all checkpoints once the job has come to its end, finished or drained, with everything committed; the
	// next run begins anew. Those of a suspended or failed job are always kept.
	DropAtEnd bool

	// TolerateFailures is how many checkpoints in a row may fail before the job restarts. 0 = 3, negative = any number.
	TolerateFailures int

	// Retain is how many complete checkpoints are kept. 0 = 3.
	Retain int

	// Uncommitted is how many epochs may wait to be committed before two-phase sinks stop taking input. 0 = 2.
	Uncommitted int

	// Restart says what to do when a task fails. Its zero value restarts with growing delays and gives up after ten failures
	// without a checkpoint in between.
	Restart Restart

	// Poison is the policy for bad records. Its zero value fails the job and shows the record.
	Poison Poison

	// ExactlyOnce refuses a pipeline that doesn't give it from end to end, be it in effect, and says which part limits it (Plan has
	// the same for any pipeline). false = what the parts give will do.
	ExactlyOnce bool

	// BatchSize is how many records go through an exchange at a time, if they fit into
	// 64 KiB. 0 = 512.
	BatchSize int

	// Linger is how long a record may wait for others at an exchange while its task is busy. 0 = 5 ms.
	Linger time.Duration

	// QueueBatches bounds each exchange queue, in batches. 0 = 16.
	QueueBatches int

	// QueueBytes bounds each queue, of exchanges and of sources, in bytes of records with what they point to, estimated from a
	// few of each batch. Batches are made smaller than BatchSize if records are so large that it matters. 0 = 1 MiB, negative
	// = none.
	QueueBytes int64

	// Memory bounds all queues of the job together, in bytes: each gets an equal part, which must be at least 64 KiB. A
	// Rescale to so many tasks that it isn't leaves 64 KiB to each, and warns. 0 = no bound but QueueBytes.
	Memory int64

	// CommitWait is how long a stop waits for commits before it lists what is uncommitted and leaves. 0 = 1 min.
	CommitWait time.Duration

	// Watchdog is how long nothing may move though there is input, or a task may be in one call, before the log tells each
	// task's position, once. 0 = 1 min, negative = off.
	Watchdog time.Duration

	// Fallback resumes from the newest checkpoint that is whole when the newest one is damaged.
	Fallback bool

	// AllowDropped starts even though the checkpoint holds state of operators the pipeline no longer has.
	AllowDropped bool

	// Log receives state changes and warnings, nothing per record. nil = discarded.
	Log *slog.Logger
}

// Restart is the strategy after a failure. Only the operators restart that are connected with the one that failed, by links or
// by an alignment group; each such region counts for itself.
//
//	Restart{}                                                fail at the 11th failure without a checkpoint in between
//	Restart{Attempts: 3, Delay: time.Second, Factor: 1}      a fixed delay
//	Restart{Attempts: 1e6, Delay: time.Second, Quiet: time.Hour}  growing delays, the first one again after a quiet hour
//	Restart{Attempts: 5, Per: time.Minute, Factor: 1}        a rate: the sixth failure within a minute ends the job
//	Restart{Attempts: -1}                                    none
type Restart struct {
	// Attempts is how many restarts in a row, without a checkpoint completed in between, are tried.
	// 0 = 10, negative = none: the first failure ends the job.
	Attempts int

	// Delay is the time before the first restart. 0 = 100 ms, negative = at once.
	Delay time.Duration

	// Factor multiplies the delay after each failure. 0 = 2; 1 = fixed delay.
	Factor float64

	// MaxDelay bounds the delay. 0 = 1 min.
	MaxDelay time.Duration

	// Jitter lengthens each delay by a random part of it, up to this one. 0 = 0.1, negative = none.
	Jitter float64

	// Per makes Attempts a rate: so many restarts within this time, whatever checkpoints complete. 0 = no rate.
	Per time.Duration

	// Quiet is the time without a failure after which counting and delays begin anew, instead of after a checkpoint.
	// 0 = after a checkpoint.
	Quiet time.Duration
}

func (c Config) withDefaults() Config {
	def(&c.Parallelism, runtime.GOMAXPROCS(0))
	def(&c.KeyGroups, 128)
	if c.Batch {
		def(&c.CheckpointEvery, -1)
	}
	def(&c.CheckpointEvery, 10*time.Second)
	def(&c.CheckpointTimeout, 10*time.Minute)
	def(&c.MaxConcurrent, 1)
	if c.MinPause > 0 {
		c.MaxConcurrent = 1
	}
	def(&c.TolerateFailures, 3)
	def(&c.Retain, 3)
	def(&c.Uncommitted, 2)
	def(&c.BatchSize, 512)
	def(&c.Linger, 5*time.Millisecond)
	def(&c.QueueBatches, 16)
	def(&c.QueueBytes, 1<<20)
	def(&c.CommitWait, time.Minute)
	def(&c.Watchdog, time.Minute)
	def(&c.Poison.Budget, 1000)
	def(&c.Restart.Attempts, 10)
	def(&c.Restart.Delay, 100*time.Millisecond)
	def(&c.Restart.Factor, 2)
	def(&c.Restart.MaxDelay, time.Minute)
	def(&c.Restart.Jitter, 0.1)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// def sets what is unset.
func def[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

func (c Config) validate() (errs []error) {
	bad := func(format string, args ...any) {
		errs = append(errs, fault.New(fault.BadPipeline, format, args...).At(userLine()))
	}
	if !nameRule.MatchString(c.Name) {
		bad("Config.Name %q: use a letter, then up to 99 letters, digits, dots, dashes or underscores", c.Name)
	}
	if c.KeyGroups < 1 || c.KeyGroups > 1<<15 {
		bad("Config.KeyGroups is %d: use 1 to 32768", c.KeyGroups)
	}
	if c.Parallelism < 1 || c.Parallelism > c.KeyGroups {
		errs = append(errs, fault.New(fault.Parallelism, "Config.Parallelism is %d, with %d key groups", c.Parallelism, c.KeyGroups))
	}
	if c.BatchSize < 1 || c.QueueBatches < 1 || c.Retain < 1 || c.Uncommitted < 1 || c.MaxConcurrent < 1 {
		bad("Config: BatchSize, QueueBatches, Retain, Uncommitted and MaxConcurrent must be positive")
	}
	if c.Memory < 0 {
		bad("Config.Memory is %d: use bytes, or 0 for no bound", c.Memory)
	}
	if c.Unaligned && (c.AtLeastOnce || c.MaxConcurrent > 1) {
		bad("Config: Unaligned excludes AtLeastOnce and a MaxConcurrent above 1")
	}
	if c.Restart.Factor < 1 {
		bad("Config.Restart.Factor is %v: use 1 or more", c.Restart.Factor)
	}
	return errs
}
