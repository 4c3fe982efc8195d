package store

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
)

// numberJump is how many numbers are skipped if the file that knows is lost. It is far more than a job can use up
// between two complete epochs.
const numberJump = 1 << 20

// found is what load found in the directory.
type found struct {
	fresh   bool // no process ever got so far as to complete an epoch here
	job     string
	records []uint64 // numbers of record files, complete or not, rising
	highest uint64   // of everything that bears a number
	numbers numbers
	jump    bool // the file of numbers is lost
}

// load reads everything, and only when all of it makes sense mends and removes what a crash left.
func (d *Dir) load() error {
	if d.o.ReadOnly {
		if _, err := d.fs.List(d.path(epochsName)); errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.NoCheckpoint, err, "%s has no checkpoints", d.root)
		}
	} else if err := d.fs.Mkdir(d.path(epochsName)); err != nil {
		return fault.Wrap(fault.StateDir, err, "make directory %s", d.path(epochsName))
	}
	f, err := d.loadNames()
	if err != nil {
		return err
	}
	if err := d.loadPointer(&f); err != nil {
		return err
	}
	if err := d.loadNumbers(&f); err != nil {
		return err
	}
	if err := d.loadLedger(&f); err != nil {
		return err
	}
	if err := d.checkJob(&f); err != nil {
		return err
	}
	if err := d.loadKnown(f.records); err != nil || d.o.ReadOnly {
		return err
	}
	if err := d.mend(f); err != nil {
		return fault.Wrap(fault.StateDir, err, "open state directory %s", d.root)
	}
	if d.bad == nil {
		d.sweep(true)
	}
	return nil
}

func (d *Dir) loadNames() (found, error) {
	var f found
	entries, err := d.fs.List(d.path(epochsName))
	if err != nil {
		return f, fault.Wrap(fault.StateDir, err, "list %s", d.path(epochsName))
	}
	for _, e := range entries {
		n, ok := epochOf(e.Name())
		if !ok {
			continue
		}
		f.highest = max(f.highest, n)
		if strings.HasSuffix(e.Name(), recordExt) {
			f.records = append(f.records, n)
		}
	}
	return f, nil
}

func (d *Dir) loadPointer(f *found) error {
	p, err := d.readPointer()
	if errors.Is(err, fs.ErrNotExist) && len(f.records) == 0 {
		f.fresh = true
		return nil
	}
	if err != nil {
		err = d.unreadable(err, pointerName, "pointer to the newest checkpoint")
		if fault.CodeOf(err) != fault.DamagedEpoch.ID {
			return err
		}
		d.bad = err
		return nil
	}
	d.cur = p
	f.job = p.Job
	f.highest = max(f.highest, p.Epoch)
	return nil
}

func (d *Dir) loadNumbers(f *found) error {
	data, err := durable.ReadFile(d.fs, d.path(numbersName))
	if err == nil {
		f.numbers, err = decodeNumbers(data)
	}
	switch {
	case err == nil:
		if f.job == "" {
			f.job = f.numbers.Job
		}
	case errors.Is(err, fs.ErrNotExist) && f.fresh:
	case errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist):
		d.log.Warn("epoch numbers file lost, numbers jump ahead", "path", d.path(numbersName), "error", err)
		f.jump = true
	default:
		return d.unreadable(err, numbersName, "epoch numbers")
	}
	return nil
}

// loadLedger reads grants and commits.
func (d *Dir) loadLedger(f *found) error {
	d.grants.Journal = durable.Journal{FS: d.fs, Path: d.path(grantsName), Kind: grantsName, Job: d.o.Job}
	d.commits.Journal = durable.Journal{FS: d.fs, Path: d.path(commitsName), Kind: commitsName, Job: d.o.Job}
	g, gErr := d.readJournal(&d.grants.Journal, f.fresh)
	if err := d.salvage(gErr, grantsName); err != nil {
		return err
	}
	c, cErr := d.readJournal(&d.commits.Journal, f.fresh)
	if err := d.salvage(cErr, commitsName); err != nil {
		return err
	}
	for _, job := range []string{g.Job, c.Job} {
		if f.job == "" {
			f.job = job
		}
	}
	var err error
	d.grants.slots, err = parseGrants(g.Lines)
	if err := d.salvage(err, grantsName); err != nil {
		return err
	}
	d.commits.tokens, err = parseCommits(c.Lines)
	if err := d.salvage(err, commitsName); err != nil {
		return err
	}
	for _, e := range d.commits.tokens {
		f.highest = max(f.highest, e)
	}
	return nil
}

