package deadletter

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// marksFormat is the version of marks.
const marksFormat = 1

// marks says which letters of an operator have been written again. It is stored as JSON.
type marks struct {
	Format   int               `json:"format"`
	Operator string            `json:"operator"`
	Epoch    uint64            `json:"epoch,omitempty"` // of the last transaction
	Done     map[string]ranges `json:"done"`            // by part
	Pending  *pending          `json:"pending,omitempty"`
}

// pending is a transaction that is prepared and perhaps committed.
type pending struct {
	Handle sink.Handle       `json:"handle"`
	Done   map[string]ranges `json:"done"` // what it writes, by part
}

func readMarks(data []byte, operator string) (m marks, _ error) {
	if data == nil {
		return marks{Format: marksFormat, Operator: operator, Done: map[string]ranges{}}, nil
	}
	err := json.Unmarshal(data, &m)
	switch {
	case err != nil:
		return m, fault.Wrap(fault.DeadLetters, err, "the marks of what was replayed can't be read").At("operator " + operator)
	case m.Format != marksFormat || m.Operator != operator:
		return m, fault.New(fault.DeadLetters, "the marks of what was replayed have format %d, of operator %q; this binary knows format %d",
			m.Format, m.Operator, marksFormat).At("operator " + operator)
	}
	if m.Done == nil {
		m.Done = map[string]ranges{}
	}
	return m, nil
}

func (m marks) has(p Place) bool { return m.Done[p.Part].has(p.N) }

// merge adds ranges, by part.
func (m marks) merge(more map[string]ranges) {
	for part, rs := range more {
		for _, r := range rs {
			m.Done[part] = m.Done[part].add(r[0], r[1])
		}
	}
}

// ranges are numbers from the first to the last of each pair, both included, ascending, with gaps between them.
type ranges [][2]int64

// at is the index of the first range that doesn't end before n.
func (r ranges) at(n int64) int {
	i, _ := slices.BinarySearchFunc(r, n, func(r [2]int64, n int64) int {
		if r[1] < n {
			return -1
		}
		return 1
	})
	return i
}

func (r ranges) has(n int64) bool {
	i := r.at(n)
	return i < len(r) && r[i][0] <= n
}

// add adds the numbers from first to last.
func (r ranges) add(first, last int64) ranges {
	from := r.at(first - 1) // one that ends just before is joined
	to := from
	for to < len(r) && r[to][0] <= last+1 {
		first, last = min(first, r[to][0]), max(last, r[to][1])
		to++
	}
	return slices.Replace(r, from, to, [2]int64{first, last})
}

// Replayed returns a function that says whether the letter of an operator at a place was written again, as of now.
func Replayed(ctx context.Context, from Log, operator string) (func(Place) bool, error) {
	data, err := from.Marks(ctx, operator)
	if err != nil {
		return nil, err
	}
	m, err := readMarks(data, operator)
	if m.Pending != nil {
		m.merge(m.Pending.Done)
	}
	return m.has, err
}
