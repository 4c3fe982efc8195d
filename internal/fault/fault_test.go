package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestErrorText(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{New(Usage, "flag -%s", "x"), "WL1501: flag -x; fix: see -help"},
		{New(Usage, "flag").At("line 1").WithFix("mend %d", 2), "WL1501 line 1: flag; fix: mend 2"},
		{Wrap(Unreadable, io.ErrUnexpectedEOF, "read a.log"), "WL1202: read a.log: unexpected EOF; fix: " + Unreadable.Fix},
		{New(Code{ID: "WL9999"}, "no fix"), "WL9999: no fix"},
	} {
		if got := c.err.Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestErrorIsAndCause(t *testing.T) {
	err := fmt.Errorf("outer: %w", Wrap(Unreadable, io.EOF, "read"))
	if !errors.Is(err, New(Unreadable, "")) || errors.Is(err, New(NoInput, "")) {
		t.Error("errors.Is goes by something other than the code")
	}
	if !errors.Is(err, io.EOF) {
		t.Error("the cause is lost")
	}
	if got := CodeOf(err); got != Unreadable.ID {
		t.Errorf("CodeOf = %q", got)
	}
	if got := CodeOf(Wrap(SinkFailed, err, "write")); got != SinkFailed.ID {
		t.Errorf("CodeOf gives %q, not the outermost", got)
	}
	if got := CodeOf(io.EOF); got != "" {
		t.Errorf("CodeOf of a plain error = %q", got)
	}
}

func TestEnsureKeepsACode(t *testing.T) {
	lost := fmt.Errorf("commit: %w", New(LostCommit, "gone"))
	if got := CodeOf(Ensure(CommitFailed, lost, "recover")); got != LostCommit.ID {
		t.Errorf("an error with a code has %s afterwards", got)
	}
	if got := Ensure(CommitFailed, io.EOF, "recover %d", 2); CodeOf(got) != CommitFailed.ID || !errors.Is(got, io.EOF) {
		t.Errorf("a plain error: %v", got)
	}
}

func TestAtKeepsTheFirstPlace(t *testing.T) {
	e := At(New(BadRecord, "bad"), "operator parse")
	e = At(e, "task 3")
	if f, ok := errors.AsType[*Error](e); !ok || f.Where != "operator parse" {
		t.Errorf("At: %v", e)
	}
	if got := At(io.EOF, "split 1"); got.Error() != "split 1: EOF" || !errors.Is(got, io.EOF) {
		t.Errorf("At of a plain error: %v", got)
	}
}
