package state

// EachGroup calls f for every key of one key group, which must be owned, in the pane of start, in no order, and leaves the
// group as it is. f must not use these Panes; it may change *a. An error of f ends it.
func (p *Panes[K, A]) EachGroup(start int64, group int, f func(k K, a *A) error) error {
	t := p.all[start]
	if t == nil || t.blank(group-p.first) {
		return nil
	}
	return t.each(group-p.first, f)
}

// Partial says whether keys can be invalid at all: whether there are floats in them.
func (c *Key[K]) Partial() bool { return c.floats }
