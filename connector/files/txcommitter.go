package files

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
)

// txCommitter gives prepared files their visible names, or joins them first.
type txCommitter struct {
	disk  disk
	names names
	count func(string, int64)

	join  parts.Joiner // nil: nothing is joined
	below int64        // files that are smaller are
	limit int64        // up to this size; negative = no limit
}

// Commit renames the files in order, then syncs the directories. A file that is under its visible name already is done:
// its token is in that name. One that was joined is done if the file it is in is visible.
func (c *txCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	return c.commit(ctx, hs, false)
}

// commit can also read each file and compare its checksum, which Recover does: the machine may have crashed in between.
func (c *txCommitter) commit(ctx context.Context, hs []sink.Handle, verify bool) error {
	if len(hs) == 0 {
		return nil
	}
	p, stop := c.plan(ctx, hs, verify)
	// What stands before a transaction that can't be committed is.
	if err := c.publish(ctx, p); err != nil {
		return fault.Wrap(fault.CommitFailed, err, "commit %d transactions in %s", len(p.ts), c.disk.dir)
	}
	return stop
}

// plan is what a commit has to do.
type plan struct {
	ts      []transaction // all of whose files are there
	waits   []waiting     // for their visible names
	dirs    map[string]bool
	ledgers map[string]*ledger
}

// waiting is a file that is prepared and nothing more.
type waiting struct {
	piece
	t *transaction
}

// plan looks where each file is. The error is of the first transaction that can't be committed.
func (c *txCommitter) plan(ctx context.Context, hs []sink.Handle, verify bool) (*plan, error) {
	p := &plan{dirs: map[string]bool{}, ledgers: map[string]*ledger{}}
	for _, h := range hs {
		if err := context.Cause(ctx); err != nil {
			return p, err
		}
		t, err := readHandle(h)
		if err != nil {
			return p, err
		}
		l, err := p.ledger(c.disk, h.Slot)
		if err != nil {
			return p, err
		}
		var waits []waiting
		for _, f := range t.pieces {
			there, err := c.look(&t, f, l, verify)
			if err != nil {
				return p, err
			}
			if there {
				waits = append(waits, waiting{f, &t})
			}
		}
		for _, f := range t.pieces {
			p.dirs[f.bucket] = true // also if it is visible: the earlier rename may not be on the disk yet
		}
		p.ts, p.waits = append(p.ts, t), append(p.waits, waits...)
	}
	return p, nil
}

// look says whether a file waits. It is an error if it doesn't and isn't visible either.
func (c *txCommitter) look(t *transaction, f piece, l *ledger, verify bool) (waits bool, err error) {
	if joined := l.find(t.h, f.path); joined != "" {
		if done, err := c.disk.exists(joined); done || err != nil {
			return false, err
		}
	}
	size, err := c.disk.size(f.from)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		done, err := c.disk.exists(f.to)
		if err == nil && !done {
			err = sink.Permanent(c.lost(t, f))
		}
		return false, err
	case err != nil:
		return false, fault.Wrap(fault.CommitFailed, err, "commit file %s", f.to)
	case size != f.size:
		return false, sink.Permanent(damaged(c.disk.at(f.from), fmt.Sprintf("it has %d bytes and was prepared with %d", size, f.size)))
	case verify:
		if err := c.verify(f); err != nil {
			return false, err
		}
	}
	return true, nil
}

func (c *txCommitter) lost(t *transaction, f piece) error {
	return fault.New(fault.LostCommit, "file of epoch %d, slot %s is lost: neither %s nor %s is in %s (prepared in %s)",
		t.h.Epoch, t.h.Slot.Name, f.from, f.to, c.disk.dir, t.dir).
		WithFix("put the file back, or set Dir to where it is; move a visible file away only when a later epoch is complete")
}

func damaged(path, how string) error {
	return fault.New(fault.CommitFailed, "prepared file %s is damaged: %s", path, how).
		WithFix("put the whole file back, or resume from an earlier checkpoint")
}

func (c *txCommitter) verify(p piece) error {
	f, err := os.Open(c.disk.at(p.from))
	if err != nil {
		return fault.Wrap(fault.CommitFailed, err, "verify prepared file")
	}
	defer f.Close()
	sum := crc32.New(crcTable)
	if _, err := io.Copy(sum, f); err != nil {
		return fault.Wrap(fault.CommitFailed, err, "verify prepared file")
	}
	if sum.Sum32() != p.crc {
		return sink.Permanent(damaged(f.Name(), "its checksum doesn't fit"))
	}
	return nil
}

// publish carries a plan out: files become visible, and when that is durable, what is left of their transactions goes.
func (c *txCommitter) publish(ctx context.Context, p *plan) error {
	if len(p.ts) == 0 {
		return nil
	}
	singles, joins := c.groups(p.waits)
	if err := c.prepareJoins(ctx, p, joins); err != nil {
		return err
	}
	for _, w := range singles {
		if err := c.show(w.from, w.piece); err != nil {
			return err
		}
	}
	for _, j := range joins {
		if err := c.show(j.from, j.piece); err != nil {
			return err
		}
	}
	if err := c.disk.syncDirs("", p.dirs); err != nil {
		return err
	}
	for _, t := range p.ts {
		if err := c.disk.remove(t.prepared); err != nil {
			return err
		}
	}
	return nil
}

// show gives a file its visible name.
func (c *txCommitter) show(from string, to piece) error {
	if err := c.disk.mkdirs("", to.bucket); err != nil {
		return err
	}
	return c.disk.rename(from, to.to)
}

// Recover commits keep and then removes what else is hidden under the slots.
func (c *txCommitter) Recover(ctx context.Context, keep []sink.Handle, slots []sink.Slot) error {
	if err := c.commit(ctx, keep, true); err != nil {
		return err
	}
	mine := make(map[string]bool, len(slots))
	for _, s := range slots {
		mine[s.Name] = true
	}
	entries, err := os.ReadDir(c.disk.dir)
	if err != nil {
		return dirFault(err, c.disk.dir, "read")
	}
	for _, e := range entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		slot, _, hidden := partsOf(e.Name())
		if !hidden || !mine[slot] {
			continue
		}
		if err := c.disk.remove(e.Name()); err != nil {
			return fault.Wrap(fault.CommitFailed, err, "remove leftover %s", e.Name())
		}
	}
	return c.forget(keep, slots)
}

// Close has nothing to release.
func (c *txCommitter) Close() error { return nil }
