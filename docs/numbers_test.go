package docs

import (
	"context"
	"io"
	"strconv"
	"testing"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/source/sourcetest"
)

// Numbers is a range of numbers, and how far reading has got in it.
type Numbers struct {
	Name      string
	Next, End int64
}

// ID stays the same while Next moves.
func (n Numbers) ID() string { return n.Name }

// Count yields the numbers below splits times each.
func Count(splits, each int64) source.Source[int64, Numbers] {
	list := func(context.Context) (found []Numbers, err error) {
		for i := range splits {
			found = append(found, Numbers{Name: strconv.FormatInt(i, 10), Next: i * each, End: (i + 1) * each})
		}
		return found, nil
	}
	read := func(_ context.Context, at Numbers, out *source.Batch[int64]) (Numbers, error) {
		for ; at.Next < at.End && !out.Full(); at.Next++ {
			out.Add(at.Next)
		}
		if at.Next == at.End {
			return at, io.EOF
		}
		return at, nil
	}
	return source.Of(enumerator.List(list), reader.Poll(read))
}

func TestCount(t *testing.T) {
	var want []int64
	for i := range int64(28) {
		want = append(want, i)
	}
	sourcetest.Run(t, sourcetest.Case[int64, Numbers]{Source: Count(4, 7), Want: want})
}
