package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/fault"
)

// location makes a path mean the same to the running job, which has another working directory.
func location(path string) (string, error) {
	if path == "" || strings.Contains(path, "://") {
		return path, nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fault.Wrap(fault.Usage, err, "path %q", path)
	}
	return abs, nil
}

func (c *command) say(format string, args ...any) error {
	_, err := fmt.Fprintf(c.pr.out, format+"\n", args...)
	return err
}

func (c *command) askStatus(ctx context.Context, _ []string) error {
	a, err := c.ask(ctx, request{Command: "status"})
	if err != nil {
		return err
	}
	if !c.opts.json {
		_, err = fmt.Fprint(c.pr.out, statusText(*a.Status, time.Now()))
		return err
	}
	b, err := json.MarshalIndent(a.Status, "", "  ")
	if err != nil {
		return err
	}
	return c.say("%s", b)
}

// statusText is a status for people.
func statusText(st engine.Status, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %s: %s for %s, parallelism %d, %d restarts, %d rescales\n", st.Job, st.Phase,
		now.Sub(st.Began).Round(time.Second), st.Parallelism, st.Restarts, st.Rescales)
	fmt.Fprintf(&b, "checkpoints: %d complete, %d failed", st.Epochs.Completed, st.Epochs.Failed)
	if st.Epochs.Last > 0 {
		fmt.Fprintf(&b, ", the last is %d, %s ago, %s long", st.Epochs.Last, now.Sub(st.Epochs.LastAt).Round(100*time.Millisecond),
			st.Epochs.LastDuration.Round(time.Millisecond))
	}
	fmt.Fprintf(&b, "; %d transactions uncommitted\n", st.Uncommitted)
	if st.LastError != "" {
		fmt.Fprintf(&b, "last error: %s\n", printable(st.LastError))
	}
	for _, t := range st.Tasks {
		for _, op := range t.Operators {
			fmt.Fprintf(&b, "  %s/%d %s: %d records", t.Name, t.Index, op.Name, op.In)
			if !t.Watermark.IsZero() {
				fmt.Fprintf(&b, ", watermark %s", t.Watermark.Format(time.RFC3339))
			}
			b.WriteString("\n")
		}
	}
	return b.String()
}

func (c *command) askSavepoint(ctx context.Context, args []string) error {
	path, err := location(args[0])
	if err != nil {
		return err
	}
	a, err := c.ask(ctx, request{Command: "savepoint", Path: path})
	if err != nil {
		return err
	}
	return c.say("savepoint %d is complete: %s", a.Epoch, path)
}

func (c *command) askStop(ctx context.Context, _ []string) error {
	path, err := location(c.opts.savepoint)
	if err != nil {
		return err
	}
	a, err := c.ask(ctx, request{Command: "stop", Path: path, Drain: c.opts.drain})
	if err != nil {
		return err
	}
	if path != "" {
		if err := c.say("savepoint %d is complete: %s", a.Epoch, path); err != nil {
			return err
		}
	}
	return c.say("%s at checkpoint %d; %d transactions uncommitted", a.Status.Outcome, a.Status.Epochs.Last, a.Status.Uncommitted)
}

func (c *command) askRescale(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fault.New(fault.Usage, "rescale: %q is no number", args[0]).WithFix("give a number of tasks, such as 4")
	}
	a, err := c.ask(ctx, request{Command: "rescale", Tasks: n})
	if err != nil {
		return err
	}
	return c.say("runs with parallelism %d; the change took %s", a.Status.Parallelism, a.Took.Round(time.Millisecond))
}
