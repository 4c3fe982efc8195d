package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/sink"
)

// history is what a run was told: what it may rely on after any crash.
type history struct {
	published  uint64 // newest epoch whose Publish returned nil, or that Latest reported
	trying     uint64 // epoch whose Publish began last and may have happened
	highest    uint64 // number handed out
	granted    map[string]int
	committed  []string
	publishes  int
	firstError error
	disk       *storetest.Disk
	files      []store.File // of the newest complete epoch, shared with the next
}

func options(disk *storetest.Disk) store.Options {
	return store.Options{Job: "j", FS: disk, InlineMax: 64, Retain: 2}
}

// script does random things until steps are done or, with stop, something fails.
func script(disk *storetest.Disk, seed uint64, steps int, stop bool) (h *history) {
	h = &history{granted: map[string]int{}, disk: disk}
	d, err := store.Open("/state", options(disk))
	if err != nil && !stop {
		h.firstError = err
		d, err = store.Open("/state", options(disk)) // the error came once
	}
	if err != nil {
		h.firstError = err
		return h
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for range steps {
		if err := step(d, r, h); err != nil {
			h.firstError = err
			if stop {
				return h
			}
		}
	}
	if err := d.Close(); err != nil {
		h.firstError = err
	}
	return h
}

func step(d *store.Dir, r *rand.Rand, h *history) error {
	switch op := r.IntN(8); op {
	case 0:
		name, n := fmt.Sprintf("op%d", r.IntN(3)), r.IntN(20)
		if err := d.Grant(name, n); err != nil {
			return err
		}
		h.granted[name] = max(h.granted[name], n)
		return nil
	case 1, 2:
		hs := []sink.Handle{{Token: token(r), Epoch: h.published}, {Token: token(r), Epoch: h.published}}
		if err := d.Committed(hs); err != nil {
			return err
		}
		h.committed = append(h.committed, hs[0].Token, hs[1].Token)
		return nil
	case 3:
		n, err := d.NextEpoch()
		if err != nil {
			return err
		}
		if n <= h.highest {
			panic("number handed out twice")
		}
		h.highest = n
		if w, err := d.Create(n, "declined"); err == nil {
			_, _ = w.Write(content(n))
			_, _ = w.Finish()
		}
		d.Discard(n)
		return nil
	default:
		return publish(d, r, h)
	}
}

func token(r *rand.Rand) string { return fmt.Sprintf("t%x \"\n\xff", r.Uint64()) }

func content(epoch uint64) []byte { return bytes.Repeat([]byte{byte(epoch), byte(epoch >> 8), 7}, 40) }

func publish(d *store.Dir, r *rand.Rand, h *history) error {
	n, err := d.NextEpoch()
	if err != nil {
		return err
	}
	if n <= h.highest {
		panic("number handed out twice")
	}
	h.highest = n
	rec, err := record(d, n, r.IntN(3))
	if err == nil {
		err = addFile(d, h, rec)
	}
	if err != nil {
		d.Discard(n)
		return err
	}
	files := rec.Operators["count"].Tasks[0].Files
	h.trying = n
	err = d.Publish(rec)
	switch {
	case err == nil:
		h.published, h.files = n, files
		h.publishes++
	case errors.Is(err, store.ErrUnknown):
		if latest, settleErr := d.Latest(); settleErr == nil {
			h.trying = 0
			if latest != nil && latest.Epoch == n {
				h.published, h.files = n, files
			}
		}
	default:
		h.trying = 0
		d.Discard(n)
	}
	return err
}

// record makes a record with that many blobs in files and one inline.
func record(d *store.Dir, epoch uint64, files int) (*store.Record, error) {
	rec := &store.Record{Epoch: epoch, Taken: time.Unix(int64(epoch), 0).UTC(), KeyGroups: 128, Operators: map[string]store.Operator{}}
	op := store.Operator{Parallelism: files + 1}
	for i := range files + 1 {
		w, err := d.Create(epoch, fmt.Sprintf("Count-%d", i))
		if err != nil {
			return nil, err
		}
		data := content(epoch)
		if i == files {
			data = data[:10]
		}
		if _, err := w.Write(data); err != nil {
			w.Abort()
			return nil, err
		}
		b, err := w.Finish()
		if err != nil {
			return nil, err
		}
		op.Tasks = append(op.Tasks, store.Task{Index: i, Keyed: &b})
	}
	rec.Operators["count"] = op
	return rec, nil
}

// addFile gives the first task of a record the files of the epoch before, up to three, and a new one, named by its epoch.
func addFile(d *store.Dir, h *history, rec *store.Record) error {
	src, err := writeOn(h.disk, rec.Epoch)
	if err != nil {
		return err
	}
	b, err := d.Adopt(rec.Epoch, "table", src)
	if err != nil {
		return err
	}
	if err := h.disk.Remove(src); err != nil {
		return err
	}
	old := h.files[max(0, len(h.files)-3):]
	t := &rec.Operators["count"].Tasks[0]
	t.Backend, t.Files = "tables", append(slices.Clone(old), store.File{Name: fmt.Sprint(rec.Epoch), Blob: b})
	return nil
}

// writeOn writes the content of an epoch beside the state directory.
func writeOn(disk *storetest.Disk, epoch uint64) (path string, err error) {
	path = fmt.Sprintf("/table-%d", epoch)
	f, err := disk.Create(path)
	if err == nil {
		_, err = f.Write(content(epoch))
	}
	return path, err
}

// check opens what a crash left and compares it with what the run was told. It returns the newest epoch, and the disk after
// a power failure that came as soon as that epoch was shown.
func check(t *testing.T, disk *storetest.Disk, h *history) (newest uint64, after *storetest.Disk) {
	t.Helper()
	d, err := store.Open("/state", options(disk))
	if err != nil {
		t.Fatalf("open after crash: %v", err)
	}
	defer func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	got := checkLatest(t, d)
	if got != h.published && (got != h.trying || got == 0) {
		t.Fatalf("newest epoch is %d, want %d or %d", got, h.published, h.trying)
	}
	for op, n := range h.granted {
		if d.Granted()[op] < n {
			t.Errorf("grant of %d slots to %s is lost: %v", n, op, d.Granted())
		}
	}
	for _, tok := range h.committed {
		if !d.IsCommitted(tok) {
			t.Errorf("commit of %q is lost", tok)
		}
	}
	after = disk.Crash(nil) // before NextEpoch, whose syncs would hide a missing one
	n, err := d.NextEpoch()
	if err != nil || n <= h.highest {
		t.Errorf("next epoch is %d after %d (%v)", n, h.highest, err)
	}
	return got, after
}

// checkLatest verifies the newest record with its blobs.
func checkLatest(t *testing.T, d *store.Dir) uint64 {
	t.Helper()
	rec, err := d.Latest()
	if err != nil {
		t.Fatalf("latest: %v", err)
	}
	if rec == nil {
		return 0
	}
	for _, task := range rec.Operators["count"].Tasks {
		checkBlob(t, d, *task.Keyed, rec.Epoch)
		for _, f := range task.Files {
			n, err := strconv.ParseUint(f.Name, 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			checkBlob(t, d, f.Blob, n)
		}
	}
	return rec.Epoch
}

// checkBlob verifies that a blob begins like the content of an epoch.
func checkBlob(t *testing.T, d store.Store, b store.Blob, epoch uint64) {
	t.Helper()
	if err := d.Verify(b); err != nil {
		t.Fatalf("verify blob of epoch %d: %v", epoch, err)
	}
	r, err := d.ReadBlob(b)
	if err != nil {
		t.Fatalf("read blob: %v", err)
	}
	data := make([]byte, r.Size())
	if _, err := r.ReadAt(data, 0); err != nil && len(data) > 0 || !bytes.HasPrefix(content(epoch), data) {
		t.Fatalf("blob of epoch %d has %x (%v)", epoch, data, err)
	}
	_ = r.Close()
}

// TestCrashAnywhere stops a random run at each of its disk operations, with and without the operation's effect, loses
// what a power failure or a kill may lose, and looks at what is left.
func TestCrashAnywhere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const steps = 25
	whole := storetest.NewDisk()
	if h := script(whole, seed, steps, true); h.firstError != nil || h.publishes == 0 {
		t.Fatalf("run without crash: %v, %d epochs", h.firstError, h.publishes)
	}
	r := rand.New(rand.NewPCG(seed, 2))
	for at := 1; at <= whole.Ops(); at++ {
		for _, applied := range []bool{false, true} {
			disk := storetest.NewDisk()
			disk.FailAt(at, errors.New("power is gone"), applied, true)
			h := script(disk, seed, steps, true)
			name := fmt.Sprintf("crash at %d of %d, applied %v", at, whole.Ops(), applied)
			for i, left := range []*storetest.Disk{disk.Crash(nil), disk.Crash(r), disk.Crash(r), disk.Kill()} {
				was := *h
				got, after := check(t, left, &was)
				// What was shown once must survive a second crash.
				was.published, was.trying = got, 0
				check(t, after, &was)
				if t.Failed() {
					t.Fatalf("%s, loss %d, seed %d", name, i, seed)
				}
			}
		}
	}
}

// TestCrashWhileOpening stops Open itself, after a run that was killed in the middle.
func TestCrashWhileOpening(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	disk := storetest.NewDisk()
	disk.FailAt(150, errors.New("killed"), true, true)
	h := script(disk, seed, 30, true)
	if h.publishes == 0 {
		t.Fatalf("no epoch before the kill: %v", h.firstError)
	}
	r := rand.New(rand.NewPCG(seed, 3))
	for at := 1; ; at++ {
		left := disk.Kill()
		left.FailAt(at, errors.New("power is gone"), at%2 == 0, true)
		d, err := store.Open("/state", options(left))
		if err == nil {
			if at < 10 {
				t.Fatalf("open took only %d operations", at)
			}
			if err := d.Close(); err != nil {
				t.Logf("close on a dead disk: %v", err)
			}
			return
		}
		for _, again := range []*storetest.Disk{left.Crash(nil), left.Crash(r), left.Kill()} {
			was := *h
			if check(t, again, &was); t.Failed() {
				t.Fatalf("open stopped at %d, seed %d", at, seed)
			}
		}
	}
}

// TestErrorAnywhere lets each disk operation fail once; the job goes on, and a power failure comes at the end.
func TestErrorAnywhere(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const steps = 25
	whole := storetest.NewDisk()
	script(whole, seed, steps, true)
	for at := 1; at <= whole.Ops(); at++ {
		for _, applied := range []bool{false, true} {
			disk := storetest.NewDisk()
			disk.FailAt(at, syscall.ENOSPC, applied, false)
			h := script(disk, seed, steps, false)
			if h.firstError != nil && !errors.Is(h.firstError, syscall.ENOSPC) {
				t.Errorf("the error lost its cause: %v", h.firstError)
			}
			if check(t, disk.Crash(nil), h); t.Failed() {
				t.Fatalf("error at %d of %d, applied %v, seed %d", at, whole.Ops(), applied, seed)
			}
		}
	}
}
