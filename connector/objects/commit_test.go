package objects

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// resourceOf is what a committer rests on.
func resourceOf(t *testing.T, c sink.Committer) *resource {
	t.Helper()
	r, ok := sink.As[*resource](c)
	if !ok {
		t.Fatal("the committer isn't one of this package")
	}
	return r
}

// folders puts each record into a folder of its own.
func folders(dst []byte, v string) []byte { return append(dst, v...) }

// wantCommit says if a commit doesn't end with the code; "" is success. Only losses and what people must mend are permanent.
func wantCommit(t *testing.T, what string, err error, code fault.Code, permanent bool) {
	t.Helper()
	if fault.CodeOf(err) != code.ID || (err != nil) != (code.ID != "") || sink.IsPermanent(err) != permanent {
		t.Errorf("%s: %v (permanent: %v), want %q", what, err, sink.IsPermanent(err), code.ID)
	}
}

// TestServerSaysItIsComplete lets the server claim so without doing it: the object isn't there, and that is no success.
func TestServerSaysItIsComplete(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	w, c := open(t, place(b.addr))
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a")
	b.on(reqComplete, func(int, http.ResponseWriter, func()) {})
	for range 2 {
		wantCommit(t, "at first", c.Commit(t.Context(), []sink.Handle{h}), fault.CommitFailed, false)
	}
	r := resourceOf(t, c)
	for key, since := range r.missed {
		r.missed[key] = since.Add(-patience)
	}
	wantCommit(t, "for long", c.Commit(t.Context(), []sink.Handle{h}), fault.LostCommit, true)
	b.on("", nil)
	wantCommit(t, "when it does", c.Commit(t.Context(), []sink.Handle{h}), fault.Code{}, false)
	if len(r.missed) > 0 {
		t.Errorf("remembered: %v", r.missed)
	}
}

// TestAnswerToCompletionIsLost: the upload is gone, and the object is the evidence.
func TestAnswerToCompletionIsLost(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	s := place(b.addr)
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a")
	b.on(reqComplete, func(n int, w http.ResponseWriter, pass func()) {
		if n == 1 {
			pass()
			panic(http.ErrAbortHandler)
		}
		refuse(w, http.StatusNotFound, "NoSuchUpload") // as Amazon's says after a while
	})
	for range 2 {
		wantCommit(t, "commit", c.Commit(t.Context(), []sink.Handle{h}), fault.Code{}, false)
	}
	if got, err := visible(srv, s); err != nil || len(got) != 1 || b.count(reqComplete) < 3 {
		t.Errorf("visible: %q, %v", got, err)
	}
}

// TestPartsWithOtherETags: those of a part that arrived twice may change, its bytes don't. A part of other bytes is a loss.
func TestPartsWithOtherETags(t *testing.T) {
	srv := testsvc.S3(t)
	for change, code := range map[string]fault.Code{"a\n": {}, "b\n": {}, "other bytes": fault.LostCommit} {
		s := place(srv.Addr)
		w, c := open(t, s)
		h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a")
		n, err := readNative(h)
		if err != nil {
			t.Fatal(err)
		}
		// The server's ETags say what the bytes are, so those of the same size stand for the same bytes.
		if _, err := storeOf(t, s).put(t.Context(), n.Objects[0].Key, n.Objects[0].Upload, 1, []byte(change)); err != nil {
			t.Fatal(err)
		}
		wantCommit(t, change, c.Commit(t.Context(), []sink.Handle{h}), code, code.ID != "")
	}
}

// TestNoAnswer: while the server is away nothing is decided, whichever request it is.
func TestNoAnswer(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	for kind, status := range map[string]int{reqComplete: http.StatusInternalServerError, reqHead: http.StatusBadGateway} {
		s := place(b.addr)
		w, _ := open(t, s)
		h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a")
		b.answers(kind, status, "")
		s.Timeout = 300 * time.Millisecond
		_, c := open(t, s)
		wantCommit(t, kind, c.Commit(t.Context(), []sink.Handle{h}), fault.CommitFailed, false)
		b.on("", nil)
		wantCommit(t, kind+" again", c.Commit(t.Context(), []sink.Handle{h}), fault.Code{}, false)
	}
}

