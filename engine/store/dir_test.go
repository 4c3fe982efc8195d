package store_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/engine/store/storetest"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

func open(t testing.TB, dir string, o store.Options) *store.Dir {
	t.Helper()
	d, err := store.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func mustPublish(t testing.TB, d *store.Dir, files int) uint64 {
	t.Helper()
	n, err := d.NextEpoch()
	if err != nil {
		t.Fatal(err)
	}
	rec, err := record(d, n, files)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Publish(rec); err != nil {
		t.Fatal(err)
	}
	return n
}

func wantCode(t *testing.T, err error, c fault.Code, parts ...string) {
	t.Helper()
	if fault.CodeOf(err) != c.ID {
		t.Fatalf("got %v, want code %s", err, c.ID)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("%q isn't in %q", p, err)
		}
	}
}

func epochs(d *store.Dir) (out []uint64) {
	for _, i := range d.Records() {
		out = append(out, i.Epoch)
	}
	return out
}

func recordFile(n uint64) string { return fmt.Sprintf("/state/epochs/%020d.epoch", n) }

// TestHolder is the other process of TestClaim when it is started with the variable set.
func TestHolder(t *testing.T) {
	dir := os.Getenv("WEIRLINE_TEST_HOLD")
	if dir == "" {
		dir = t.TempDir()
	}
	d := open(t, dir, store.Options{Job: "j", Run: "r1"})
	if os.Getenv("WEIRLINE_TEST_HOLD") == "" {
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		open(t, dir, store.Options{Job: "j"}) // Close gave the claim back
		return
	}
	fmt.Println("held")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until killed
}

func TestClaim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	cmd := exec.Command(os.Args[0], "-test.run=^TestHolder$")
	cmd.Env = append(os.Environ(), "WEIRLINE_TEST_HOLD="+dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := out.Read(buf); err != nil || string(buf) != "held\n" {
		t.Fatalf("holder says %q, %v", buf, err)
	}
	_, err = store.Open(dir, store.Options{Job: "j"})
	host, _ := os.Hostname()
	wantCode(t, err, fault.ClaimHeld, fmt.Sprintf("process %d on %s since ", cmd.Process.Pid, host), "run r1")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	d := open(t, dir, store.Options{Job: "j"})
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("directory has mode %v (%v)", fi.Mode(), err)
	}
	mustPublish(t, d, 0)
	if err := os.Remove(filepath.Join(dir, "claim")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, d.Publish(&store.Record{Epoch: 2}), fault.ClaimHeld)
	wantCode(t, d.Grant("op", 1), fault.ClaimHeld)
}

func TestNotADirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := store.Open(file, store.Options{Job: "j"})
	wantCode(t, err, fault.StateDir, file, "not a directory")
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, store.Options{Job: "j", InlineMax: 64})
	if r, err := d.Latest(); r != nil || err != nil {
		t.Fatalf("empty store has %v, %v", r, err)
	}
	hs := []sink.Handle{{Operator: "out", Slot: sink.Slot{ID: 2, Name: "j-out-2"}, Token: "t", Epoch: 1, Native: []byte{1, 2}}}
	n, _ := d.NextEpoch()
	rec, err := record(d, n, 2)
	if err != nil {
		t.Fatal(err)
	}
	rec.Handles = hs
	rec.Sources = map[string]store.Source{"in": {Splits: []store.Split{{ID: "f\xff", Watermark: -1 << 63}}}}
	if err := errors.Join(d.Publish(rec), d.Grant("out", 4), d.Committed(hs), d.Close()); err != nil {
		t.Fatal(err)
	}
	d = open(t, dir, store.Options{Job: "j"})
	got, err := d.Latest()
	if err != nil || got.Sources["in"].Splits[0].ID != "f\xff" || got.Handles[0].Slot != hs[0].Slot || !got.Taken.Equal(rec.Taken) {
		t.Fatalf("got %+v, %v", got, err)
	}
	if checkLatest(t, d) != n || d.Granted()["out"] != 4 || !d.IsCommitted("t") || d.IsCommitted("u") {
		t.Error("blobs, grants or commits differ")
	}
	if next, err := d.NextEpoch(); err != nil || next != n+1 {
		t.Errorf("after a clean close the next epoch is %d, %v", next, err)
	}
}

func TestOtherJob(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk))
	_ = d.Close()
	o := options(disk)
	o.Job = "k"
	d = open(t, "/state", o) // nothing happened here yet
	mustPublish(t, d, 0)
	_ = d.Close()
	_, err := store.Open("/state", options(disk))
	wantCode(t, err, fault.OtherJob, `"k"`, `"j"`)
}

