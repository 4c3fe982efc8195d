package benchmarks

import (
	"sync"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/source"
)

// The limits: what the same work costs in plain loops, on as many goroutines.

// inParallel runs f for each task and adds up what they return.
func inParallel(f func(task int64) (count, sum int64)) (count, sum int64) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for task := range int64(tasks) {
		wg.Go(func() {
			c, s := f(task)
			mu.Lock()
			count, sum = count+c, sum+s
			mu.Unlock()
		})
	}
	wg.Wait()
	return count, sum
}

// blocks calls f with one task's events, made a block at a time.
func blocks(task, n int64, keys uint32, f func([]load.Event)) {
	fill := load.Fill(keys)
	var b source.Batch[load.Event]
	for seq := task; seq < n; {
		b.Reset()
		size := min(1024, (n-1-seq)/tasks+1)
		fill(seq, tasks, int(size), &b)
		f(b.Values)
		seq += size * tasks
	}
}

func chainLimit(n int64, keys uint32) (count, sum int64) {
	change, keep, of := load.Triple, load.Even, load.ChainSum
	funcs(&change, &keep, &of)
	return inParallel(func(task int64) (count, sum int64) {
		blocks(task, n, keys, func(es []load.Event) {
			for _, e := range es {
				e = change(e)
				one := int64(0)
				if keep(e) { // becomes an instruction, not a branch, which would be mispredicted half of the time
					one = 1
				}
				count += one
				sum += of(e) & -one
			}
		})
		return count, sum
	})
}

// funcs keeps the compiler from seeing which functions they are.
//
//go:noinline
func funcs(*func(load.Event) load.Event, *func(load.Event) bool, *func(load.Event) int64) {}

// shuffled makes events on all tasks and hands them by key, in pooled batches of 256 over one channel for each receiver, to
// receive, which gets all batches of one task.
func shuffled(n int64, keys uint32, receive func(batches func(func(es []load.Event) bool)) (count, sum int64)) (count, sum int64) {
	pool := sync.Pool{New: func() any { return &block{es: make([]load.Event, 0, 256)} }}
	var to [tasks]chan *block
	for i := range to {
		to[i] = make(chan *block, 8)
	}
	var senders sync.WaitGroup
	for task := range int64(tasks) {
		senders.Go(func() { send(task, n, keys, &pool, &to) })
	}
	done := make(chan struct{})
	go func() {
		senders.Wait()
		for _, c := range to {
			close(c)
		}
		close(done)
	}()
	count, sum = inParallel(func(task int64) (int64, int64) {
		return receive(func(yield func([]load.Event) bool) {
			for b := range to[task] {
				yield(b.es)
				b.es = b.es[:0]
				pool.Put(b)
			}
		})
	})
	<-done
	return count, sum
}

// taskOf is the task that a key belongs to.
func taskOf(key int64) uint64 { return hash(key) >> 32 * tasks >> 32 }

type block struct{ es []load.Event }

func send(task, n int64, keys uint32, pool *sync.Pool, to *[tasks]chan *block) {
	var open [tasks]*block
	for i := range open {
		open[i] = pool.Get().(*block)
	}
	blocks(task, n, keys, func(es []load.Event) {
		for _, e := range es {
			part := taskOf(e.Key)
			b := open[part]
			if b.es = append(b.es, e); len(b.es) == cap(b.es) {
				to[part] <- b
				open[part] = pool.Get().(*block)
			}
		}
	})
	for i, b := range open {
		to[i] <- b
	}
}

func hash(k int64) uint64 {
	h := uint64(k) * 0x9E3779B97F4A7C15
	return h ^ h>>29
}

// table is open addressing over int64 keys with values in place. A slot is empty as long as its key is 0; keys are stored
// one higher.
type table[V any] struct {
	slots []slot[V]
	n     int
	seen  int // keeps the first pass's loads alive
}

type slot[V any] struct {
	key int64
	val V
}

func newTable[V any]() *table[V] { return &table[V]{slots: make([]slot[V], 1024)} }

func (t *table[V]) at(k int64, h uint64) *V {
	if t.n > len(t.slots)/2 {
		t.grow()
	}
	mask := uint64(len(t.slots) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		s := &t.slots[i]
		if s.key == k+1 {
			return &s.val
		}
		if s.key == 0 {
			t.n++
			s.key = k + 1
			return &s.val
		}
	}
}

func (t *table[V]) grow() {
	old := t.slots
	t.slots = make([]slot[V], 2*len(old))
	mask := uint64(len(t.slots) - 1)
	for _, s := range old {
		if s.key == 0 {
			continue
		}
		i := hash(s.key-1) & mask
		for t.slots[i].key != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = s
	}
}

// warm loads the first slot of each key, so that cache misses overlap.
func (t *table[V]) warm(es []load.Event) {
	mask := uint64(len(t.slots) - 1)
	for i := range es {
		if t.slots[hash(es[i].Key)&mask].key == 0 {
			t.seen++
		}
	}
}

func keyedLimit(n int64, keys uint32) (count, sum int64) {
	large := keys > 100_000
	return shuffled(n, keys, func(batches func(func([]load.Event) bool)) (count, sum int64) {
		sums := newTable[int64]()
		for es := range batches {
			if large {
				sums.warm(es)
			}
			for _, e := range es {
				total := sums.at(e.Key, hash(e.Key))
				*total += e.Value
				sum += load.SumOf(load.Sum{Key: e.Key, Total: *total, Value: e.Value})
			}
			count += int64(len(es))
		}
		return count, sum
	})
}

// windowsLimit keeps all windows to the end.
func windowsLimit(n int64, keys uint32) (count, sum int64) {
	size := load.WindowSize.Milliseconds()
	return shuffled(n, keys, func(batches func(func([]load.Event) bool)) (count, sum int64) {
		panes := newTable[load.Pane]()
		for es := range batches {
			for _, e := range es {
				k := windowKey(e.Key, (e.At-load.Start+size)/size)
				panes.at(k, hash(k)).Add(e)
			}
		}
		for _, s := range panes.slots {
			if s.key == 0 {
				continue
			}
			key, window := (s.key-1)>>24, (s.key-1)&(1<<24-1)
			count++
			sum += load.CountedOf(load.Counted{Key: key, Start: load.Start + (window-1)*size, Count: s.val.Count, Sum: s.val.Sum})
		}
		return count, sum
	})
}

// windowKey is one number for a key and a window.
func windowKey(key, window int64) int64 { return key<<24 | window }
