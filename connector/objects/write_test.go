package objects

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

const mib = 1 << 20

// lines are n records of a size, different from one another.
func lines(n, size int) (out []string) {
	for i := range n {
		out = append(out, strings.Repeat("0", size-10)+fmt.Sprintf("%09d", i)) // with the line feed
	}
	return out
}

// TestObjectHoldsRecordsInOrder writes more than a part, and what ends exactly with one.
func TestObjectHoldsRecordsInOrder(t *testing.T) {
	srv := testsvc.S3(t)
	for name, c := range map[string]struct{ records, size, parts int }{
		"small":                      {3, 10, 1},
		"one part exactly":           {5, mib, 1},
		"a part and a record":        {6, mib, 2},
		"two parts exactly":          {10, mib, 2},
		"four parts, the last short": {18, mib, 4},
		"records beyond a part":      {2, 7 * mib, 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := place(srv.Addr)
			s.PartSize, s.Uploads, s.Suffix = 5*mib, 2, ".txt"
			w, c2 := open(t, s)
			rs := lines(c.records, c.size)
			h := txntest.Prepare(t, w, txntest.Slot(t, 1), 7, rs...)
			n, err := readNative(h)
			if err != nil || len(n.Objects) != 1 || len(n.Objects[0].Parts) != c.parts || n.Objects[0].Size != int64(c.records*c.size) {
				t.Fatalf("handle %+v, %v; want %d parts", n, err, c.parts)
			}
			if got, err := visible(srv, s); err != nil || len(got) > 0 {
				t.Fatalf("visible before the commit: %d lines, %v", len(got), err)
			}
			if err := c2.Commit(t.Context(), []sink.Handle{h}); err != nil {
				t.Fatal(err)
			}
			got, err := visible(srv, s)
			if err != nil || !slices.Equal(got, rs) {
				t.Errorf("%d lines are visible, %v; want the %d in their order", len(got), err, len(rs))
			}
			all, err := srv.Objects(t.Context(), s.Prefix+"/")
			want := fmt.Sprintf("%s/%s-%s_0000.txt", s.Prefix, h.Slot.Name, h.Token)
			if _, there := all[want]; err != nil || len(all) != 1 || !there {
				t.Errorf("objects %q, %v, want %s", slices.Collect(maps.Keys(all)), err, want)
			}
			m := w.t.Metrics.(*counts)
			if m.parts.Load() != int64(c.parts) || m.bytes.Load() != n.Objects[0].Size || m.objects.Load() != 1 {
				t.Errorf("counted %d parts, %d bytes, %d objects", m.parts.Load(), m.bytes.Load(), m.objects.Load())
			}
		})
	}
}

