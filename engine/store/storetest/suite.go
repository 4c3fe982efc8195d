package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// Place is where a store under test keeps its epochs.
type Place struct {
	// Open opens the store there; each call the same place. Options come with a job, small limits and two epochs retained.
	Open func(o store.Options) (store.Store, error)

	// Files lists the names of all that is stored, relative, with slashes.
	Files func() []string

	// Edit changes one of these; nil removes it.
	Edit func(name string, f func([]byte) []byte)
}

// Suite tests that a store keeps what package store promises. Make gives an empty place for each test.
func Suite(t *testing.T, make func(t *testing.T) Place) {
	for name, test := range map[string]func(t *testing.T, s *suite){
		"round trip": roundTrip, "numbers": numbersRise, "other job": otherJob, "retention": retention, "refused": refused,
		"shared files": sharedFiles, "adopt and fetch": adoptFetch, "damage": damage, "verify": verify, "ledger": ledger,
		"commits shrink": commitsShrink, "read only": readOnly, "new": onlyNew, "goroutines": goroutines, "large": large, "closed": closed,
	} {
		t.Run(name, func(t *testing.T) { test(t, &suite{T: t, Place: make(t)}) })
	}
}

// suite is one test at one place.
type suite struct {
	*testing.T
	Place
}

func (s *suite) options() store.Options { return store.Options{Job: "j", InlineMax: 64, Retain: 2} }

func (s *suite) open() store.Store { return s.with(s.options()) }

func (s *suite) with(o store.Options) store.Store {
	s.Helper()
	d, err := s.Open(o)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = d.Close() })
	return d
}

func (s *suite) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *suite) code(err error, c fault.Code, parts ...string) {
	s.Helper()
	if fault.CodeOf(err) != c.ID {
		s.Fatalf("got %v, want code %s", err, c.ID)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			s.Errorf("%q isn't in %q", p, err)
		}
	}
}

func body(epoch uint64) []byte { return bytes.Repeat([]byte{byte(epoch), 7, 9}, 50) }

func (s *suite) blob(d store.Store, epoch uint64, name string, data []byte) store.Blob {
	s.Helper()
	w, err := d.Create(epoch, name)
	s.must(err)
	defer w.Abort()
	_, err = w.Write(data)
	s.must(err)
	b, err := w.Finish()
	s.must(err)
	return b
}

// publish completes an epoch with a blob of its own, one inline, and files of others.
func (s *suite) publish(d store.Store, files ...store.File) *store.Record {
	s.Helper()
	n, err := d.NextEpoch()
	s.must(err)
	own, small := s.blob(d, n, "Own", body(n)), s.blob(d, n, "small", []byte("few"))
	r := &store.Record{Epoch: n, Taken: time.Unix(int64(n), 5).UTC(), KeyGroups: 128, Operators: map[string]store.Operator{
		"count": {Parallelism: 2, Tasks: []store.Task{{Keyed: &own, Files: files}, {Index: 1, Keyed: &small}}},
	}}
	s.must(d.Publish(r))
	return r
}

func (s *suite) latest(d store.Store) *store.Record {
	s.Helper()
	r, err := d.Latest()
	s.must(err)
	if r != nil {
		for b := range r.Blobs() {
			s.must(d.Verify(b))
		}
	}
	return r
}

func epochsOf(d store.Store) (out []uint64) {
	for _, i := range d.Records() {
		out = append(out, i.Epoch)
	}
	return out
}

func (s *suite) count(part string) int {
	return len(slices.DeleteFunc(s.Files(), func(f string) bool { return !strings.Contains(f, part) }))
}

var number = regexp.MustCompile(`\d{20}`)

// record is the name of what an epoch's record is stored in.
func (s *suite) record(epoch uint64) string {
	for _, f := range s.Files() {
		ns := number.FindAllString(f, -1)
		if len(ns) > 0 && ns[len(ns)-1] == fmt.Sprintf("%020d", epoch) && !strings.HasSuffix(f, ".blob") && !strings.HasPrefix(f, "log/") {
			return f
		}
	}
	s.Fatalf("no record of epoch %d in %q", epoch, s.Files())
	return ""
}

