package txntest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// Mishap is something that goes wrong around a job, beside its own death.
type Mishap string

// The mishaps, each with what must come of it.
const (
	// DownTooLong: the job is dead for longer than the destination keeps what is prepared. It stops with a loss, or goes on
	// without exactly those records, counted and listed, if the sink accepts that.
	DownTooLong Mishap = "down for too long"

	// StoreFails: the checkpoint store completes no epoch, is full, records no commit, each for more epochs than the job can
	// bear. When it is whole again the job goes on, and everything is there once.
	StoreFails Mishap = "store fails"

	// RolledBack: somebody rolls one prepared transaction back while the job is dead. As DownTooLong, for that one.
	RolledBack Mishap = "rolled back by hand"

	// SavepointBeside: another job begins from a savepoint of one that lives. Neither disturbs the other.
	SavepointBeside Mishap = "savepoint beside"

	// OlderEpoch: the job begins from an older epoch than its newest. It is refused, or says what appears again if allowed.
	OlderEpoch Mishap = "older epoch"

	// RegionRestarts: one region fails again and again. Another one commits meanwhile and is left alone.
	RegionRestarts Mishap = "region restarts"
)

// AllMishaps are all of them, in order.
func AllMishaps() []Mishap {
	return []Mishap{DownTooLong, StoreFails, RolledBack, SavepointBeside, OlderEpoch, RegionRestarts}
}

// Want is what the destination must show.
type Want struct {
	Over  bool // the job has come to its end: each result is there, and nothing is prepared or open
	Lost  int  // so many results are missing, no more and no less
	Tail  bool // of each key only the results after some point are there
	Again bool // results are there twice, one at least
}

// Mishaps runs the job given to [Main] in processes to which one [Mishap] happens. That job calls [Child.Store], [Child.Begin]
// and [Child.Run], and one result must come out for each record that is written. Args, State and Check are needed.
type Mishaps struct {
	// Args tell the job where its state and its destination are, and that it is to take some seconds. State is the directory
	// among them that it gives to Child.Store.
	Args  map[string]string
	State string

	// Check looks at the destination that args name.
	Check func(args map[string]string, w Want) error

	// Twin are args with another state and another destination: of the second job in SavepointBeside, of the same name; and
	// of the results of the second region in RegionRestarts, which is that of the operator Fails.
	Twin  map[string]string
	Fails string

	// RollBack rolls a prepared transaction back as an administrator would, and Expire waits until the destination has rolled
	// back everything that is prepared, since it is too old. The job's processes are dead.
	RollBack func(ctx context.Context, h sink.Handle) error
	Expire   func(ctx context.Context) error

	// Lossy says that the sink can accept losses: the job's does if [Child.Lossy] is set.
	Lossy bool

	// Storm is how many calls to the store fail in a row: more than a task has transaction slots. Unset: 8.
	Storm int

	// Parallelism is that of the job. Unset: 2.
	Parallelism int

	// Limit bounds the life of a process. Unset: one minute.
	Limit time.Duration
}

// Do returns what went wrong. logf, which is called by one goroutine at a time, is told of each process.
func (m Mishaps) Do(ctx context.Context, what Mishap, logf func(format string, args ...any)) error {
	f, err := os.CreateTemp("", "weirline-notes-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := f.Close(); err != nil {
		return err
	}
	x := &mishap{Mishaps: m, notes: f.Name(), logf: logf}
	switch what {
	case DownTooLong:
		return x.loss(ctx, func(hs []sink.Handle) ([]sink.Handle, error) { return hs, m.Expire(ctx) })
	case RolledBack:
		return x.loss(ctx, func(hs []sink.Handle) ([]sink.Handle, error) { return hs[:1], m.RollBack(ctx, hs[0]) })
	case StoreFails:
		return x.storeFails(ctx)
	case SavepointBeside:
		return x.beside(ctx)
	case OlderEpoch:
		return x.older(ctx)
	case RegionRestarts:
		return x.region(ctx)
	}
	return fmt.Errorf("no mishap %q", what)
}

// mishap is one that happens.
type mishap struct {
	Mishaps
	notes string // the file where children note what they do
	logf  func(format string, args ...any)
}

// run runs a child.
func (m *mishap) run(ctx context.Context, what string, o order) error {
	if o.Args == nil {
		o.Args = m.Args
	}
	o.Parallelism, o.Told.Notes = cmp.Or(o.Parallelism, m.Parallelism, 2), m.notes
	began := time.Now()
	err := o.run(ctx, cmp.Or(m.Limit, time.Minute))
	m.logf("%-32s %v after %v", what, err, time.Since(began).Round(time.Millisecond))
	return err
}

