package files

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// txCommitter gives prepared files their visible names.
type txCommitter struct{ dir string }

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
		slot, hidden := slotOf(e.Name())
		if !hidden || !mine[slot] {
			continue
		}
		if err := os.Remove(filepath.Join(c.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fault.Wrap(fault.CommitFailed, err, "remove leftover file %s", e.Name())
		}
	}
	return nil
}

// Close has nothing to release.
func (c *txCommitter) Close() error { return nil }
