package flight_test

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/weirline/weirline/internal/flight"
	"github.com/weirline/weirline/source"
)

// TestEachBatchIsStoredOnce takes from queues and walks them in random order, while batches and at last the barrier come in:
// the logs have what stood before the barriers, once each and in order, and nothing else.
func TestEachBatchIsStoredOnce(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	codec, err := flight.Of[int]()
	if err != nil {
		t.Fatal(err)
	}
	for range 2000 {
		queues := make([][]flight.Item, 1+rnd.IntN(3))
		r := flight.Recorder{Logs: map[any][]byte{}}
		want, sent, done := make([][]int, len(queues)), make([]bool, len(queues)), false
		batch := func(n int) flight.Item { return flight.Item{Batch: &source.Batch[int]{Values: []int{n}}} }
		for i := range queues {
			r.Channels = append(r.Channels, flight.Channel{Link: "l", Codec: codec, Sender: i, Over: rnd.IntN(4) == 0})
			sent[i] = r.Channels[i].Over
		}
		peek := func(i, n int) (it flight.Item, ok bool) {
			if n < len(queues[i]) {
				return queues[i][n], true
			}
			return it, false
		}
		for n := 0; !done; n++ {
			switch i := rnd.IntN(len(queues)); rnd.IntN(6) {
			case 0, 1:
				queues[i] = append(queues[i], batch(n))
				if !sent[i] {
					want[i] = append(want[i], n)
				}
			case 2:
				queues[i] = append(queues[i], flight.Item{})
			case 3:
				if !sent[i] && n > 10 {
					queues[i], sent[i] = append(queues[i], flight.Item{Barrier: true}), true
				}
			case 4:
				if len(queues[i]) > 0 {
					r.Taken(i, queues[i][0])
					queues[i] = queues[i][1:]
				}
			case 5:
				var stalled bool
				if done, stalled = r.Walk(rnd.Int64N(9), peek); stalled && r.Waiting(peek) {
					t.Fatalf("seed %d: stalled with something to do", seed)
				}
			}
		}
		got := make([][]int, len(queues))
		if log := r.Logs["l"]; len(log) > 0 {
			err = codec.Read(log, func(from int, b any) error {
				got[from] = append(got[from], b.(*source.Batch[int]).Values...)
				return nil
			})
		}
		if err != nil || r.Err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("seed %d: got %v, want %v; %v, %v", seed, got, want, err, r.Err)
		}
	}
}
