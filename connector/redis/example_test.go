package redis_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/async"
)

type view struct {
	Page string
	N    int64
}

// A hash for each page, and a sorted set of all: what is written again changes nothing.
func ExampleSink() {
	p := engine.New(engine.Config{Name: "views", Dir: "state", Log: slog.New(slog.DiscardHandler)})
	views := engine.From(p, "views", gen.Source[view]{Count: 100, Make: func(n int64) view { return view{fmt.Sprint("/", n%7), n} }})
	engine.To(views, "redis", redis.Sink[view]{
		Addr:   "localhost:6379",
		Prefix: "shop:",
		Do: func(v view, c *redis.Cmds) error {
			c.HSet("page:"+v.Page, "views", v.N)
			c.ZAdd("top", float64(v.N), v.Page)
			c.Expire("page:"+v.Page, 24*time.Hour)
			return nil
		},
		Batching: async.Sink[view]{Key: func(v view) string { return v.Page }},
	})
	fmt.Println(p.Check(), p.Plan().Guarantees[0].Promise)
	// Output: <nil> exactly once in effect
}

type order struct {
	ID        string
	Partition int32
	Offset    int64
}

// The offset a record was read from becomes the id of its entry, in a stream for each partition.
func ExampleCmds_XAddID() {
	p := engine.New(engine.Config{Name: "orders", Dir: "state", Log: slog.New(slog.DiscardHandler)})
	orders := engine.From(p, "orders", gen.Source[order]{Count: 100, Make: func(n int64) order { return order{ID: fmt.Sprint(n), Offset: n} }})
	engine.To(orders, "streams", redis.Sink[order]{
		Do: func(o order, c *redis.Cmds) error {
			stream := fmt.Sprint("orders:", o.Partition)
			c.XAddID(stream, fmt.Sprint(o.Offset+1), "id", o.ID)
			c.XTrim(stream, 1_000_000)
			return nil
		},
	})
	fmt.Println(p.Check(), p.Plan().Guarantees[0].Promise)
	// Output: <nil> exactly once in effect
}

// Counting twice would be wrong: rows wait for their checkpoint, and a mark beside them says which are counted.
func ExampleMarkedSink() {
	state := "state"
	p := engine.New(engine.Config{Name: "views", Dir: state, Log: slog.New(slog.DiscardHandler)})
	views := engine.From(p, "views", gen.Source[view]{Count: 100, Make: func(n int64) view { return view{fmt.Sprint("/", n%7), 1} }})
	engine.ToTx(views, "redis", ahead.Sink[view]{
		To: redis.MarkedSink[view]{Do: func(v view, c *redis.MarkedCmds) error {
			c.HIncrBy("views", v.Page, v.N)
			return nil
		}},
		Dir: filepath.Join(state, "ahead"),
	})
	fmt.Println(p.Check(), p.Plan().Guarantees[0].Promise)
	// Output: <nil> exactly once
}
