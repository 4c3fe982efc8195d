package sourcetest_test

import (
	"context"
	"io"

	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/source/sourcetest"
)

// Case and Run, for sources of numbers.
type Case = sourcetest.Case[int, counter]

// Run is sourcetest.Run.
var Run = sourcetest.Run[int, counter]

// counter counts to ten.
type counter struct {
	Name string
	Next int
}

func (c counter) ID() string { return c.Name }

func count(_ context.Context, at counter, out *source.Batch[int]) (counter, error) {
	for at.Next < 10 && !out.Full() {
		out.Add(at.Next)
		at.Next++
	}
	if at.Next >= 10 {
		return at, io.EOF
	}
	return at, nil
}
