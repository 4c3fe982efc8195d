package cli

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/savepoint"
)

// named opens what an argument names: a checkpoint by its number, where the flags say, or the newest at a path.
func (c *command) named(ctx context.Context, arg string) (store.Store, *store.Record, error) {
	args := []string{arg}
	if _, err := strconv.ParseUint(arg, 10, 64); err != nil {
		at := c.opts.at
		defer func() { c.opts.at = at }()
		c.opts.at, args = arg, nil
	}
	st, err := c.stored(ctx)
	if err != nil {
		return nil, nil, err
	}
	rec, err := c.record(st, args)
	if err != nil {
		return nil, nil, errors.Join(fault.At(err, arg), st.Close())
	}
	return st, rec, nil
}

// export prints all entries of a checkpoint, one JSON object a line. What only a backend can read it reports at the end.
func (c *command) export(ctx context.Context, args []string) error {
	st, rec, err := c.named(ctx, args[0])
	if err != nil {
		return err
	}
	defer st.Close()
	if _, ok := rec.Operators[c.opts.operator]; c.opts.operator != "" && !ok {
		return fault.New(fault.Usage, "checkpoint %d has no operator %q", rec.Epoch, c.opts.operator).WithFix("see checkpoint show")
	}
	out := bufio.NewWriter(c.pr.out)
	lines := json.NewEncoder(out)
	lines.SetEscapeHTML(false)
	var unread error
	for e, err := range savepoint.Entries(st, rec) {
		wanted := c.opts.operator == "" || e.Operator == c.opts.operator
		switch {
		case fault.CodeOf(err) == fault.OtherBackend.ID:
			if wanted {
				unread = cmp.Or(unread, err)
			}
			continue
		case err == nil && wanted && (c.opts.stateName == "" || e.State == c.opts.stateName):
			err = lines.Encode(e)
		}
		if err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	return errors.Join(out.Flush(), unread)
}

// diff prints how the states of two checkpoints differ, one JSON object a line for each state that does.
func (c *command) diff(ctx context.Context, args []string) error {
	a, was, err := c.named(ctx, args[0])
	if err != nil {
		return err
	}
	defer a.Close()
	b, is, err := c.named(ctx, args[1])
	if err != nil {
		return err
	}
	defer b.Close()
	changes, err := savepoint.Diff(a, b, was, is, c.opts.entries)
	if err != nil {
		return err
	}
	lines := json.NewEncoder(c.pr.out)
	lines.SetEscapeHTML(false)
	for _, ch := range changes {
		if err := lines.Encode(ch); err != nil {
			return err
		}
	}
	if len(changes) == 0 {
		c.log.Info("the states don't differ", "first", was.Epoch, "second", is.Epoch)
	}
	return nil
}
