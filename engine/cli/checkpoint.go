package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
)

// looks are the second words of the command checkpoint.
var looks = []verb{
	{name: "checkpoint ls", do: inStore((*command).list)},
	{name: "checkpoint show", args: "[EPOCH]", most: 1, do: inStore((*command).show)},
	{name: "checkpoint verify", args: "[EPOCH]", most: 1, do: inStore((*command).verify)},
	{name: "checkpoint diff", args: "EPOCH|PATH EPOCH|PATH [-entries]", least: 2, most: 2, do: (*command).diff},
	{name: "checkpoint export", args: "EPOCH|PATH [-operator NAME] [-state-name NAME]", least: 1, most: 1, do: (*command).export},
}

// inStore opens what is to be looked at for f.
func inStore(f func(c *command, st store.Store, args []string) error) func(c *command, ctx context.Context, args []string) error {
	return func(c *command, ctx context.Context, args []string) error {
		st, err := c.stored(ctx)
		if err != nil {
			return err
		}
		defer st.Close()
		return f(c, st, args)
	}
}

// checkpoint takes one, or looks at what is stored.
func (c *command) checkpoint(ctx context.Context, args []string) error {
	if len(args) == 0 {
		a, err := c.ask(ctx, request{Command: "checkpoint"})
		if err != nil {
			return err
		}
		return c.say("checkpoint %d is complete", a.Epoch)
	}
	v, err := sub(looks, args)
	if err != nil {
		return err
	}
	return v.do(c, ctx, args[1:])
}

// stored opens what is to be looked at. A job that runs beside us may replace its checkpoints while we open them.
func (c *command) stored(ctx context.Context) (store.Store, error) {
	if _, err := c.app.Build(ctx, c.env); err != nil { // it says where things are; it may want flags that looking doesn't need
		c.log.Debug("build the pipeline", "error", err)
	}
	return c.openWhole()
}

func (c *command) openWhole() (st store.Store, err error) {
	o := store.Options{ReadOnly: true, Log: c.log, Salvage: c.opts.fallback}
	for range 5 {
		if st, err = c.openStored(o); err != nil {
			return nil, err
		}
		whole := true
		for _, i := range st.Records() {
			whole = whole && i.Whole
		}
		if whole {
			break
		}
		if err := st.Close(); err != nil {
			return nil, err
		}
		if st, err = c.openStored(o); err != nil {
			return nil, err
		}
	}
	return st, nil
}

func (c *command) openStored(o store.Options) (store.Store, error) {
	cfg := c.env.Config
	dir := cfg.Dir
	switch {
	case c.opts.at != "" && cfg.Open != nil:
		return cfg.Open(c.opts.at, o)
	case c.opts.at != "":
		dir = c.opts.at
	case cfg.Store != nil:
		return cfg.Store(o)
	case dir == "":
		return nil, fault.New(fault.NoCheckpoint, "the job stores nothing").WithFix("give -state or -at")
	}
	d, err := store.Open(dir, o)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// record is the checkpoint of that number, the newest without one.
func (c *command) record(st store.Store, args []string) (*store.Record, error) {
	if len(args) == 0 {
		rec, err := st.Latest()
		if err == nil && rec == nil {
			err = fault.New(fault.NoCheckpoint, "no checkpoint is complete")
		}
		return rec, err
	}
	n, err := strconv.ParseUint(args[0], 10, 64)
	if err != nil {
		return nil, fault.New(fault.Usage, "%q is no number of a checkpoint", args[0]).WithFix("see checkpoint ls")
	}
	return st.Load(n)
}

func (c *command) list(st store.Store, _ []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%8s  %-20s  %12s  %-9s  %s\n", "epoch", "taken", "bytes", "end", "whole")
	for _, i := range st.Records() {
		if !i.Whole {
			fmt.Fprintf(&b, "%8d  %-20s  %12s  %-9s  no\n", i.Epoch, "-", "-", "-")
			continue
		}
		fmt.Fprintf(&b, "%8d  %-20s  %12d  %-9s  yes\n", i.Epoch, i.Taken.UTC().Format(time.RFC3339), i.Size, savepoint.EndName(i.End))
	}
	_, err := fmt.Fprint(c.pr.out, b.String())
	return err
}

func (c *command) show(st store.Store, args []string) error {
	rec, err := c.record(st, args)
	if err != nil {
		return err
	}
	d := savepoint.Describe(rec)
	damage := d.DescribeStates(st, rec)
	out := json.NewEncoder(c.pr.out)
	out.SetEscapeHTML(false)
	out.SetIndent("", "  ")
	return errors.Join(out.Encode(d), damage)
}

// verify checks one checkpoint, or all.
func (c *command) verify(st store.Store, args []string) error {
	if len(args) > 0 {
		rec, err := c.record(st, args)
		if err != nil {
			return err
		}
		return c.verifyOne(st, rec)
	}
	all := st.Records()
	if len(all) == 0 {
		return fault.New(fault.NoCheckpoint, "no checkpoint is complete")
	}
	for _, i := range all {
		rec, err := st.Load(i.Epoch)
		if err == nil {
			err = c.verifyOne(st, rec)
		}
		if err != nil && !c.replaced(i.Epoch) {
			return err
		}
	}
	return nil
}

func (c *command) verifyOne(st store.Store, rec *store.Record) error {
	blobs, size, err := savepoint.Verify(st, rec)
	if err != nil {
		return err
	}
	return c.say("checkpoint %d is whole: %d pieces of state, %d bytes", rec.Epoch, blobs, size)
}

// replaced says whether a running job has deleted a checkpoint meanwhile, as it may.
func (c *command) replaced(epoch uint64) bool {
	st, err := c.openStored(store.Options{ReadOnly: true, Log: c.log})
	if err != nil {
		return false
	}
	defer st.Close()
	for _, i := range st.Records() {
		if i.Epoch == epoch {
			return false
		}
	}
	return c.say("checkpoint %d was replaced by the running job meanwhile", epoch) == nil
}
