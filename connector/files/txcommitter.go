package files

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// txCommitter gives prepared files their visible names.
type txCommitter struct {
	dir   string
	final func(slot sink.Slot, token string, epoch uint64) string // the visible name
}

var _ txn.Lister = (*txCommitter)(nil)

// Commit renames the files in order, then syncs the directory once. A file that is under its visible name already is done:
// its token is in that name.
func (c *txCommitter) Commit(ctx context.Context, hs []sink.Handle) error {
	return c.commit(ctx, hs, false)
}

// commit can also read each file and compare its checksum, which Recover does: the machine may have crashed in between.
func (c *txCommitter) commit(ctx context.Context, hs []sink.Handle, verify bool) error {
	if len(hs) == 0 {
		return nil
	}
	for _, h := range hs {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := c.publish(h, verify); err != nil {
			return err
		}
	}
	// Also when every file was there already: the earlier rename may not be on the disk yet.
	if err := syncDir(c.dir); err != nil {
		return fault.Wrap(fault.CommitFailed, err, "commit %d files in %s", len(hs), c.dir)
	}
	return nil
}

func (c *txCommitter) publish(h sink.Handle, verify bool) error {
	n, err := readNative(h)
	if err != nil {
		return err
	}
	from, to := filepath.Join(c.dir, n.Prepared), filepath.Join(c.dir, n.Final)
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err = os.Lstat(to); err == nil {
			return nil
		}
		if errors.Is(err, fs.ErrNotExist) {
			return sink.Permanent(c.lost(h, n))
		}
	}
	if err == nil && info.Size() != n.Size {
		return sink.Permanent(damaged(from, fmt.Sprintf("it has %d bytes and was prepared with %d", info.Size(), n.Size)))
	}
	if err == nil && verify {
		err = n.verify(from)
	}
	if err == nil {
		err = os.Rename(from, to)
	}
	if err != nil && !sink.IsPermanent(err) {
		err = fault.Wrap(fault.CommitFailed, err, "commit file %s", n.Final)
	}
	return err
}

func (c *txCommitter) lost(h sink.Handle, n native) error {
	return fault.New(fault.LostCommit, "file of epoch %d, slot %s is lost: neither %s nor %s is in %s (prepared in %s)",
		h.Epoch, h.Slot.Name, n.Prepared, n.Final, c.dir, n.Dir).
		WithFix("put the file back, or set Dir to where it is; move a visible file away only when a later epoch is complete")
}

func damaged(path, how string) error {
	return fault.New(fault.CommitFailed, "prepared file %s is damaged: %s", path, how).
		WithFix("put the whole file back, or resume from an earlier checkpoint")
}

func (n native) verify(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	sum := crc32.New(crcTable)
	if _, err := io.Copy(sum, f); err != nil {
		return err
	}
	if sum.Sum32() != n.CRC32C {
		return sink.Permanent(damaged(path, "its checksum doesn't fit"))
	}
	return nil
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
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return dirFault(err, c.dir, "read")
	}
	for _, e := range entries {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		slot, _, hidden := partsOf(e.Name())
		if !hidden || !mine[slot] {
			continue
		}
		if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.CommitFailed, err, "remove leftover file %s", e.Name())
		}
	}
	return nil
}

// List returns the files that were prepared under a prefix.
func (c *txCommitter) List(_ context.Context, prefix string) ([]txn.Pending, error) {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil, dirFault(err, c.dir, "read")
	}
	var out []txn.Pending
	for _, e := range entries {
		slot, token, hidden := partsOf(e.Name())
		if !hidden || !strings.HasSuffix(e.Name(), preparedSuffix) || !txn.Under(slot, prefix) {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // a living job has finished it
		}
		if err != nil {
			return nil, dirFault(err, c.dir, "read")
		}
		out = append(out, txn.Pending{Name: e.Name(), Slot: slot, Token: token, Age: max(0, time.Since(info.ModTime()))})
	}
	slices.SortStableFunc(out, func(a, b txn.Pending) int { return cmp.Compare(b.Age, a.Age) })
	return out, nil
}

// Finish makes a prepared file visible, or removes it. The epoch in its visible name is 0, since only a handle has it.
func (c *txCommitter) Finish(_ context.Context, p txn.Pending, commit bool) error {
	slot, token, hidden := partsOf(p.Name)
	if !hidden || !strings.HasSuffix(p.Name, preparedSuffix) {
		return fault.New(fault.CommitFailed, "%q isn't a prepared file of this sink", p.Name)
	}
	from := filepath.Join(c.dir, p.Name)
	finish := func() error { return os.Remove(from) }
	if commit {
		id, _ := strconv.Atoi(slot[strings.LastIndexByte(slot, '-')+1:]) // 0 if it isn't one of the engine's
		finish = func() error {
			return os.Rename(from, filepath.Join(c.dir, c.final(sink.Slot{ID: id, Name: slot}, token, 0)))
		}
	}
	err := finish()
	if err == nil {
		err = syncDir(c.dir)
	}
	if err != nil {
		return fault.Wrap(fault.CommitFailed, err, "finish file %s", p.Name)
	}
	return nil
}

// Close has nothing to release.
func (c *txCommitter) Close() error { return nil }
