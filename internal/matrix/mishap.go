package main

import (
	"context"
	"fmt"
	"maps"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn/txntest"
)

// shortTimeout is that of the transactions a dead job leaves until they are too old: long enough for a busy machine.
const shortTimeout = "3s"

// suffer lets a mishap happen to a job.
func (b *board) suffer(ctx context.Context, c cell, what txntest.Mishap, args map[string]string, said func(format string, args ...any)) error {
	twin := maps.Clone(args)
	twin[argDir] += "-twin"
	twin[argOut] = args[argJob] + "twin"
	if err := c.dest.prepare(ctx, &b.services, twin); err != nil {
		return err
	}
	args[argRate] = fmt.Sprint(records / 4)
	m := txntest.Mishaps{
		Args: args, State: args[argDir], Twin: twin, Fails: "out" + secondRegion, Storm: 6, Lossy: !c.dest.lossless,
		Check: func(args map[string]string, w txntest.Want) error {
			_, err := b.check(ctx, c, args, w, said)
			return err
		},
		RollBack: func(ctx context.Context, h sink.Handle) error {
			return c.dest.rollBack(ctx, &b.services, args, h)
		},
		Expire: func(ctx context.Context) error { return c.dest.expire(ctx, &b.services, args) },
	}
	switch what {
	case txntest.DownTooLong:
		args[argTimeout] = shortTimeout
	case txntest.StoreFails:
		args[argTight], args[argRate] = "yes", fmt.Sprint(records/10) // input for all that it goes through
	case txntest.RegionRestarts:
		args[argBeside] = twin[argOut]
	}
	return m.Do(ctx, what, said)
}
