package async_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// A sink is one function. This one refuses odd numbers: the rest of their batch is delivered.
func ExampleSink() {
	odd := errors.New("odd number")
	out := async.Sink[int]{
		MaxInFlight: 1,
		Send: func(_ context.Context, batch []int) error {
			refused := map[int]error{}
			for i, n := range batch {
				if n%2 != 0 {
					refused[i] = odd
					continue
				}
				fmt.Println("deliver", n)
			}
			return &sink.Rejected{Errs: refused}
		},
	}

	// The rest is what the engine does.
	ctx := context.Background()
	w, err := out.Writer(ctx, sink.Task{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer w.Close()
	if err := errors.Join(w.Write(ctx, []int{2, 3, 4}), w.Flush(ctx)); err != nil {
		fmt.Println(err)
	}
	if r, ok := sink.As[sink.Rejecter](w); ok {
		for _, r := range r.Rejects() {
			fmt.Println("refuse", r.Value, "because of", r.Err)
		}
	}
	// Output:
	// deliver 2
	// deliver 4
	// refuse 3 because of odd number
}