func roundTrip(t *testing.T, s *suite) {
	d := s.open()
	if r := s.latest(d); r != nil {
		t.Fatalf("empty store has %v", r)
	}
	if r, err := d.Fallback(); r != nil || err != nil {
		t.Fatalf("empty store falls back to %v, %v", r, err)
	}
	hs := []sink.Handle{{Operator: "out", Slot: sink.Slot{ID: 2, Name: "j-out-2"}, Token: "t \xff\"\n", Epoch: 1, Native: []byte{1, 2}}}
	n, err := d.NextEpoch()
	s.must(err)
	own := s.blob(d, n, "name \xff/..", body(n))
	empty := s.blob(d, n, "empty", nil)
	r := &store.Record{
		Epoch: n, Taken: time.Unix(9, 9).UTC(), KeyGroups: 64, End: store.Suspended, Handles: hs, InFlight: flights(own, empty),
		Sources: map[string]store.Source{"in": {Splits: []store.Split{{ID: "f\xff", Watermark: math.MinInt64}}}},
	}
	s.must(errors.Join(d.Publish(r), d.Grant("out", 4), d.Committed(hs)))
	want := *r
	want.Format, want.Job = store.Format, "j"
	for range 2 {
		got := s.latest(d)
		got.InFlight[1].Blob.Inline = nil // of length 0
		want.InFlight[1].Blob.Inline = nil
		if !reflect.DeepEqual(got, &want) {
			t.Errorf("got  %+v\nwant %+v", got, &want)
		}
		if d.Granted()["out"] != 4 || !d.IsCommitted(hs[0].Token) || d.IsCommitted("u") {
			t.Error("grants or commits differ")
		}
		i := d.Records()
		if len(i) != 1 || i[0].Epoch != n || !i[0].Taken.Equal(want.Taken) || i[0].End != store.Suspended || !i[0].Whole || i[0].Size < own.Size {
			t.Errorf("list is %+v", i)
		}
		s.must(d.Close())
		d = s.open()
	}
	if next, err := d.NextEpoch(); err != nil || next != n+1 {
		t.Errorf("after a clean close the next epoch is %d, %v", next, err)
	}
}

func numbersRise(t *testing.T, s *suite) {
	d := s.open()
	last := uint64(0)
	for range 3 {
		for range 1100 { // more than are reserved at a time
			n, err := d.NextEpoch()
			s.must(err)
			if n <= last {
				t.Fatalf("number %d after %d", n, last)
			}
			last = n
		}
		s.must(d.Close())
		d = s.open()
	}
	if err := d.Publish(&store.Record{Epoch: last + 2}); err == nil {
		t.Error("a number that wasn't handed out was published")
	}
}

func otherJob(t *testing.T, s *suite) {
	s.must(s.open().Close())
	o := s.options()
	o.Job = "k"
	d := s.with(o) // nothing happened here yet
	s.publish(d)
	s.must(d.Close())
	_, err := s.Open(s.options())
	s.code(err, fault.OtherJob, `"k"`, `"j"`)
	_, err = s.Open(store.Options{})
	s.code(err, fault.StateDir, "no job")
}

func retention(t *testing.T, s *suite) {
	d := s.open()
	first := s.publish(d).Epoch
	d.Pin(first)
	for range 4 {
		s.publish(d)
	}
	if got := fmt.Sprint(epochsOf(d)); got != "[1 4 5]" {
		t.Errorf("retained %s", got)
	}
	r, err := d.Load(first)
	s.must(err)
	if r.Epoch != first {
		t.Errorf("loaded %d", r.Epoch)
	}
	_, err = d.Load(2)
	s.code(err, fault.NoCheckpoint, "no checkpoint 2")
	if n := s.count(".blob"); n != 3 {
		t.Errorf("%d blobs of three epochs: %q", n, s.Files())
	}
	d.Pin()
	s.publish(d)
	s.must(d.Close())
	d = s.open()
	if got := fmt.Sprint(epochsOf(d)); got != "[5 6]" || s.count(".blob") != 2 {
		t.Errorf("retained %s and %q", got, s.Files())
	}
	s.latest(d)
}

