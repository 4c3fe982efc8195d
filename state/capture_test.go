package state

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

func intKeys(n int) []int64 {
	ks := make([]int64, n)
	for i := range ks {
		ks[i] = int64(i) - 2 // with the zero key
	}
	return ks
}

func stringKeys(n int) []string {
	ks := []string{""}
	for i := range n {
		ks = append(ks, fmt.Sprint("key ", i))
	}
	return ks
}

func structKeys(n int) []structKey {
	ks := []structKey{{}}
	for i := range n {
		ks = append(ks, structKey{fmt.Sprint(i / 4), int8(i % 4), i%2 == 0, [3]byte{byte(i)}})
	}
	return ks
}

func floatKeys(n int) []float64 {
	var ks []float64
	for i := range n {
		ks = append(ks, float64(i)/4)
	}
	return ks
}

// What is restored, at any parallelism, is what was there when Capture was called, whatever happened before and after.
func TestSnapshotIsTheStateAtCapture(t *testing.T) {
	t.Run("int64", func(t *testing.T) { snapshotTest(t, intKeys(300)) })
	t.Run("string", func(t *testing.T) { snapshotTest(t, stringKeys(300)) })
	t.Run("struct", func(t *testing.T) { snapshotTest(t, structKeys(300)) })
	t.Run("float64", func(t *testing.T) { snapshotTest(t, floatKeys(100)) })
}

func snapshotTest[K comparable](t *testing.T, keys []K) {
	r := seed(t)
	for range 6 {
		w := newWorld(t, r, keys[:1+r.IntN(len(keys))], 1+r.IntN(4))
		for range 8 {
			round(t, r, w)
		}
		diff(t, w.got(w.tasks), w.want())
	}
}

// round runs steps, captures, runs steps while sweeping, restores and compares; sometimes it aborts instead, or goes on
// with the restored tasks.
func round[K comparable](t *testing.T, r *rand.Rand, w *world[K]) {
	for range r.IntN(4000) {
		w.step()
	}
	want := w.want()
	for _, task := range w.tasks {
		task.sc.Capture()
	}
	steps, every, budget := r.IntN(3000), 1+r.IntN(50), 1+r.IntN(1<<r.IntN(14))
	for i := range steps {
		w.step()
		if i%every == 0 {
			w.tasks[r.IntN(len(w.tasks))].sc.Sweep(budget)
		}
	}
	if r.IntN(5) == 0 {
		for _, task := range w.tasks {
			task.sc.AbortCapture()
		}
		return
	}
	files := capturedFiles(t, w.tasks)
	other := w.open(1+r.IntN(testGroups), files)
	diff(t, w.got(other), want)
}

func capturedFiles[K comparable](t testing.TB, tasks []*task[K]) [][]byte {
	var files [][]byte
	for _, task := range tasks {
		var b bytes.Buffer
		s := task.sc.Captured()
		n, err := s.WriteTo(&b)
		if err != nil || n != int64(b.Len()) {
			t.Fatalf("wrote %d of %d: %v", n, b.Len(), err)
		}
		s.Release()
		files = append(files, b.Bytes())
	}
	return files
}

// A job that is restored over and over at changing parallelism loses nothing.
func TestRestoreAtAnyParallelism(t *testing.T) {
	r := seed(t)
	w := newWorld(t, r, structKeys(200), 3)
	for range 12 {
		for range 2000 {
			w.step()
		}
		want := w.want()
		for _, task := range w.tasks {
			task.sc.Capture()
		}
		w.tasks = w.open(1+r.IntN(testGroups), capturedFiles(t, w.tasks))
		if got := w.want(); len(got) != len(want) {
			t.Fatalf("the model changed: %d, %d", len(got), len(want))
		}
	}
	diff(t, w.got(w.tasks), w.want())
}

// pacedWriter lets the task run between any two writes, and the task waits for it at the end.
type pacedWriter struct {
	bytes.Buffer
	turn chan struct{}
}

func (p *pacedWriter) Write(b []byte) (int, error) {
	<-p.turn
	return p.Buffer.Write(b)
}

// Another goroutine writes and releases a snapshot while the task changes everything. Run with -race.
func TestWriteWhileTheTaskGoesOn(t *testing.T) {
	r := seed(t)
	w := newWorld(t, r, stringKeys(200), 1)
	for range 5 {
		for range 3000 {
			w.step()
		}
		want := w.want()
		sc := w.tasks[0].sc
		sc.Capture()
		for !sc.Sweep(256) {
			w.step()
		}
		snap := sc.Captured()
		p := &pacedWriter{turn: make(chan struct{})}
		done := make(chan error)
		go func() {
			_, err := snap.WriteTo(p)
			snap.Release()
			done <- err
		}()
		sc.Capture() // the next one runs while this one is written
		for open := true; open; {
			w.step()
			sc.Sweep(64)
			select {
			case p.turn <- struct{}{}:
			case err := <-done:
				if open = false; err != nil {
					t.Fatal(err)
				}
			default:
			}
		}
		sc.AbortCapture()
		diff(t, w.got(w.open(2, [][]byte{p.Bytes()})), want)
	}
}