// TestSeveralObjects has folders, rolling by size and eviction in one transaction, then another by the same writer.
func TestSeveralObjects(t *testing.T) {
	srv := testsvc.S3(t)
	s := place(srv.Addr)
	s.PartSize, s.MaxOpen, s.Rolling = 5*mib, 2, parts.Rolling{Size: 6 * mib}
	s.Folder = func(dst []byte, v string) []byte { return append(append(dst, "k="...), v[len(v)-1]) }
	w, c := open(t, s)
	want := map[string][]string{}
	for epoch := range 2 {
		rs := lines(30, mib) // ten folders, each last digit's
		for _, r := range rs {
			folder := fmt.Sprintf("%s/k=%c", s.Prefix, r[len(r)-1])
			want[folder] = append(want[folder], r)
		}
		h := txntest.Prepare(t, w, txntest.Slot(t, 1), uint64(epoch+1), rs...)
		for _, b := range w.spare {
			if cap(b) > s.PartSize || len(w.spare) > spares {
				t.Errorf("%d buffers are kept, one of %d bytes", len(w.spare), cap(b))
			}
		}
		n, err := readNative(h)
		if err != nil || len(n.Objects) != 30 { // with two open of ten, each record ends another's object
			t.Fatalf("%d objects, %v", len(n.Objects), err)
		}
		if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string][]string{}
	all, err := srv.Objects(t.Context(), s.Prefix+"/")
	if err != nil {
		t.Fatal(err)
	}
	for key, text := range all {
		folder := key[:strings.LastIndexByte(key, '/')]
		got[folder] = append(got[folder], strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
	}
	for folder, rs := range want {
		if slices.Sort(got[folder]); !slices.Equal(got[folder], sorted(rs)) {
			t.Errorf("folder %s has %d lines, want %d", folder, len(got[folder]), len(rs))
		}
	}
	if left, err := leftovers(s, txntest.Slot(t, 1).Name); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// held are the bytes in buffers that aren't on their way.
func (x *tx) held() (n int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range x.files {
		n += cap(f.buf) + cap(f.first)
	}
	for _, b := range x.spare {
		n += cap(b)
	}
	return n
}

func sorted(rs []string) []string {
	rs = slices.Clone(rs)
	slices.Sort(rs)
	return rs
}

func TestRollingBySize(t *testing.T) {
	srv := testsvc.S3(t)
	s := place(srv.Addr)
	s.Rolling = parts.Rolling{Size: 100}
	w, c := open(t, s)
	rs := lines(50, 10)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, rs...)
	if n, err := readNative(h); err != nil || len(n.Objects) != 5 {
		t.Errorf("handle %+v, %v, want 5 objects", n, err)
	}
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Fatal(err)
	}
	if got, err := visible(srv, s); err != nil || !slices.Equal(got, rs) {
		t.Errorf("%d lines are visible, %v; want %d in their order", len(got), err, len(rs))
	}
}

// TestRejects has records that can't be encoded, or have no folder, first, alone and among others.
func TestRejects(t *testing.T) {
	type event struct {
		Folder string
		V      any
	}
	srv := testsvc.S3(t)
	plain := place(srv.Addr)
	s := TxSink[event]{
		Bucket: plain.Bucket, Prefix: plain.Prefix, Endpoint: plain.Endpoint, AccessKey: plain.AccessKey, SecretKey: plain.SecretKey,
		Format: parts.JSON[event]{}, Folder: func(dst []byte, e event) []byte { return append(dst, e.Folder...) },
	}
	w, c := open(t, s)
	bad := func() {}
	for i, x := range []struct {
		records []event
		refused []int
		objects int
	}{
		{[]event{{"a", bad}, {"../x", 1}, {"", bad}}, []int{0, 1, 2}, 0},
		{[]event{{"a", bad}, {"b", 1}, {"c", bad}}, []int{0, 2}, 2}, // the first one's object is there, and empty
		{[]event{{"a", 1}, {"b", bad}}, []int{1}, 1},
	} {
		if err := w.Begin(t.Context(), txntest.Slot(t, i)); err != nil {
			t.Fatal(err)
		}
		err := w.Write(t.Context(), x.records)
		r, ok := errors.AsType[*sink.Rejected](err)
		if !ok || !slices.Equal(slices.Sorted(maps.Keys(r.Errs)), x.refused) {
			t.Errorf("case %d: %v, want %v rejected", i, err, x.refused)
		}
		h, err := w.Prepare(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := readNative(h); err != nil || len(n.Objects) != x.objects {
			t.Errorf("case %d: handle %+v, %v, want %d objects", i, n, err, x.objects)
		}
		if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
			t.Error(err)
		}
		if left, err := leftovers(s, txntest.Slot(t, i).Name); err != nil || len(left) > 0 {
			t.Errorf("case %d: left: %q, %v", i, left, err)
		}
	}
	if got, err := visible(srv, s); err != nil || len(got) != 2 {
		t.Errorf("visible: %q, %v", got, err)
	}
}