func refused(t *testing.T, s *suite) {
	d := s.open()
	n, err := d.NextEpoch()
	s.must(err)
	w, err := d.Create(n, "x")
	s.must(err)
	if _, err := d.Create(n, "x"); err == nil {
		t.Error("a name was given twice")
	}
	_, err = w.Write(body(n))
	s.must(err)
	later, err := d.NextEpoch()
	s.must(err)
	other := s.blob(d, later, "Own", body(n))
	guess := store.Blob{File: strings.Replace(strings.Replace(other.File, "%4fwn", "x", 1), fmt.Sprintf("%020d/b", later), fmt.Sprintf("%020d/b", n), 1), Size: 150}
	if err := d.Publish(&store.Record{Epoch: n, InFlight: flights(guess)}); err == nil {
		t.Errorf("a record with an unfinished blob %q was published", guess.File)
	}
	w.Abort()
	w.Abort()
	_, err = d.ReadBlob(store.Blob{File: "../../etc/passwd", Size: 3})
	s.code(err, fault.DamagedEpoch)
	s.publish(d)
	if _, err := d.Create(n, "y"); err == nil {
		t.Error("a blob was begun for an epoch that is past")
	}
	if err := d.Publish(&store.Record{Epoch: n}); err == nil {
		t.Error("numbers went back")
	}
}

// sharedFiles follows a file through the epochs that name it: retention, reopening, a declined epoch, a late finish.
func sharedFiles(t *testing.T, s *suite) {
	d := s.open()
	file := func(n uint64, b store.Blob) store.File { return store.File{Name: fmt.Sprint(n), Blob: b} }
	own := func(r *store.Record) store.File { return file(r.Epoch, *r.Operators["count"].Tasks[0].Keyed) }
	a := own(s.publish(d))
	b := own(s.publish(d))
	for range 4 { // the epochs that made them are long gone
		s.publish(d, a, b)
	}
	s.must(d.Close())
	d = s.open()
	s.latest(d)

	n, err := d.NextEpoch()
	s.must(err)
	declined := s.blob(d, n, "declined", body(n))
	late, err := d.Create(n, "late")
	s.must(err)
	_, err = late.Write(body(n))
	s.must(err)
	d.Discard(n)
	lateBlob, err := late.Finish()
	s.must(err)
	for _, b := range []store.Blob{declined, lateBlob} {
		next, err := d.NextEpoch()
		s.must(err)
		if err := d.Publish(&store.Record{Epoch: next, InFlight: flights(b)}); err == nil {
			t.Errorf("a record names %s of a declined epoch", b.File)
		}
		d.Discard(next)
	}
	s.publish(d, a, b)
	s.publish(d, b)
	s.latest(d)
	s.must(d.Close())
	d = s.open()
	s.latest(d)
	s.publish(d, b) // no retained epoch names a any more
	if s.count(a.Blob.File) != 0 || s.count(b.Blob.File) != 1 || s.count(".blob") != 3 {
		t.Errorf("left: %q", s.Files())
	}
}

func adoptFetch(t *testing.T, s *suite) {
	d := s.open()
	dir := t.TempDir()
	path := filepath.Join(dir, "000001.sst")
	s.must(os.WriteFile(path, body(7)[:10], 0o600)) // small enough to be inline
	n, err := d.NextEpoch()
	s.must(err)
	b, err := d.Adopt(n, "table", path)
	s.must(err)
	if b.File == "" || b.Size != 10 {
		t.Errorf("adopted as %+v", b)
	}
	s.must(os.Remove(path))
	s.must(d.Publish(&store.Record{Epoch: n, InFlight: flights(b)}))
	s.latest(d)
	s.must(d.Fetch(b, path))
	got, err := os.ReadFile(path)
	s.must(err)
	if !bytes.Equal(got, body(7)[:10]) {
		t.Errorf("fetched %x", got)
	}
	s.code(d.Fetch(b, path), fault.StoreFull, path) // exists
	s.must(d.Fetch(store.Blob{Inline: []byte{1}, Size: 1}, path+"-2"))
	b.Size++
	s.code(d.Fetch(b, path+"-3"), fault.DamagedEpoch, b.File)
	n, err = d.NextEpoch()
	s.must(err)
	_, err = d.Adopt(n, "x", path+"-absent")
	s.code(err, fault.StoreFull, path+"-absent")
}