// TestReplacedObject: what stands under the key isn't what was prepared.
func TestReplacedObject(t *testing.T) {
	srv := testsvc.S3(t)
	s := place(srv.Addr)
	st := storeOf(t, s)
	for name, in := range map[string]s3.PutObjectInput{
		"without a token":    {Body: strings.NewReader("a\n")},
		"with another token": {Body: strings.NewReader("a\n"), Metadata: map[string]string{metaToken: txn.NewToken()}},
		"of another size":    {Body: strings.NewReader("abc\n")},
	} {
		w, c := open(t, s)
		h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a")
		n, err := readNative(h)
		if err := errors.Join(err, c.Commit(t.Context(), []sink.Handle{h})); err != nil {
			t.Fatal(err)
		}
		in.Bucket, in.Key = aws.String(s.Bucket), aws.String(n.Objects[0].Key)
		if name == "of another size" {
			in.Metadata = map[string]string{metaToken: h.Token}
		}
		if _, err := st.c.PutObject(t.Context(), &in); err != nil {
			t.Fatal(err)
		}
		wantCommit(t, name, c.Commit(t.Context(), []sink.Handle{h}), fault.UnknownCommit, true)
	}
}

// TestOneOfSeveralIsLost: the others of the transaction become visible all the same, and the loss names the object.
func TestOneOfSeveralIsLost(t *testing.T) {
	srv := testsvc.S3(t)
	s := place(srv.Addr)
	s.Folder = folders
	w, c := open(t, s)
	h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a", "b", "c")
	n, err := readNative(h)
	if err != nil || len(n.Objects) != 3 {
		t.Fatalf("%+v, %v", n, err)
	}
	gone := n.Objects[1]
	if err := storeOf(t, s).abort(t.Context(), upload{key: gone.Key, id: gone.Upload}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := c.Commit(t.Context(), []sink.Handle{h})
		wantCommit(t, "commit", err, fault.LostCommit, true)
		if !strings.Contains(err.Error(), gone.Key) || !strings.Contains(err.Error(), gone.Upload) {
			t.Errorf("%v doesn't name %s", err, gone.Key)
		}
	}
	if got, err := visible(srv, s); err != nil || len(got) != 2 {
		t.Errorf("visible: %q, %v", got, err)
	}
}

// TestHalfCommitted crashes between two objects of a transaction, in each order of what comes then.
func TestHalfCommitted(t *testing.T) {
	srv := testsvc.S3(t)
	for name, then := range map[string]func(c sink.Committer, h sink.Handle) error{
		"commit": func(c sink.Committer, h sink.Handle) error { return c.Commit(t.Context(), []sink.Handle{h}) },
		"recover": func(c sink.Committer, h sink.Handle) error {
			return c.Recover(t.Context(), []sink.Handle{h}, []sink.Slot{h.Slot})
		},
		"by hand": func(c sink.Committer, h sink.Handle) error {
			found, err := resourceOf(t, c).List(t.Context(), h.Slot.Name)
			if err != nil || len(found) != 1 || found[0].Token != h.Token {
				return errors.Join(err, errors.New("what is half committed isn't listed"))
			}
			return resourceOf(t, c).Finish(t.Context(), found[0], true)
		},
	} {
		s := place(srv.Addr)
		s.Folder = folders
		w, c := open(t, s)
		h := txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a", "b", "c")
		n, err := readNative(h)
		if err != nil {
			t.Fatal(err)
		}
		if err := storeOf(t, s).complete(t.Context(), s.Bucket, n.Objects[2]); err != nil {
			t.Fatal(err)
		}
		if err := then(c, h); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := visible(srv, s); err != nil || len(got) != 3 {
			t.Errorf("%s: visible %q, %v", name, got, err)
		}
	}
}