// TestWriteDoesNotWait holds the parts up on their way: a writer takes records until its buffers are full, says so, and goes on
// when there is room.
func TestWriteDoesNotWait(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	held := make(chan struct{})
	b.on(reqPart, func(_ int, _ http.ResponseWriter, pass func()) {
		<-held
		pass()
	})
	s := place(b.addr)
	s.PartSize, s.Uploads = 5*mib, 2
	w, c := open(t, s)
	woken := make(chan struct{}, 100)
	w.OnRoom(func() { woken <- struct{}{} })
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	rs := lines(40, mib)
	taken := 0
	for w.Room() {
		if err := w.Write(t.Context(), rs[taken:taken+1]); err != nil {
			t.Fatal(err)
		}
		taken++
	}
	// The first part, two on their way, and the record that ended the last of them.
	if taken != 16 {
		t.Errorf("%d MiB were taken, want 16", taken)
	}
	if held := w.held(); held > 4*s.PartSize {
		t.Errorf("%d bytes are held", held)
	}
	// What has no room waits, and no longer than it is told to.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := w.Write(ctx, rs[taken:taken+6]); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write without room: %v", err)
	}
	close(held)
	<-woken
	if !w.Room() {
		t.Error("no room after it was told of")
	}
	if err := errors.Join(w.Close(), c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, 1)})); err != nil {
		t.Error(err)
	}
}

// TestErrorsOfPartsShow lets the second part fail for good: the writer says so without being asked to write, and each call does.
func TestErrorsOfPartsShow(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	b.answers(reqPart, http.StatusForbidden, "AccessDenied")
	s := place(b.addr)
	s.PartSize = 5 * mib
	w, _ := open(t, s)
	woken := make(chan struct{}, 100)
	w.OnRoom(func() { woken <- struct{}{} })
	if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, 1)), w.Write(t.Context(), lines(11, mib))); err != nil {
		t.Fatal(err)
	}
	<-woken
	_, perr := w.Prepare(t.Context(), 1)
	for what, err := range map[string]error{"Err": w.Err(), "Write": w.Write(t.Context(), lines(6, mib)), "Prepare": perr} {
		if fault.CodeOf(err) != fault.SinkFailed.ID || !sink.IsPermanent(err) || !strings.Contains(err.Error(), "s3:PutObject") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if left, err := leftovers(s, txntest.Slot(t, 1).Name); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestThrottled: a server that is busy is asked again, by the client.
func TestThrottled(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	for _, kind := range []string{reqCreate, reqPart, reqComplete, reqHead, reqUploads} {
		s := place(b.addr)
		w, c := open(t, s)
		b.on(kind, func(n int, w http.ResponseWriter, pass func()) {
			if n == 1 {
				refuse(w, http.StatusServiceUnavailable, "SlowDown")
				return
			}
			pass()
		})
		h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a", "b")
		if err := c.Recover(t.Context(), []sink.Handle{h}, []sink.Slot{txntest.Slot(t, 1)}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got, err := visible(srv, s); err != nil || len(got) != 2 || b.count(kind) < 2 {
			t.Errorf("%s: visible %q, %v after %d requests", kind, got, err, b.count(kind))
		}
	}
}

// TestUploadBegunTwice loses the answer to the first request: of the two uploads one is left.
func TestUploadBegunTwice(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	b.on(reqCreate, func(n int, w http.ResponseWriter, pass func()) {
		pass()
		if n == 1 {
			panic(http.ErrAbortHandler)
		}
	})
	s := place(b.addr)
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a")
	if left, err := leftovers(s, txntest.Slot(t, 1).Name); err != nil || len(left) != 1 || b.count(reqCreate) != 2 {
		t.Errorf("uploads %q, %v after %d requests, want one after two", left, err, b.count(reqCreate))
	}
	if err := c.Commit(t.Context(), []sink.Handle{h}); err != nil {
		t.Error(err)
	}
}

// TestCloseWhileUploadsBegin: an upload that is just being made when the writer is closed is given up, too.
func TestCloseWhileUploadsBegin(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	s := place(b.addr)
	s.Folder, s.Rolling = folders, parts.Rolling{Size: 1}
	w, _ := open(t, s)
	asked, made, closing := make(chan struct{}, 10), make(chan struct{}, 10), make(chan struct{})
	b.on(reqCreate, func(n int, w http.ResponseWriter, pass func()) {
		if n > 1 {
			asked <- struct{}{}
			<-closing
			defer func() { made <- struct{}{} }()
		}
		pass()
	})
	if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, 1)), w.Write(t.Context(), []string{"a", "b"})); err != nil {
		t.Fatal(err)
	}
	<-asked
	done := make(chan error, 1)
	go func() { done <- w.Close() }()
	for w.send.Write(t.Context(), nil) == nil { // until it has begun
		continue
	}
	close(closing)
	<-made
	if err := <-done; err != nil {
		t.Error(err)
	}
	if left, err := leftovers(s, txntest.Slot(t, 1).Name); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}