// lives runs a child to the end of the input.
func (m *mishap) lives(ctx context.Context, what string, o order) error {
	if err := m.run(ctx, what, o); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// dies runs a child that dies at a step.
func (m *mishap) dies(ctx context.Context, s Step, times int64) error {
	err := m.run(ctx, string(s), order{Step: s, Times: times})
	if !Killed(err) {
		return fmt.Errorf("%s, the time %d: the child should have been killed, it ended with %v", s, times, err)
	}
	return m.Check(m.Args, Want{})
}

// refused runs a child that must end with an error of one of the codes.
func (m *mishap) refused(ctx context.Context, what string, t told, codes ...fault.Code) error {
	err := m.run(ctx, what, order{Told: t})
	if err == nil || Killed(err) {
		return fmt.Errorf("%s: it ended with %v, want %s", what, err, codes[0].ID)
	}
	ended := ""
	if err := m.read(func(line string) {
		if strings.HasPrefix(line, "ended with ") {
			ended = line
		}
	}); err != nil {
		return err
	}
	for _, c := range codes {
		if ended == fmt.Sprintf("ended with %q", c.ID) {
			return m.Check(m.Args, Want{})
		}
	}
	return fmt.Errorf("%s: want an error %s, it %s: %w", what, codes[0].ID, ended, err)
}

// newest reads the newest epoch of the job, which is dead.
func (m *mishap) newest() (rec *store.Record, kept []store.Info, err error) {
	d, err := store.Open(m.State, store.Options{ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	rec, err = d.Latest()
	if err == nil && rec == nil {
		err = errors.New("the job died before its first epoch was complete")
	}
	return rec, d.Records(), err
}

// loss has the job die with transactions of a complete epoch prepared, and those that harm returns get lost.
func (m *mishap) loss(ctx context.Context, harm func(hs []sink.Handle) ([]sink.Handle, error)) error {
	var hs []sink.Handle
	for n := 0; len(hs) == 0; n++ { // on a busy machine an epoch may have no records
		if n == 5 {
			return errors.New("the newest epoch has prepared nothing, five times: give the job more input")
		}
		if err := m.dies(ctx, AfterPointer, 3); err != nil {
			return err
		}
		rec, _, err := m.newest()
		if err != nil {
			return err
		}
		hs = slices.DeleteFunc(rec.Handles, func(h sink.Handle) bool { return h.Epoch != rec.Epoch })
	}
	gone, err := harm(hs)
	if err != nil {
		return fmt.Errorf("lose %d transactions: %w", len(hs), err)
	}
	for range 2 { // the second finds what the first has left
		if err := m.refused(ctx, "after a loss", told{}, fault.LostCommit, fault.UnknownCommit); err != nil {
			return err
		}
	}
	if !m.Lossy {
		return nil
	}
	if err := m.lives(ctx, "accepts the loss", order{Told: told{Lossy: true}}); err != nil {
		return err
	}
	lost, err := m.lost(gone, len(hs) == len(gone))
	if err != nil {
		return err
	}
	if err := m.Check(m.Args, Want{Over: true, Lost: lost}); err != nil {
		return err
	}
	// What was given up isn't asked for again.
	return errors.Join(m.lives(ctx, "after the end", order{}), m.Check(m.Args, Want{Over: true, Lost: lost}))
}

// lost is how many records the losses have cost that the job has counted and listed: those gone, and if they may be more,
// also what was prepared before.
func (m *mishap) lost(gone []sink.Handle, more bool) (records int, err error) {
	prepared, counted := map[string]int{}, 0
	var listed []string
	err = m.read(func(line string) {
		var token string
		var n int
		if _, err := fmt.Sscanf(line, "prepared %s %d", &token, &n); err == nil {
			prepared[token] = n
		} else if _, err := fmt.Sscanf(line, "lost %d", &n); err == nil {
			counted += n
		} else if _, rest, is := strings.Cut(line, " token="); is {
			token, _, _ = strings.Cut(rest, " ")
			listed = append(listed, token)
		}
	})
	if err != nil {
		return 0, err
	}
	if counted != len(listed) || counted < len(gone) || counted > len(gone) && !more {
		return 0, fmt.Errorf("%d transactions are lost, %d were counted and %d listed", len(gone), counted, len(listed))
	}
	for _, h := range gone {
		if !slices.Contains(listed, h.Token) {
			return 0, fmt.Errorf("transaction %s of slot %s is lost and isn't listed", h.Token, h.Slot.Name)
		}
	}
	for _, token := range listed {
		if prepared[token] == 0 {
			return 0, fmt.Errorf("transaction %s is listed as lost, and nobody has prepared it", token)
		}
		records += prepared[token]
	}
	m.logf("%d transactions lost, of %d records", counted, records)
	return records, nil
}

func (m *mishap) storeFails(ctx context.Context) error {
	if err := m.lives(ctx, "its store fails", order{Told: told{Storm: cmp.Or(m.Storm, 8)}}); err != nil {
		return err
	}
	over := 0
	err := m.read(func(line string) {
		if strings.HasPrefix(line, "the store is whole") {
			over++
		}
	})
	if err == nil && over != len(storms) {
		err = fmt.Errorf("the store has failed in %d ways of %d: give the job more input", over, len(storms))
	}
	return errors.Join(err, m.Check(m.Args, Want{Over: true}))
}

func (m *mishap) beside(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	place := m.State + "-savepoint"
	first := make(chan error, 1)
	go func() { first <- m.lives(ctx, "lives", order{Told: told{Save: place}}) }()
	if err := m.await(ctx, "saved", first); err != nil {
		return err
	}
	twin := *m
	twin.logf = func(string, ...any) {}
	other := order{Args: m.Twin, Parallelism: 2 * cmp.Or(m.Parallelism, 2), Told: told{From: place}}
	second := make(chan error, 1)
	go func() { second <- twin.lives(ctx, "begins from its savepoint", other) }()
	if err := m.await(ctx, "begun", second); err != nil {
		cancel()
		return errors.Join(err, <-first)
	}
	select {
	case err := <-first:
		return errors.Join(errors.New("the first job has ended before the other has begun: give it more input"), err)
	default:
	}
	if err := errors.Join(<-second, <-first); err != nil {
		return err
	}
	if n, err := m.count("recovered "); err != nil || n != 2 {
		return fmt.Errorf("committers have recovered %d times, want one of each job: one has failed meanwhile; %w", n, err)
	}
	return errors.Join(m.Check(m.Args, Want{Over: true}), m.Check(m.Twin, Want{Over: true, Tail: true}))
}

func (m *mishap) older(ctx context.Context) error {
	for _, d := range []struct {
		s Step
		n int64
	}{{AfterRecorded, 6}, {AfterPointer, 1}} { // something newer is committed, and something prepared
		if err := m.dies(ctx, d.s, d.n); err != nil {
			return err
		}
	}
	_, kept, err := m.newest()
	if err != nil || len(kept) < 3 {
		return fmt.Errorf("%d epochs are retained, want 3; %w", len(kept), err)
	}
	from := told{From: fmt.Sprint("epoch:", kept[0].Epoch)}
	before, err := m.count("recovered ")
	if err := errors.Join(err, m.refused(ctx, "begins from an older epoch", from, fault.NewerThere)); err != nil {
		return err
	}
	if after, err := m.count("recovered "); err != nil || after != before {
		return fmt.Errorf("a job that was refused has touched its transactions; %w", err)
	}
	from.Rewind = true
	for range 2 { // the second goes on from the first's end
		err := errors.Join(m.lives(ctx, "goes back", order{Told: from}), m.Check(m.Args, Want{Over: true, Again: true}))
		if err != nil {
			return err
		}
	}
	if n, err := m.count("appears again"); err != nil || n != 1 {
		return fmt.Errorf("the job has said %d times that results appear again, want once; %w", n, err)
	}
	return nil
}

func (m *mishap) region(ctx context.Context) error {
	if err := m.lives(ctx, "a region fails", order{Told: told{Fails: m.Fails}}); err != nil {
		return err
	}
	failed, recovered, theirs, between := 0, 0, 0, 0
	err := m.read(func(line string) {
		kind, op, _ := strings.Cut(line, " ")
		switch {
		case kind == "failed":
			failed++
		case kind == "recovered" && op == m.Fails:
			recovered++
		case kind == "recovered":
			theirs++
		case kind == "committed" && op != m.Fails && failed > 0 && failed < regionFails:
			between++
		}
	})
	if err == nil && (failed != regionFails || recovered <= regionFails || theirs != 1 || between == 0) {
		err = fmt.Errorf("the region has failed %d times and recovered %d times; the other has recovered %d times, want once, and has committed %d times meanwhile",
			failed, recovered, theirs, between)
	}
	return errors.Join(err, m.Check(m.Args, Want{Over: true}), m.Check(m.Twin, Want{Over: true}))
}

// read passes on what the children have noted.
func (m *mishap) read(f func(line string)) error {
	b, err := os.ReadFile(m.notes)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		f(lines.Text())
	}
	return lines.Err()
}

// count is how many notes contain a text.
func (m *mishap) count(text string) (n int, err error) {
	err = m.read(func(line string) {
		if strings.Contains(line, text) {
			n++
		}
	})
	return n, err
}

// await returns when a child has noted something. An end of the job comes too early.
func (m *mishap) await(ctx context.Context, note string, ended chan error) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if n, err := m.count(note); err != nil || n > 0 {
			return err
		}
		select {
		case err := <-ended:
			ended <- err
			return errors.Join(fmt.Errorf("the job has ended and hasn't noted %q", note), err)
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
