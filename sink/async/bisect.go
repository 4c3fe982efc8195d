package async

// part is the records from..to of a batch, to excluded.
type part struct{ from, to int }

// deliver sends a batch and, if the destination refuses it as a whole, its halves one after the other until the records to
// blame stand alone. What can't be sent now stops it: the rest of the batch is sent again later.
func (w *writer[T]) deliver(b *batch[T]) verdict {
	v := w.try(b, part{0, len(b.values)})
	if v.all != reject || len(b.values) == 1 {
		return v
	}
	each := make([]outcome, len(b.values))
	for todo := halves(nil, part{0, len(each)}); len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		v := w.try(b, p)
		if v.all == reject && p.to-p.from > 1 {
			todo = halves(todo, p)
			continue
		}
		if v.all == again || v.all == fatal {
			p.to = len(each)
			todo = nil
		}
		for i := range each[p.from:p.to] {
			each[p.from+i].what, each[p.from+i].why = v.of(i)
		}
	}
	return verdict{each: each}
}

// halves puts both halves on the stack, the first on top.
func halves(todo []part, p part) []part {
	mid := p.from + (p.to-p.from)/2
	return append(todo, part{mid, p.to}, part{p.from, mid})
}