func TestRetention(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk))
	first := mustPublish(t, d, 1)
	d.Pin(first)
	for range 4 {
		mustPublish(t, d, 1)
	}
	if got := fmt.Sprint(epochs(d)); got != "[1 4 5]" {
		t.Errorf("retained %s", got)
	}
	if _, err := d.Load(first); err != nil {
		t.Error(err)
	}
	// A blob of an old epoch that a new one names stays.
	old, err := d.Load(5)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		n, _ := d.NextEpoch()
		if err := d.Publish(&store.Record{Epoch: n, Operators: old.Operators}); err != nil {
			t.Fatal(err)
		}
	}
	d.Pin()
	n, _ := d.NextEpoch()
	if err := d.Publish(&store.Record{Epoch: n, Operators: old.Operators}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(strings.Join(disk.Files(), " "), ".blob"); got != 1 || fmt.Sprint(epochs(d)) != "[8 9]" {
		t.Errorf("%d blobs and epochs %d are left", got, epochs(d))
	}
}

func TestUnfinishedBlobRefused(t *testing.T) {
	d := open(t, "/state", options(storetest.NewDisk()))
	n, _ := d.NextEpoch()
	w, err := d.Create(n, "x")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = w.Write(content(n))
	b := store.Blob{File: fmt.Sprintf("epochs/%020d/b-x.blob", n), Size: int64(len(content(n)))}
	if err := d.Publish(&store.Record{Epoch: n, InFlight: []store.Flight{{Blob: b}}}); err == nil {
		t.Error("a record with an unfinished blob was published")
	}
	w.Abort()
	if err := d.Publish(&store.Record{Epoch: n + 1}); err == nil {
		t.Error("a number that wasn't handed out was published")
	}
}

func TestDamage(t *testing.T) {
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	remove := func([]byte) []byte { return nil }
	blob := fmt.Sprintf("/state/epochs/%020d/b-%%43ount-0.blob", 3)
	for name, file := range map[string]string{"record": recordFile(3), "pointer": "/state/CURRENT", "blob": blob} {
		for how, f := range map[string]func([]byte) []byte{"cut": cut, "flipped": flip, "removed": remove} {
			if name == "blob" && how == "flipped" {
				continue // only Verify sees it: TestVerify
			}
			t.Run(name+" "+how, func(t *testing.T) {
				disk := storetest.NewDisk()
				d := open(t, "/state", options(disk))
				for range 3 {
					mustPublish(t, d, 1)
				}
				_ = d.Close()
				disk.Edit(file, f)
				if name == "pointer" {
					disk.Edit(recordFile(3), cut)
				}
				files := len(disk.Files())
				d = open(t, "/state", options(disk))
				_, err := d.Latest()
				wantCode(t, err, fault.DamagedEpoch, file, "checkpoint 2 in "+recordFile(2))
				wantCode(t, d.Publish(&store.Record{Epoch: 4}), fault.DamagedEpoch)
				if len(disk.Files()) != files {
					t.Errorf("something was deleted: %q", disk.Files())
				}
				r, err := d.Fallback()
				if err != nil || r.Epoch != 2 {
					t.Fatalf("fallback is %v, %v", r, err)
				}
				if n := mustPublish(t, d, 1); n <= 3 || checkLatest(t, d) != n {
					t.Errorf("epoch %d after fallback", n)
				}
			})
		}
	}
}

func TestVerify(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk))
	mustPublish(t, d, 1)
	r, err := d.Latest()
	if err != nil {
		t.Fatal(err)
	}
	b := *r.Operators["count"].Tasks[0].Keyed
	disk.Edit("/state/"+b.File, func(c []byte) []byte { c[5] ^= 1; return c })
	wantCode(t, d.Verify(b), fault.DamagedEpoch, b.File, "checksum")
	_, err = d.Fallback()
	wantCode(t, err, fault.DamagedEpoch, "no older")
}

// newer raises the version in a frame and mends its checksum.
func newer(b []byte) []byte {
	binary.LittleEndian.PutUint32(b[8:], 9)
	binary.LittleEndian.PutUint64(b[20:], xxhash.Sum64(append(bytes.Clone(b[:20]), b[28:]...)))
	return b
}

