package load

// The right answers, by one loop each and without any engine.

// ChainAnswer is what n records come to in the chain.
func ChainAnswer(n int64, keys uint32) (count, sum int64) {
	for seq := range n {
		e := Triple(Make(seq, keys))
		kept := e.Value&1 ^ 1 // a branch would be mispredicted half of the time
		count += kept
		sum += ChainSum(e) & -kept
	}
	return count, sum
}

// KeyedAnswer is what n records come to in the keyed workload: the squares of the last sums, whatever the order was.
func KeyedAnswer(n int64, keys uint32) (count, sum int64) {
	totals := make([]int64, keys)
	for seq := range n {
		e := Make(seq, keys)
		totals[e.Key] += e.Value
	}
	for _, t := range totals {
		sum += t * t
	}
	return n, sum
}

// WindowsAnswer is what n records come to in the window workload. A window is closed when the record number has moved past
// it by more than the disorder, so two of them are open at most.
func WindowsAnswer(n int64, keys uint32) (count, sum int64) {
	size := WindowSize.Milliseconds()
	closing, open := make([]Pane, keys), make([]Pane, keys)
	start := Start - size // of closing
	closeFirst := func() {
		for k := range closing {
			if a := &closing[k]; a.Count > 0 {
				count++
				sum += CountedOf(Counted{Key: int64(k), Start: start, Count: a.Count, Sum: a.Sum})
			}
		}
		clear(closing)
		closing, open = open, closing
		start += size
	}
	for seq := range n {
		e := Make(seq, keys)
		if Start+seq/100-Disorder >= start+size {
			closeFirst()
		}
		if e.At < start+size {
			closing[e.Key].Add(e)
		} else {
			open[e.Key].Add(e)
		}
	}
	closeFirst()
	closeFirst()
	return count, sum
}
