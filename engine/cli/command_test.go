package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/weirline/weirline/savepoint"
)

// tell runs a command to its end and returns what it printed; says are parts of that, or of the error.
func tell(t *testing.T, code int, args []string, says ...string) string {
	t.Helper()
	stdout, stderr := start(t, nil, args...).end(code)
	text := stdout
	if code != exitDone {
		text = stderr
	}
	for _, s := range says {
		if !strings.Contains(text, s) {
			t.Errorf("%v doesn't say %q:\n%s", args, s, text)
		}
	}
	return stdout
}

func TestCommandsOfARunningJob(t *testing.T) {
	dir := t.TempDir()
	state, out := filepath.Join(dir, "state"), filepath.Join(dir, "out")
	saved, last := filepath.Join(dir, "saved"), filepath.Join(dir, "last")
	on := func(args ...string) []string { return append(args, "-state", state) }
	tell(t, exitFailed, on("status"), "WL1116", state)

	job := start(t, nil, on("run", "-out", out, "-rate", "2000", "-checkpoint", "100ms", "-parallelism", "2")...)
	job.await("first record written")
	tell(t, exitDone, on("status"), "job counting-app: running", "parallelism 2", "numbers/0 file: ")
	if !json.Valid([]byte(tell(t, exitDone, on("status", "-json"), `"Parallelism": 2`))) {
		t.Error("status -json isn't JSON")
	}
	tell(t, exitDone, on("checkpoint"), "checkpoint ", " is complete")
	if fi, err := os.Stat(filepath.Join(state, socketName)); err != nil || runtime.GOOS != "windows" && fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", fi, err)
	}
	tell(t, exitDone, on("savepoint", saved), "savepoint ", " is complete: "+saved)
	tell(t, exitUsage, on("savepoint", saved), "WL1112", saved)
	tell(t, exitDone, on("rescale", "3"), "runs with parallelism 3")
	tell(t, exitUsage, on("rescale", "1000"), "WL1108", "128 key groups")
	tell(t, exitDone, on("checkpoint", "ls"), "epoch", "yes")
	tell(t, exitDone, on("checkpoint", "verify"), "is whole")
	tell(t, exitDone, on("stop", "-savepoint", last), "savepoint ", "suspended at checkpoint ")
	job.end(exitDone)
	tell(t, exitFailed, on("stop"), "WL1116")
	if left, err := filepath.Glob(filepath.Join(state, "control*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	n := numbers(t, out)
	var d savepoint.Description
	if err := json.Unmarshal([]byte(tell(t, exitDone, []string{"checkpoint", "show", "-at", last})), &d); err != nil {
		t.Fatal(err)
	}
	if d.Job != "counting-app" || d.End != "suspended" || len(d.Sources) != 1 || !strings.Contains(string(d.Sources[0].Splits[0].Position), "0") {
		t.Errorf("shown: %+v", d)
	}
	tell(t, exitDone, []string{"checkpoint", "verify", "-at", saved}, "is whole")
	tell(t, exitUsage, []string{"checkpoint", "ls", "-at", filepath.Join(dir, "nowhere")}, "WL1113", "nowhere")

	// An older savepoint under the same directory goes back; the newest under another one goes on.
	tell(t, exitUsage, on("-from", saved, "-out", out, "-count", "10"), "WL1114", "-rewind")
	more := []string{"-state", filepath.Join(dir, "other"), "-from", last, "-out", out, "-count"}
	start(t, nil, append(more, "100000")...).end(exitDone)
	if got := numbers(t, out); got != 100_000 {
		t.Errorf("%d numbers after %d", got, n)
	}
	_, stderr := start(t, nil, append(more, "100000")...).end(exitDone)
	if !strings.Contains(stderr, "begun from there before") {
		t.Errorf("the second run with -from says:\n%s", stderr)
	}
	tell(t, exitUsage, on("checkpoint", "show", "many"), "WL1501", "checkpoint ls")
}

func TestCommandSocketWithALongPathAndAfterAKill(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, strings.Repeat("long", 30), "state")
	if err := os.MkdirAll(filepath.Dir(state), 0o700); err != nil {
		t.Fatal(err)
	}
	args := []string{"-state", state, "-out", filepath.Join(dir, "out"), "-rate", "1000"}
	job := start(t, nil, args...)
	job.await("first record written")
	tell(t, exitDone, []string{"status", "-state", state}, "running")
	job.signal(syscall.SIGKILL)
	for range job.lines { // until it is dead
	}
	if err := job.cmd.Wait(); err == nil {
		t.Error("it wasn't killed")
	}
	before, err := os.ReadFile(filepath.Join(state, pointerName))
	if err != nil {
		t.Fatal(err)
	}
	tell(t, exitFailed, []string{"status", "-state", state}, "WL1116")
	job = start(t, nil, args...)
	job.await("first record written")
	for answers := false; !answers; { // it listens a moment after it has begun to work
		conn, err := dial(t.Context(), state)
		if answers = err == nil; answers {
			conn.Close()
		}
	}
	if _, err := os.Stat(filepath.Dir(string(before))); !os.IsNotExist(err) {
		t.Errorf("the socket of the killed process is left: %v", err)
	}
	tell(t, exitDone, []string{"stop", "-drain", "-state", state}, "drained at checkpoint")
	job.end(exitDone)
	if _, err := os.Stat(filepath.Join(state, pointerName)); !os.IsNotExist(err) {
		t.Errorf("the pointer to the socket is left: %v", err)
	}
}

func TestVerifyNamesTheDamagedFile(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	start(t, nil, "-state", state, "-out", filepath.Join(dir, "out"), "-count", "100").end(exitDone)
	tell(t, exitDone, []string{"checkpoint", "verify", "-state", state}, "is whole")
	records, err := filepath.Glob(filepath.Join(state, "epochs", "*.epoch"))
	if err != nil || len(records) == 0 {
		t.Fatal(records, err)
	}
	b, err := os.ReadFile(records[0])
	if err == nil {
		b[len(b)/2] ^= 1
		err = os.WriteFile(records[0], b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	tell(t, exitFailed, []string{"checkpoint", "verify", "-state", state}, "WL1104", filepath.Base(records[0]))
	tell(t, exitDone, []string{"checkpoint", "ls", "-state", state}, "no")
}