// TestOnlyWhatIsPreparedIsListed, and only that can be committed by hand.
func TestOnlyWhatIsPreparedIsListed(t *testing.T) {
	srv := testsvc.S3(t)
	s := place(srv.Addr)
	s.PartSize = 5 * mib
	w, c := open(t, s)
	r := resourceOf(t, c)
	if err := errors.Join(w.Begin(t.Context(), txntest.Slot(t, 1)), w.Write(t.Context(), lines(17, mib))); err != nil {
		t.Fatal(err)
	}
	if err := w.send.Flush(t.Context()); err != nil { // two parts are there
		t.Fatal(err)
	}
	if found, err := r.List(t.Context(), ""); err != nil || len(found) > 0 {
		t.Errorf("listed before it is prepared: %+v, %v", found, err)
	}
	p := txn.Pending{Name: txn.NameOf(w.slot.Name, w.token), Slot: w.slot.Name, Token: w.token}
	if err := r.Finish(t.Context(), p, true); fault.CodeOf(err) != fault.CommitFailed.ID || !strings.Contains(err.Error(), "never prepared") {
		t.Errorf("committed before it is prepared: %v", err)
	}
	h, err := w.Prepare(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	found, err := r.List(t.Context(), "")
	if err != nil || len(found) != 1 || found[0].Name != p.Name || found[0].Slot != h.Slot.Name || found[0].Token != h.Token {
		t.Fatalf("listed %+v, %v", found, err)
	}
	if err := r.Finish(t.Context(), found[0], true); err != nil {
		t.Fatal(err)
	}
	// The job, started later, finds it committed.
	wantCommit(t, "commit", c.Commit(t.Context(), []sink.Handle{h}), fault.Code{}, false)
	if got, err := visible(srv, s); err != nil || len(got) != 17 {
		t.Errorf("%d lines are visible, %v", len(got), err)
	}
	if err := r.Finish(t.Context(), found[0], false); err == nil {
		t.Error("a committed transaction was aborted")
	}
}

// TestRecoverLeavesStrangersAlone has uploads of others under the same prefix, and one more page of them than a server lists.
func TestRecoverLeavesStrangersAlone(t *testing.T) {
	srv := testsvc.S3(t)
	s := place(srv.Addr)
	st := storeOf(t, s)
	mine := txntest.Slot(t, 1)
	token := txn.NewToken()
	strangers := []string{"x", "x_0", txn.NameOf(mine.Name, token), txn.NameOf(mine.Name, token[1:]) + "_0", mine.Name + "_" + token}
	for _, other := range []string{mine.Name + "1", mine.Name + "-1", "x-" + mine.Name, strings.ToUpper(mine.Name)} {
		strangers = append(strangers, txn.NameOf(other, token)+"_0000")
	}
	for i, name := range append(strangers, txn.NameOf(mine.Name, token)+"_0000", "k=1/"+txn.NameOf(mine.Name, token)+"_0001.old") {
		prefix := s.Prefix + "/"
		if i == 0 {
			prefix = "other-" + prefix
		}
		if _, err := st.create(t.Context(), prefix+name, "", ""); err != nil {
			t.Fatal(err)
		}
	}
	_, c := open(t, s)
	if err := c.Recover(t.Context(), nil, []sink.Slot{mine}); err != nil {
		t.Fatal(err)
	}
	left, err := srv.Uploads(t.Context(), s.Prefix+"/")
	if err != nil || len(left) != len(strangers)-1 {
		t.Errorf("left %q, %v; want %d", left, err, len(strangers)-1)
	}
	if mineLeft, err := leftovers(s, mine.Name); err != nil || len(mineLeft) > 0 {
		t.Errorf("left of the slot: %q, %v", mineLeft, err)
	}
}

// TestUploadsThatComeBack: an abort that a server forgets is repeated, and not for ever.
func TestUploadsThatComeBack(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	for forgets, code := range map[int]fault.Code{2: {}, 1000: fault.CommitFailed} {
		s := place(b.addr)
		w, c := open(t, s)
		txntest.Prepare(t, w, txntest.Slot(t, 1), 1, "a")
		b.on(reqAbort, func(n int, w http.ResponseWriter, pass func()) {
			if n > forgets {
				pass()
				return
			}
			w.WriteHeader(http.StatusNoContent)
		})
		wantCommit(t, "recover", c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, 1)}), code, false)
	}
}