func damage(t *testing.T, s *suite) {
	cut := func(b []byte) []byte { return b[:len(b)/2] }
	flip := func(b []byte) []byte { b[len(b)-1] ^= 1; return b }
	remove := func([]byte) []byte { return nil }
	for _, how := range []func([]byte) []byte{cut, flip, remove} {
		d := s.open()
		d.Pin()
		s.publish(d)
		s.publish(d)
		n := s.publish(d).Epoch
		s.must(d.Close())
		s.Edit(s.record(n), how)
		d = s.open()
		_, err := d.Latest()
		s.code(err, fault.DamagedEpoch, fmt.Sprintf("%020d", n), "checkpoint ")
		s.code(d.Publish(&store.Record{Epoch: n + 1}), fault.DamagedEpoch)
		r, err := d.Fallback()
		s.must(err)
		if r.Epoch >= n {
			t.Errorf("fell back to %d", r.Epoch)
		}
		if next := s.publish(d).Epoch; next <= n || s.latest(d).Epoch != next {
			t.Errorf("epoch %d after fallback", next)
		}
		s.must(d.Close())
	}
}

func verify(t *testing.T, s *suite) {
	d := s.open()
	b := *s.publish(d).Operators["count"].Tasks[0].Keyed
	s.Edit(b.File, func(c []byte) []byte { c[5] ^= 1; return c })
	s.code(d.Verify(b), fault.DamagedEpoch, b.File, "checksum")
	_, err := d.Fallback()
	s.code(err, fault.DamagedEpoch, "no older")
	for _, how := range []func([]byte) []byte{func(b []byte) []byte { return b[1:] }, func([]byte) []byte { return nil }} {
		b := *s.publish(d).Operators["count"].Tasks[0].Keyed
		s.Edit(b.File, how)
		_, err := d.Latest()
		s.code(err, fault.DamagedEpoch, b.File)
		s.must(d.Close())
		d = s.open()
		_, err = d.Latest()
		s.code(err, fault.DamagedEpoch, b.File)
		if _, err := d.Fallback(); err == nil {
			continue
		}
		return // nothing whole is left
	}
	t.Error("an epoch with a changed blob counts as whole")
}

func ledger(t *testing.T, s *suite) {
	d := s.open()
	for i := range 70 {
		s.must(errors.Join(d.Grant(fmt.Sprint("op", i%3), i), d.Committed([]sink.Handle{{Token: fmt.Sprint("t", i), Epoch: 1}})))
	}
	s.must(d.Grant("op0", 5)) // never back
	s.must(d.Committed([]sink.Handle{{Token: "t3", Epoch: 1}, {Token: "t3", Epoch: 1}}))
	for range 2 {
		if g := d.Granted(); len(g) != 3 || g["op0"] != 69 || g["op1"] != 67 || g["op2"] != 68 {
			t.Errorf("granted %v", g)
		}
		for i := range 70 {
			if !d.IsCommitted(fmt.Sprint("t", i)) {
				t.Fatalf("commit %d is lost", i)
			}
		}
		d.Granted()["op0"] = 0 // a copy
		s.must(d.Close())
		d = s.open()
	}
}

func commitsShrink(t *testing.T, s *suite) {
	d := s.open()
	var hs []sink.Handle
	for i := range 1500 {
		hs = append(hs, sink.Handle{Token: fmt.Sprint("t", i), Epoch: 1})
	}
	n, err := d.NextEpoch()
	s.must(err)
	s.must(errors.Join(d.Committed(hs), d.Publish(&store.Record{Epoch: n})))
	for range 40 {
		n, err := d.NextEpoch()
		s.must(err)
		s.must(d.Publish(&store.Record{Epoch: n, Handles: hs[:1]}))
	}
	s.must(d.Committed([]sink.Handle{{Token: "new", Epoch: 40}}))
	for range 2 {
		if !d.IsCommitted("t0") || d.IsCommitted("t1") || !d.IsCommitted("new") {
			t.Error("tokens of retained records must stay, others go")
		}
		s.must(d.Close())
		d = s.open()
	}
	if n := len(s.Files()); n > 60 {
		t.Errorf("%d files are left", n)
	}
}

func readOnly(t *testing.T, s *suite) {
	_, err := s.Open(store.Options{ReadOnly: true})
	s.code(err, fault.NoCheckpoint)
	d := s.open()
	n := s.publish(d).Epoch
	files := fmt.Sprint(s.Files())
	ro, err := s.Open(store.Options{ReadOnly: true})
	s.must(err)
	if r := s.latest(ro); r == nil || r.Epoch != n {
		t.Errorf("read %v", r)
	}
	s.code(ro.Publish(&store.Record{Epoch: n + 1}), fault.StateDir, "reading only")
	s.code(ro.Grant("op", 1), fault.StateDir, "reading only")
	s.must(ro.Close())
	if got := fmt.Sprint(s.Files()); got != files {
		t.Errorf("files changed from %s to %s", files, got)
	}
	s.publish(d) // its owner wasn't disturbed
}

