package storetest

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

// Crash returns the disk as a power failure may leave it. Without r only what was synced is there. With r some of the
// rest has reached the disk too: in each directory the first few changes of names, of each file the first few bytes.
func (d *Disk) Crash(r *rand.Rand) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := copier{seen: map[*node]*node{}, keep: func(n *node) *node {
		names := maps.Clone(n.durable)
		if r != nil {
			for _, p := range n.pending[:r.IntN(len(n.pending)+1)] {
				apply(names, p)
			}
		}
		data := n.safe
		if r != nil && r.IntN(2) == 0 && bytes.HasPrefix(n.data, n.safe) {
			data = n.data[:len(n.safe)+r.IntN(len(n.data)-len(n.safe)+1)]
		}
		return &node{dir: n.dir, data: data, safe: data, entries: names, durable: maps.Clone(names)}
	}}
	return &Disk{root: c.copy(d.root), locked: map[*node]bool{}}
}

// Kill returns the disk as the death of the process leaves it: everything is there, what wasn't synced still isn't.
func (d *Disk) Kill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := copier{seen: map[*node]*node{}, keep: func(n *node) *node {
		return &node{
			dir: n.dir, data: n.data, safe: n.safe,
			entries: maps.Clone(n.entries), durable: maps.Clone(n.durable), pending: slices.Clone(n.pending),
		}
	}}
	return &Disk{root: c.copy(d.root), locked: map[*node]bool{}}
}

// copier copies a tree; a node that has two names stays one.
type copier struct {
	seen map[*node]*node
	keep func(*node) *node
}

func (c copier) copy(n *node) *node {
	if n == nil {
		return nil
	}
	if to, ok := c.seen[n]; ok {
		return to
	}
	to := c.keep(n)
	c.seen[n] = to
	c.names(to.entries)
	c.names(to.durable)
	for i, p := range to.pending {
		to.pending[i] = maps.Clone(p)
		c.names(to.pending[i])
	}
	return to
}

// names replaces what the names stand for, in sorted order so that a seed always gives the same disk.
func (c copier) names(m map[string]*node) {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		m[name] = c.copy(m[name])
	}
}

// Edit changes the content of a file, as damage or an unfriendly hand would; nil removes it. It panics if there is none.
func (d *Disk) Edit(name string, f func([]byte) []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.find(name)
	if n == nil {
		panic(fmt.Sprintf("no file %s on the disk", name))
	}
	to := f(bytes.Clone(n.data))
	if to == nil {
		up := d.find(filepath.Dir(filepath.Clean(name)))
		delete(up.entries, filepath.Base(name))
		delete(up.durable, filepath.Base(name))
		return
	}
	n.data, n.safe = to, to
}

// Files lists all files, directories excluded, sorted.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []string
	var walk func(n *node, at string)
	walk = func(n *node, at string) {
		for name, f := range n.entries {
			if f.dir {
				walk(f, filepath.Join(at, name))
			} else {
				out = append(out, filepath.Join(at, name))
			}
		}
	}
	walk(d.root, string(filepath.Separator))
	slices.Sort(out)
	return out
}