// TestRulesAreWarnedOf has lifecycle rules, which the real server doesn't know.
func TestRulesAreWarnedOf(t *testing.T) {
	srv := testsvc.S3(t)
	b := before(t, srv)
	s := place(b.addr)
	rule := func(id, status, filter, days string) string {
		return "<Rule><ID>" + id + "</ID><Status>" + status + "</Status>" + filter +
			"<AbortIncompleteMultipartUpload><DaysAfterInitiation>" + days + "</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>"
	}
	in := func(prefix string) string { return "<Filter><Prefix>" + prefix + "</Prefix></Filter>" }
	b.on(reqRules, func(_ int, w http.ResponseWriter, _ func()) {
		_, _ = w.Write([]byte("<LifecycleConfiguration>" +
			rule("all", "Enabled", "<Filter></Filter>", "1") +
			rule("ours", "Enabled", in(s.Prefix), "6") +
			rule("below", "Enabled", "<Filter><And><Prefix>"+s.Prefix+"/dt=</Prefix></And></Filter>", "2") +
			rule("older", "Enabled", "<Prefix>"+s.Prefix+"/</Prefix>", "3") +
			rule("late", "Enabled", in(s.Prefix), "7") +
			rule("off", "Disabled", in(s.Prefix), "1") +
			rule("other", "Enabled", in("other/"), "1") +
			"<Rule><ID>expires</ID><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule></LifecycleConfiguration>"))
	})
	var log bytes.Buffer
	of := task()
	of.Log = slog.New(slog.NewTextHandler(&log, nil))
	c, err := s.Committer(t.Context(), of)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Recover(t.Context(), nil, []sink.Slot{txntest.Slot(t, 1)}), c.Close()); err != nil {
		t.Fatal(err)
	}
	for id, warned := range map[string]bool{"all": true, "ours": true, "below": true, "older": true, "late": false, "off": false, "other": false, "expires": false} {
		if got := strings.Contains(log.String(), "rule="+id+" "); got != warned {
			t.Errorf("rule %s: warned %v, want %v; the log is\n%s", id, got, warned, log.String())
		}
	}
}

func TestHandleOfAnotherForm(t *testing.T) {
	srv := testsvc.S3(t)
	_, c := open(t, place(srv.Addr))
	token := txn.NewToken()
	for data, code := range map[string]fault.Code{
		"":              fault.CommitFailed,
		`{"version":2}`: fault.NewerFormat,
		`{"version":1,"native":{"bucket":"b","objects":[{"key":"x","upload":"u","parts":["e"]}]}}`:                          fault.CommitFailed,
		`{"version":1,"native":{"bucket":"b","objects":[{"key":"s-` + txn.NewToken() + `_0","upload":"u","parts":["e"]}]}}`: fault.CommitFailed,
		`{"version":1,"native":{"bucket":"b","objects":[{"key":"s-` + token + `_0","parts":["e"]}]}}`:                       fault.CommitFailed,
		`{"version":1,"native":{"bucket":"b","objects":[{"key":"s-` + token + `_0","upload":"u"}]}}`:                        fault.CommitFailed,
		`{"version":1,"native":{"objects":[{"key":"s-` + token + `_0","upload":"u","parts":["e"]}]}}`:                       fault.CommitFailed,
	} {
		wantCommit(t, data, c.Commit(context.Background(), []sink.Handle{{Token: token, Native: []byte(data)}}), code, true)
	}
}
