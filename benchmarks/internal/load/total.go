package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/weirline/weirline/sink"
)

// Total is a sink that keeps nothing but how many records came and a sum over them. Both are part of the checkpoints.
type Total[T any] struct {
	// First, if set before the run, is called by every task with the first records it gets.
	First func()

	of func(T) int64

	mu    sync.Mutex
	count int64
	sum   int64
	last  time.Time
}

// NewTotal makes a Total that adds up of.
func NewTotal[T any](of func(T) int64) *Total[T] { return &Total[T]{of: of} }

// Writer makes the part of one task; see [sink.Sink].
func (t *Total[T]) Writer(context.Context, sink.Task) (sink.Writer[T], error) {
	return &part[T]{all: t, of: t.of, first: t.First}, nil
}

// Result is the number of records, the sum, and when the last task was done. Ask for it when the run is over.
func (t *Total[T]) Result() (count, sum int64, last time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.count, t.sum, t.last
}

// part counts what one task gets.
type part[T any] struct {
	_          [128]byte // no cache line is shared with another task's part
	all        *Total[T]
	of         func(T) int64
	first      func() // nil once called
	count, sum int64
	_          [128]byte
}

func (p *part[T]) Write(_ context.Context, batch []T) error {
	if p.first != nil {
		p.first()
		p.first = nil
	}
	of, sum := p.of, p.sum
	for i := range batch {
		sum += of(batch[i])
	}
	p.count, p.sum = p.count+int64(len(batch)), sum
	return nil
}

// Flush is called at the end of the input only, since the writer is stateful.
func (p *part[T]) Flush(context.Context) error {
	now := time.Now()
	t := p.all
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count, t.sum = t.count+p.count, t.sum+p.sum
	if now.After(t.last) {
		t.last = now
	}
	return nil
}

func (p *part[T]) Close() error { return nil }

func (p *part[T]) Snapshot() ([]byte, error) {
	b := binary.LittleEndian.AppendUint64(nil, uint64(p.count))
	return binary.LittleEndian.AppendUint64(b, uint64(p.sum)), nil
}

func (p *part[T]) Restore(states [][]byte) error {
	for _, b := range states {
		if len(b) != 16 {
			return fmt.Errorf("restore total: %d bytes, want 16", len(b))
		}
		p.count += int64(binary.LittleEndian.Uint64(b))
		p.sum += int64(binary.LittleEndian.Uint64(b[8:]))
	}
	return nil
}
