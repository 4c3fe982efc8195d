package files

import (
	"cmp"
	"context"
	"errors"
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

var _ txn.Lister = (*txCommitter)(nil)

// List returns the transactions that were prepared under a prefix.
func (c *txCommitter) List(_ context.Context, prefix string) ([]txn.Pending, error) {
	entries, err := os.ReadDir(c.disk.dir)
	if err != nil {
		return nil, dirFault(err, c.disk.dir, "read")
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
			return nil, dirFault(err, c.disk.dir, "read")
		}
		out = append(out, txn.Pending{Name: e.Name(), Slot: slot, Token: token, Age: max(0, time.Since(info.ModTime()))})
	}
	slices.SortStableFunc(out, func(a, b txn.Pending) int { return cmp.Compare(b.Age, a.Age) })
	return out, nil
}

// Finish makes the files of a prepared transaction visible, or removes them. Their visible names have no epoch, since only a
// handle has it. Files that were visible in one that was joined stay there.
func (c *txCommitter) Finish(_ context.Context, p txn.Pending, commit bool) error {
	slot, token, hidden := partsOf(p.Name)
	if !hidden || !strings.HasSuffix(p.Name, preparedSuffix) {
		return fault.New(fault.CommitFailed, "%q isn't a prepared transaction of this sink", p.Name)
	}
	id, _ := strconv.Atoi(slot[strings.LastIndexByte(slot, '-')+1:]) // 0 if it isn't one of the engine's
	h := sink.Handle{Slot: sink.Slot{ID: id, Name: slot}, Token: token}
	found, err := c.found(h, p.Name)
	if err == nil {
		err = c.finish(h, found, commit)
	}
	if err == nil {
		err = c.disk.remove(p.Name)
	}
	if err == nil {
		err = c.disk.syncDirs("", nil)
	}
	if err != nil {
		return fault.Wrap(fault.CommitFailed, err, "finish transaction %s", p.Name)
	}
	return nil
}

// found is the files that a prepared transaction has.
func (c *txCommitter) found(h sink.Handle, name string) (all []piece, _ error) {
	n := native{Prepared: name}
	n.Begin, n.End = c.names.around(h.Slot, h.Token, 0)
	err := filepath.WalkDir(c.disk.at(name), func(at string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), ".") && at != c.disk.at(name) {
			return err
		}
		rel, err := filepath.Rel(c.disk.at(name), at)
		f := n.pieceOf(nativeFile{Path: filepath.ToSlash(rel)})
		if rel == "." { // as older versions have it
			f = piece{path: rel, from: name, to: n.Begin + numbered(0) + n.End}
		}
		all = append(all, f)
		return err
	})
	return all, err
}

// finish makes files visible that are in no joined one. What is in one can't be taken back.
func (c *txCommitter) finish(h sink.Handle, found []piece, commit bool) error {
	l, err := readLedger(c.disk, baseOf(h.Slot))
	if err != nil {
		return err
	}
	dirs := map[string]bool{}
	for _, f := range found {
		done, joined := false, l.find(h, f.path)
		if joined != "" {
			done, err = c.disk.exists(joined)
		}
		switch {
		case err != nil:
		case done && !commit:
			err = fault.New(fault.CommitFailed, "its records are visible in %s", joined)
		case !done && commit:
			err = c.show(f.from, f)
		}
		if err != nil {
			return err
		}
		if commit {
			dirs[f.bucket] = true
		}
	}
	return c.disk.syncDirs("", dirs)
}