// TestZombies: a writer with several objects and parts on their way, whose slot was cleared, prepares nothing, whichever of its
// uploads it had begun.
func TestZombies(t *testing.T) {
	srv := testsvc.S3(t)
	s := place(srv.Addr)
	s.PartSize = 5 * mib
	s.Folder = func(dst []byte, v string) []byte { return append(dst, v[len(v)-1]) }
	for _, n := range []int{1, 5, 60} {
		w, c := open(t, s)
		if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, n)), w.Write(t.Context(), lines(n, mib))); err != nil {
			t.Fatal(err)
		}
		if err := c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, n)}); err != nil {
			t.Fatal(err)
		}
		err := w.Write(t.Context(), lines(5, mib))
		if err == nil {
			_, err = w.Prepare(t.Context(), 1)
		}
		if fault.CodeOf(err) != fault.SinkFailed.ID || sink.IsPermanent(err) || !strings.Contains(err.Error(), "aborted by somebody else") {
			t.Errorf("%d records: %v", n, err)
		}
		if err := errors.Join(w.Close(), c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, n)})); err != nil {
			t.Error(err)
		}
	}
	if got, err := visible(srv, s); err != nil || len(got) > 0 {
		t.Errorf("visible: %d lines, %v", len(got), err)
	}
}

func TestWriterMisused(t *testing.T) {
	srv := testsvc.S3(t)
	w, _ := open(t, place(srv.Addr))
	if err := w.Write(t.Context(), []string{"x"}); !errors.Is(err, errNotBegun) {
		t.Errorf("Write without Begin: %v", err)
	}
	if _, err := w.Prepare(t.Context(), 1); !errors.Is(err, errNotBegun) {
		t.Errorf("Prepare without Begin: %v", err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); err != nil {
		t.Fatal(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 2)); fault.CodeOf(err) != fault.SinkFailed.ID {
		t.Errorf("second Begin: %v", err)
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if err := w.Begin(t.Context(), txntest.Slot(t, 1)); !errors.Is(err, errClosed) {
		t.Errorf("Begin after Close: %v", err)
	}
}

func TestPartsOf(t *testing.T) {
	token := txn.NewToken()
	o := TxSink[string]{Bucket: "b", Prefix: "/a/b/", Suffix: ".csv.gz"}.settings()
	for key, want := range map[string]string{
		o.keyOf("", "job-out-1", token, 0):               "job-out-1 0",
		o.keyOf("dt=1/h=2_3", "job-out-1", token, 12345): "job-out-1 12345",
		"x/" + txn.NameOf("job-"+token, token) + "_0007": "job-" + token + " 7",
		"x/" + txn.NameOf("job", token) + "_12x":         "job 12",
		"x/" + txn.NameOf("job", token) + "_":            "",
		"x/" + txn.NameOf("job", token) + "_x":           "",
		"x/" + txn.NameOf("job", token):                  "",
		"x/" + txn.NameOf("j_b", token) + "_0":           "",
		"x/" + txn.NameOf("job", token[1:]) + "_0":       "",
		txn.NameOf("job", token) + "_0000/y":             "",
		o.prefix + "weirline-preflight-" + token:         "",
		"":                                               "",
		"_":                                              "",
	} {
		got := ""
		if slot, tok, n, ok := partsOf(key); ok && tok == token {
			got = fmt.Sprint(slot, " ", n)
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", key, got, want)
		}
	}
	long := strings.Repeat("s", maxSlot)
	if name := (settings{suffix: strings.Repeat("x", maxSuffix)}).keyOf("", long, token, 9_999_999); len(name) != 255-1 {
		t.Errorf("the longest name has %d bytes", len(name))
	}
}
