package txntest

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/weirline/weirline/sink"
)

// Trace is a transaction that a child has prepared.
type Trace struct {
	Handle  sink.Handle // Token, Epoch and Native
	Records int

	Begun     time.Time     // it took its first records
	Since     time.Duration // from the begin of the last epoch to that of its own; 0 if the child's first has prepared it
	Epoch     time.Time     // its epoch began
	Committed time.Time     // by a child that says so; zero if none does
	Recovered bool          // by a child that hasn't prepared it
}

const (
	preparedNote = "prepared %s %d %d %d %d %d %x"
	finishedNote = "finished %s %d %t"
)

// prepared notes a transaction that is.
func (c *Child) prepared(t Trace) {
	c.note(preparedNote, t.Handle.Token, t.Records, t.Handle.Epoch, t.Begun.UnixMicro(), t.Since, t.Epoch.UnixMicro(), t.Handle.Native)
}

// finished notes which transactions are committed.
func (c *Child) finished(hs []sink.Handle, recovered bool) {
	for _, h := range hs {
		c.note(finishedNote, h.Token, time.Now().UnixMicro(), recovered)
	}
}

// Traces reads what children have noted ([Kills.Notes]), by token.
func Traces(notes string) (map[string]Trace, error) {
	f, err := os.Open(notes)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := map[string]Trace{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		kind, _, _ := strings.Cut(lines.Text(), " ")
		var t Trace
		var begun, at int64
		switch kind {
		case "prepared":
			_, err = fmt.Sscanf(lines.Text(), preparedNote, &t.Handle.Token, &t.Records, &t.Handle.Epoch, &begun, &t.Since, &at, &t.Handle.Native)
			t.Begun, t.Epoch = time.UnixMicro(begun), time.UnixMicro(at)
			found[t.Handle.Token] = t
		case "finished":
			var token string
			_, err = fmt.Sscanf(lines.Text(), finishedNote, &token, &at, &t.Recovered)
			if was, is := found[token]; is && was.Committed.IsZero() {
				was.Committed, was.Recovered = time.UnixMicro(at), t.Recovered
				found[token] = was
			}
		}
		if err != nil {
			return nil, fmt.Errorf("note %q: %w", lines.Text(), err)
		}
	}
	return found, lines.Err()
}
