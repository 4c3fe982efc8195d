package store

import (
	"strings"

	"github.com/weirline/weirline/internal/durable"
)

// sweep removes records and blobs that no retained epoch needs, and temporary files. Those of epochs newer than the
// pointer belong to running tasks, except at Open. The caller holds pub, or is Open. Errors are only logged.
func (d *Dir) sweep(opening bool) {
	d.mu.Lock()
	cur := d.cur.Epoch
	keep := map[uint64]bool{}
	for e := range d.unsure {
		keep[e] = true
	}
	used := map[string]bool{}
	for _, k := range d.known {
		keep[k.Epoch] = true
		for _, file := range k.files {
			used[file] = true
		}
	}
	d.mu.Unlock()
	entries, err := d.fs.List(d.path(epochsName))
	if err != nil {
		d.log.Warn("can't list old checkpoints", "error", err)
		return
	}
	for _, e := range entries {
		rel := epochsName + "/" + e.Name()
		n, ok := epochOf(e.Name())
		switch {
		case strings.HasSuffix(rel, durable.TempSuffix):
			d.remove(rel)
		case !ok || keep[n] || n > cur && !opening:
		case e.IsDir():
			d.sweepBlobs(rel, used)
		default:
			d.remove(rel)
		}
	}
	if opening {
		for _, name := range []string{pointerName, numbersName, grantsName, commitsName} {
			d.remove(name + durable.TempSuffix)
		}
	}
}

// sweepBlobs removes the blobs of an epoch that aren't used, and the directory if none is.
func (d *Dir) sweepBlobs(dir string, used map[string]bool) {
	entries, err := d.fs.List(d.path(dir))
	if err != nil {
		d.log.Warn("can't list old blobs", "error", err)
		return
	}
	var unused []string
	for _, e := range entries {
		if rel := dir + "/" + e.Name(); !used[rel] {
			unused = append(unused, rel)
		}
	}
	if len(unused) == len(entries) {
		d.remove(dir)
		return
	}
	for _, rel := range unused {
		d.remove(rel)
	}
}

func (d *Dir) remove(rel string) {
	if err := d.fs.Remove(d.path(rel)); err != nil {
		d.log.Warn("can't delete what isn't needed any more", "path", d.path(rel), "error", err)
	}
}