func (d *Dir) readJournal(j *durable.Journal, fresh bool) (durable.Content, error) {
	c, err := j.Read()
	if errors.Is(err, fs.ErrNotExist) && fresh {
		return durable.Content{}, nil
	}
	if err == nil && c.Torn {
		d.log.Info("cut off an append that a crash interrupted", "path", j.Path)
	}
	return c, err
}

// salvage turns damage into a warning if the user allows it.
func (d *Dir) salvage(err error, rel string) error {
	if err == nil {
		return nil
	}
	damage := errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist)
	if damage && d.o.Salvage {
		d.log.Warn("damaged file accepted, whole entries kept", "path", d.path(rel), "error", err)
		return nil
	}
	return d.unreadable(err, rel, "list of "+rel)
}

// checkJob refuses the state of another job. A directory in which nothing ever happened changes hands.
func (d *Dir) checkJob(f *found) error {
	if d.o.Job == "" {
		d.o.Job = f.job
	}
	if f.job == "" || f.job == d.o.Job {
		return nil
	}
	if d.bad != nil || len(f.records) > 0 || d.cur.Epoch > 0 || len(d.grants.slots)+len(d.commits.tokens) > 0 {
		return fault.New(fault.OtherJob, "state directory %s belongs to job %q, not to %q", d.root, f.job, d.o.Job)
	}
	f.fresh = true
	return nil
}

// loadKnown reads the records that the pointer names; if it can't be read, all there are.
func (d *Dir) loadKnown(records []uint64) error {
	names := append([]uint64(nil), d.cur.Kept...)
	switch {
	case d.bad != nil:
		names = records
	case d.cur.Epoch > 0:
		names = append(names, d.cur.Epoch)
	}
	for _, n := range names {
		sum := uint64(0)
		if n == d.cur.Epoch {
			sum = d.cur.Sum
		}
		r, k, err := d.readRecord(n, sum)
		if err == nil && n == d.cur.Epoch {
			err = d.all(r, d.checkSize)
			k.Whole = err == nil
		}
		if err != nil && n == d.cur.Epoch {
			if !lasting(err) {
				return err
			}
			d.bad = err
		} else if err != nil {
			d.log.Warn("older checkpoint can't be read", "epoch", n, "error", err)
		}
		d.known = append(d.known, k)
	}
	return nil
}

// lasting tells errors about the content from those of the moment.
func lasting(err error) bool {
	id := fault.CodeOf(err)
	return id == fault.DamagedEpoch.ID || id == fault.NewerFormat.ID
}

// mend makes durable what was read, as the process that wrote it may have died before it was synced, and makes the
// files of a new directory. CURRENT comes last: with it, everything else must be there.
func (d *Dir) mend(f found) error {
	d.next = max(f.numbers.Below, f.highest+1)
	if f.jump {
		d.next += numberJump
	}
	d.below = d.next
	if f.fresh || f.jump {
		if err := d.reserve(d.next); err != nil {
			return err
		}
	}
	if err := errors.Join(d.grants.Rewrite(d.grants.lines()), d.commits.Rewrite(d.commits.lines())); err != nil {
		return err
	}
	if err := errors.Join(d.grants.Settle(), d.commits.Settle()); err != nil {
		return err
	}
	if !f.fresh {
		return nil
	}
	d.cur = pointer{Job: d.o.Job}
	_, err := d.writePointer(d.cur)
	return err
}
