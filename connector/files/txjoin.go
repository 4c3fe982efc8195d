package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/txn"
)

// maxJoin is how many files are joined at most: all are open meanwhile.
const maxJoin = 256

// join is small files and the one they become.
type join struct {
	piece
	of []waiting
}

// groups says which files are joined.
func (c *txCommitter) groups(waits []waiting) (singles []waiting, joins []join) {
	if c.join == nil {
		return waits, nil
	}
	type place struct{ base, bucket string }
	open := map[place]*join{}
	var order []*join
	for _, w := range waits {
		if w.size >= c.below || w.path == "." {
			singles = append(singles, w)
			continue
		}
		at := place{baseOf(w.t.h.Slot), w.bucket}
		j := open[at]
		if j == nil || c.limit > 0 && j.size+w.size > c.limit || len(j.of) == maxJoin {
			j = &join{}
			open[at] = j
			order = append(order, j)
		}
		j.of, j.size = append(j.of, w), j.size+w.size
	}
	token := txn.NewToken()
	for _, j := range order {
		first := j.of[0]
		if len(j.of) == 1 {
			singles = append(singles, first)
			continue
		}
		number := numbered(len(joins))
		begin, end := c.names.around(first.t.h.Slot, token, first.t.h.Epoch)
		j.bucket, j.from, j.to = first.bucket, path.Join(first.t.prepared, ".join-"+number), path.Join(first.bucket, begin+number+end)
		joins = append(joins, *j)
	}
	return singles, joins
}

// prepareJoins writes the joined files and then, before any of them is visible, which are in them. A crash leaves joined files that
// nobody sees, and a ledger that speaks of them: as long as they aren't visible it counts for nothing.
func (c *txCommitter) prepareJoins(ctx context.Context, p *plan, joins []join) error {
	changed := map[string]string{} // ledgers, and where they can be written
	for _, j := range joins {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if err := c.write(j); err != nil {
			return fmt.Errorf("join %d files into %s: %w", len(j.of), j.to, err)
		}
		for _, w := range j.of {
			base := baseOf(w.t.h.Slot)
			p.ledgers[base].note(w.t.h, w.path, j.to)
			changed[base] = path.Join(j.of[0].t.prepared, ".ledger")
		}
		c.count("joined_files", int64(len(j.of)))
	}
	for base, temp := range changed {
		if err := p.ledgers[base].write(c.disk, base, temp); err != nil {
			return err
		}
	}
	if len(changed) == 0 {
		return nil
	}
	return c.disk.syncDirs("", nil)
}

// write makes one joined file.
func (c *txCommitter) write(j join) (err error) {
	var open []*os.File
	defer func() {
		for _, f := range open {
			err = errors.Join(err, f.Close())
		}
	}()
	var sections []*io.SectionReader
	for _, w := range j.of {
		f, err := os.Open(c.disk.at(w.from))
		if err != nil {
			return err
		}
		open = append(open, f)
		sections = append(sections, io.NewSectionReader(f, 0, w.size))
	}
	return c.disk.put(j.from, func(w io.Writer) error { return c.join.Join(w, sections) })
}

// put writes a file anew and syncs it.
func (d disk) put(name string, fill func(w io.Writer) error) error {
	if err := d.remove(name); err != nil { // of a commit that failed
		return err
	}
	f, err := d.create(name)
	if err != nil {
		return writeFault(err, "make file "+name)
	}
	if err := fill(&txFile{disk: d, f: f, name: name}); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := d.sync(f, name); err != nil {
		return fault.Wrap(fault.SinkFailed, err, "file sink: sync file %s", name)
	}
	return nil
}