func TestNewerFormat(t *testing.T) {
	for _, file := range []string{"CURRENT", "numbers"} {
		disk := storetest.NewDisk()
		d := open(t, "/state", options(disk))
		mustPublish(t, d, 0)
		_ = d.Close()
		disk.Edit("/state/"+file, newer)
		before := fmt.Sprint(disk.Files())
		_, err := store.Open("/state", options(disk))
		wantCode(t, err, fault.NewerFormat, file, "version 9", "up to 1")
		if fmt.Sprint(disk.Files()) != before {
			t.Errorf("files changed: %s", disk.Files())
		}
	}
}

func TestDamagedLedger(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk))
	for i := range 3 {
		if err := errors.Join(d.Grant(fmt.Sprint("op", i), 5), d.Committed([]sink.Handle{{Token: fmt.Sprint("t", i), Epoch: 1}})); err != nil {
			t.Fatal(err)
		}
	}
	_ = d.Close()
	for _, file := range []string{"/state/grants", "/state/commits"} {
		left := disk.Kill()
		left.Edit(file, func(b []byte) []byte { b[len(b)*2/3] ^= 1; return b })
		_, err := store.Open("/state", options(left))
		wantCode(t, err, fault.DamagedEpoch, file)
		o := options(left)
		o.Salvage = true
		d := open(t, "/state", o)
		if g := d.Granted(); g["op0"] != 5 || !d.IsCommitted("t0") || !d.IsCommitted("t2") || g["op2"] != 5 {
			t.Errorf("salvage lost whole entries: %v", g)
		}
	}
	disk.Edit("/state/grants", func(b []byte) []byte { return b[:len(b)-4] })
	d = open(t, "/state", options(disk))
	if g := d.Granted(); len(g) != 2 {
		t.Errorf("a torn last line gives %v", g)
	}
}

func TestCommitsCompacted(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk))
	var hs []sink.Handle
	for i := range 1500 {
		hs = append(hs, sink.Handle{Token: fmt.Sprint("t", i), Epoch: 1})
	}
	n, _ := d.NextEpoch()
	if err := errors.Join(d.Committed(hs), d.Publish(&store.Record{Epoch: n})); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		n, _ := d.NextEpoch()
		if err := d.Publish(&store.Record{Epoch: n, Handles: hs[:1]}); err != nil {
			t.Fatal(err)
		}
	}
	if !d.IsCommitted("t0") || d.IsCommitted("t1") {
		t.Error("tokens of retained records must stay, others go")
	}
	if err := d.Committed([]sink.Handle{{Token: "new", Epoch: 4}}); err != nil {
		t.Fatal(err)
	}
	d = open(t, "/state", options(disk.Crash(nil)))
	if !d.IsCommitted("t0") || d.IsCommitted("t1") || !d.IsCommitted("new") {
		t.Error("after a crash the compacted list differs")
	}
}

func TestUnknownOutcome(t *testing.T) {
	disk := storetest.NewDisk()
	d := open(t, "/state", options(disk))
	mustPublish(t, d, 0)
	n, _ := d.NextEpoch()
	// Record: create, write, sync, rename, sync directory. Pointer: create, write, sync, then 9 renames, 10 syncs.
	disk.FailAt(10, syscall.EIO, false, false)
	err := d.Publish(&store.Record{Epoch: n})
	if !errors.Is(err, store.ErrUnknown) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("got %v", err)
	}
	d.Discard(n)
	if r, err := d.Latest(); err != nil || r.Epoch != n {
		t.Fatalf("latest is %v, %v", r, err)
	}
	if checkLatest(t, open(t, "/state", options(disk.Crash(nil)))) != n {
		t.Error("an epoch that Latest reported is gone after a crash")
	}
	n, _ = d.NextEpoch()
	disk.FailAt(8, syscall.ENOSPC, false, false)
	err = d.Publish(&store.Record{Epoch: n})
	wantCode(t, err, fault.StoreFull, "/state/CURRENT")
	if errors.Is(err, store.ErrUnknown) {
		t.Errorf("clean failure called unknown: %v", err)
	}
}

// BenchmarkPublish is a small job's epoch on the real disk.
func BenchmarkPublish(b *testing.B) {
	for _, files := range []int{0, 2} {
		b.Run(fmt.Sprintf("files=%d", files), func(b *testing.B) {
			d := open(b, b.TempDir(), store.Options{Job: "j", InlineMax: 64})
			mustPublish(b, d, files)
			start := time.Now()
			for b.Loop() {
				mustPublish(b, d, files)
			}
			b.ReportMetric(float64(time.Since(start).Microseconds())/1000/float64(b.N), "ms/epoch")
		})
	}
}
