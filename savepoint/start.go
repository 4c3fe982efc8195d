package savepoint

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

// Start says what a job begins from, other than the newest checkpoint of its own. A copy of it becomes the newest checkpoint,
// once: later runs with the same Start go on from there, so it may stay on the command line of a service that is restarted.
type Start struct {
	// Job is the name of the job. Required; savepoints of others are refused.
	Job string

	// From is "epoch:12" for a checkpoint the job retains, or else the location of a savepoint. "" = nothing is done.
	From string

	// Open opens the location of a savepoint. nil = store.Open, a directory.
	Open func(location string, o store.Options) (store.Store, error)

	// Rewind allows to go back behind checkpoints that are newer: what was processed and committed since appears again.
	Rewind bool

	// TakeOver makes a job that begins from a savepoint in an empty store the successor of the one that wrote it, which must
	// not run any more: transactions that it left open are cleared, and its names for them are used on. Without it the new
	// store gets names of its own: what the savepoint holds is committed, and nothing else of the other job is touched.
	TakeOver bool

	// Log gets what is given up. nil = nothing is logged.
	Log *slog.Logger
}

const fromEpoch = "epoch:"

const begunBefore = "the state was begun from there before; going on from its newest checkpoint"

// Begin puts the epoch into the job's own store: see engine.Config.Begin. Errors leave that as it is. They are fault.NoCheckpoint,
// OtherJob, DamagedEpoch, NewerThere, and those of opening and writing.
func (s Start) Begin(own store.Store) error {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	number, isEpoch := strings.CutPrefix(s.From, fromEpoch)
	switch {
	case s.From == "":
		return nil
	case !isEpoch:
		return s.fromSavepoint(own)
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return fault.New(fault.NoCheckpoint, "%q is no checkpoint: %q is no number", s.From, number)
	}
	rec, err := own.Load(n)
	if errors.Is(err, fault.New(fault.NoCheckpoint, "")) && s.begunFromRetired(own, n) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.begin(own, own, rec)
}

// begunFromRetired reports whether the state goes on from its epoch n, which may have been retired since.
func (s Start) begunFromRetired(own store.Store, n uint64) bool {
	newest, err := own.Latest()
	if err != nil || newest == nil || !strings.HasPrefix(newest.Origin, fmt.Sprintf("epoch %d taken ", n)) {
		return false
	}
	s.Log.Info(begunBefore, "from", s.From, "epoch", newest.Epoch)
	return true
}

func (s Start) fromSavepoint(own store.Store) error {
	open := s.Open
	if open == nil {
		open = func(dir string, o store.Options) (store.Store, error) { return store.Open(dir, o) }
	}
	from, err := open(s.From, store.Options{Job: s.Job, ReadOnly: true, Log: s.Log})
	if err != nil {
		return s.bad(err)
	}
	defer from.Close()
	rec, err := from.Latest()
	if err == nil && rec == nil {
		err = fault.New(fault.NoCheckpoint, "it was never completed")
	}
	if err == nil {
		err = s.begin(own, from, rec)
	}
	return s.bad(err)
}

// bad says of an error which savepoint it is about. Damage there has another way out than that of checkpoints.
func (s Start) bad(err error) error {
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Code.ID == fault.DamagedEpoch.ID {
		e.Fix = "give a whole copy of the savepoint, or another one; nothing was changed"
	}
	if err == nil {
		return nil
	}
	return fault.At(err, "savepoint "+s.From)
}

func (s Start) begin(own, from store.Store, rec *store.Record) error {
	newest, err := own.Latest()
	if err != nil {
		return err
	}
	origin := fmt.Sprintf("epoch %d taken %s", rec.Epoch, rec.Taken.Format(time.RFC3339Nano))
	if own != from {
		origin = "savepoint of " + origin
	}
	if newest != nil && (newest.Origin == origin || own == from && newest.Epoch == rec.Epoch) {
		s.Log.Info(begunBefore, "from", s.From, "epoch", newest.Epoch)
		return nil
	}
	if err := s.mayRewind(newest, rec); err != nil {
		return err
	}
	switch rec.Origin = origin; {
	case newest != nil:
		rec.Prefix = newest.Prefix
	case s.TakeOver:
		for op, slots := range from.Granted() {
			if err := own.Grant(op, slots); err != nil {
				return err
			}
		}
	default:
		rec.Prefix = cmp.Or(store.PrefixOf(s.Job), s.Job) + "-" + strings.ToLower(rand.Text()[:8])
	}
	return Import(own, from, rec)
}

// mayRewind refuses to leave newer checkpoints behind, or those of another line, unless that is allowed.
func (s Start) mayRewind(newest, rec *store.Record) error {
	if newest == nil || newest.Epoch < rec.Epoch && newest.Prefix == rec.Prefix && !newest.Taken.After(rec.Taken) {
		return nil
	}
	if !s.Rewind {
		return fault.New(fault.NewerThere, "the state has checkpoint %d, taken %s; %s is of %s: what was processed and committed since would appear again",
			newest.Epoch, newest.Taken.Format(time.RFC3339), s.From, rec.Taken.Format(time.RFC3339))
	}
	s.Log.Warn("going back as allowed; what was processed and committed since appears again", "from", s.From,
		"since", rec.Taken, "newest", newest.Epoch, "newest_taken", newest.Taken)
	return nil
}
