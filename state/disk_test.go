package state

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/weirline/weirline/internal/fault"
)

// diskRooms are sizes of the cache: nothing fits, some does, all does.
var diskRooms = []int64{1, 3000, 20_000, 1 << 30}

// With a disk behind the tables a snapshot is the state at the capture too, in both forms, at any parallelism.
func TestDiskSnapshotIsTheStateAtCapture(t *testing.T) {
	of := func(room int64) Backend { return sorted{room: room} }
	t.Run("int64", func(t *testing.T) { diskTest(t, intKeys(300), of) })
	t.Run("string", func(t *testing.T) { diskTest(t, stringKeys(300), of) })
	t.Run("struct", func(t *testing.T) { diskTest(t, structKeys(300), of) })
}

func diskTest[K comparable](t *testing.T, keys []K, of func(room int64) Backend) {
	r := seed(t)
	for range 5 {
		disk := of(diskRooms[r.IntN(len(diskRooms))])
		w := newWorldOn(t, r, keys[:1+r.IntN(len(keys))], 1+r.IntN(4), disk)
		for range 8 {
			diskRound(t, r, w)
		}
		diff(t, w.got(w.tasks), w.want())
	}
}

// diskRound is round over a disk; a capture is written as a file, or linked, or given up, or forgotten by its writer.
func diskRound[K comparable](t *testing.T, r *rand.Rand, w *world[K]) {
	for range r.IntN(8 << r.IntN(10)) { // a little or all of it changes
		w.step()
	}
	want := w.want()
	for _, task := range w.tasks {
		task.sc.Capture()
	}
	steps, every, budget := r.IntN(8<<r.IntN(9)), 1+r.IntN(50), 1+r.IntN(1<<r.IntN(14))
	for i := range steps {
		w.step()
		if i%every == 0 {
			w.tasks[r.IntN(len(w.tasks))].sc.Sweep(budget)
		}
	}
	switch r.IntN(6) {
	case 0:
		for _, task := range w.tasks {
			switch r.IntN(3) {
			case 0:
				task.sc.SweepAll()
			case 1:
				task.sc.Sweep(r.IntN(4 << 10))
			}
			task.sc.AbortCapture()
		}
	case 1:
		for _, task := range w.tasks {
			task.sc.Captured().Release()
		}
	case 2:
		other := w.open(1+r.IntN(testGroups), capturedFiles(t, w.tasks))
		diff(t, w.got(other), want)
	case 3: // the job changes its backend
		memory := *w
		memory.disk = nil
		diff(t, w.got(memory.open(1+r.IntN(testGroups), capturedFiles(t, w.tasks))), want)
	default:
		l := linkAll(t, r, w)
		diff(t, w.got(openLinks(t, w, l, 1+r.IntN(testGroups))), want)
		if len(w.tasks) == 1 || r.IntN(2) == 0 {
			diff(t, w.got(openLinks(t, w, l, len(w.tasks))), want)
		}
	}
}

// links is a checkpoint as files of the backend.
type links struct {
	dirs   []string
	timers [][]byte
}

// linkAll checkpoints all tasks, which go on while it's written.
func linkAll[K comparable](t *testing.T, r *rand.Rand, w *world[K]) links {
	var l links
	for _, task := range w.tasks {
		s := task.sc.Captured()
		w.still = true // the task would wait for us
		for range r.IntN(200) {
			w.step()
		}
		w.still = false
		dir := filepath.Join(t.TempDir(), "files")
		if err := s.Checkpoint(dir); err != nil {
			t.Fatal(err)
		}
		for range r.IntN(200) {
			w.step()
		}
		var b bytes.Buffer
		if _, err := s.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		s.Release()
		l.dirs, l.timers = append(l.dirs, dir), append(l.timers, b.Bytes())
	}
	return l
}

// openLinks makes tasks from the files: one old task's disk is used as it is, the others are copied from.
func openLinks[K comparable](t *testing.T, w *world[K], l links, parallelism int) []*task[K] {
	return w.openOver(parallelism, l.timers, func(sc *Scope[K]) error {
		first, last := sc.Groups()
		var used []Disk
		for i, dir := range l.dirs {
			lo, hi := Range(i, len(l.dirs), w.groups)
			if hi < first || lo > last {
				continue
			}
			d, err := w.disk.Open(linked(t, dir))
			if err != nil {
				return err
			}
			t.Cleanup(func() { closeDisk(t, d) })
			used = append(used, d)
		}
		if len(used) == 0 {
			return nil // there are no groups
		}
		base := w.r.IntN(len(used))
		if err := w.useDisk(sc, used[base]); err != nil {
			return err
		}
		for i, d := range used {
			if i != base {
				if err := sc.Import(d); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// linked is a directory with links to the files of another.
func linked(t testing.TB, dir string) string {
	to := t.TempDir()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.Link(filepath.Join(dir, f.Name()), filepath.Join(to, f.Name())); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// A disk that fails makes the task fail with an error that says so.
func TestFailingDisk(t *testing.T) {
	r := seed(t)
	fail := &failure{left: 1 + r.IntN(400)}
	w := newWorldOn(t, r, intKeys(200), 1, sorted{room: 1000, fail: fail})
	fail.on = true
	err := func() (err error) {
		defer func() { err, _ = recover().(error) }()
		for range 20 {
			for range 300 {
				w.step()
			}
			w.tasks[0].sc.Capture()
			s := w.tasks[0].sc.Captured()
			if _, err := s.WriteTo(io.Discard); err != nil && !errors.Is(err, errDisk) {
				t.Errorf("the writer got %v", err)
			}
			s.Release()
		}
		return nil
	}()
	if !errors.Is(err, errDisk) || fault.CodeOf(err) != fault.StateDir.ID {
		t.Errorf("the task failed with %v", err)
	}
}