func onlyNew(t *testing.T, s *suite) {
	o := s.options()
	o.New = true
	d := s.with(o)
	s.blob(d, 17, "x", body(17))
	s.must(d.Close())
	if f := s.Files(); len(f) != 0 {
		t.Errorf("an unfinished savepoint left %q", f)
	}
	d = s.with(o)
	b := s.blob(d, 17, "x", body(17))
	s.must(errors.Join(d.Publish(&store.Record{Epoch: 17, InFlight: flights(b)}), d.Close()))
	_, err := s.Open(o)
	s.code(err, fault.SavepointTaken)
	if r := s.latest(s.open()); r == nil || r.Epoch != 17 {
		t.Errorf("savepoint has %v", r)
	}
}

// goroutines write blobs, grants and commits at once while epochs go on.
func goroutines(t *testing.T, s *suite) {
	d := s.open()
	const tasks = 8
	for range 4 {
		n, err := d.NextEpoch()
		s.must(err)
		blobs := make([]store.Blob, tasks)
		errs := make([]error, tasks)
		var wg sync.WaitGroup
		for i := range tasks {
			wg.Go(func() {
				w, err := d.Create(n, fmt.Sprint("task ", i))
				if err == nil {
					_, err = w.Write(body(uint64(i)))
				}
				if err == nil {
					blobs[i], err = w.Finish()
				}
				h := sink.Handle{Token: fmt.Sprint(n, "-", i), Epoch: n}
				errs[i] = errors.Join(err, d.Grant(fmt.Sprint("op", i), int(n)), d.Committed([]sink.Handle{h}))
			})
		}
		wg.Wait()
		s.must(errors.Join(errs...))
		s.must(d.Publish(&store.Record{Epoch: n, InFlight: flights(blobs...)}))
	}
	s.must(d.Close())
	d = s.open()
	r := s.latest(d)
	for i, f := range r.InFlight {
		b := f.Blob
		rd, err := d.ReadBlob(b)
		s.must(err)
		got := make([]byte, rd.Size())
		_, err = rd.ReadAt(got, 0)
		s.must(err)
		if !bytes.Equal(got, body(uint64(i))) || d.Granted()[fmt.Sprint("op", i)] != 4 || !d.IsCommitted(fmt.Sprint(4, "-", i)) {
			t.Errorf("task %d: blob, grant or commit differs", i)
		}
		s.must(rd.Close())
	}
}

// large goes through a blob of several pieces, whatever these are.
func large(t *testing.T, s *suite) {
	d := s.open()
	n, err := d.NextEpoch()
	s.must(err)
	data := make([]byte, 18<<20)
	for i := range data {
		data[i] = byte(i * 7 >> 3)
	}
	w, err := d.Create(n, "large")
	s.must(err)
	for at := 0; at < len(data); at += 1 << 20 {
		_, err := w.Write(data[at : at+1<<20])
		s.must(err)
	}
	b, err := w.Finish()
	s.must(err)
	s.must(d.Publish(&store.Record{Epoch: n, InFlight: flights(b)}))
	s.latest(d)
	r, err := d.ReadBlob(b)
	s.must(err)
	got := make([]byte, 9<<20)
	if _, err := r.ReadAt(got, 5<<20-3); err != nil || !bytes.Equal(got, data[5<<20-3:][:9<<20]) {
		t.Errorf("the middle differs (%v)", err)
	}
	if n, err := r.ReadAt(got, int64(len(data))-4); n != 4 || err == nil {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	s.must(r.Close())
	gone, err := d.Create(n+1, "aborted")
	s.must(err)
	_, err = gone.Write(data[:10<<20])
	s.must(err)
	gone.Abort()
}

func closed(t *testing.T, s *suite) {
	d := s.open()
	s.publish(d)
	s.must(d.Close())
	s.must(d.Close())
	s.code(d.Grant("op", 1), fault.StateDir)
	s.code(d.Publish(&store.Record{Epoch: 2}), fault.StateDir)
}

// flights names blobs in a record where their contents don't matter to the store.
func flights(blobs ...store.Blob) (fs []store.Flight) {
	for _, b := range blobs {
		fs = append(fs, store.Flight{From: "a", To: "b", Blob: b})
	}
	return fs
}
