package docs

import (
	"context"
	"strconv"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// Reading is what a sensor says.
type Reading struct{ Sensor, Value string }

// Latest keeps each sensor's last value in Redis.
func Latest(client *redis.Client) async.Sink[Reading] {
	return async.Sink[Reading]{
		Send: func(ctx context.Context, batch []Reading) error {
			pipe := client.Pipeline()
			for _, r := range batch {
				pipe.Set(ctx, r.Sensor, r.Value, 0)
			}
			_, err := pipe.Exec(ctx)
			return err
		},
		Key:        func(r Reading) string { return r.Sensor }, // the last one wins
		Repeatable: true,
	}
}

// TestLatest has the server refuse everything for a while.
func TestLatest(t *testing.T) {
	srv := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{Addr: srv.Addr()})
	defer client.Close()
	w, err := Latest(client).Writer(t.Context(), sink.Task{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	srv.SetError("LOADING not yet")
	for n := range 100 {
		if n == 50 {
			srv.SetError("")
		}
		if err := w.Write(t.Context(), []Reading{{"a", strconv.Itoa(n)}, {"b", strconv.Itoa(-n)}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	srv.CheckGet(t, "a", "99")
	srv.CheckGet(t, "b", "-99")
}
