package redis_test

import (
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink/ahead"
)

type view struct {
	Page string
	N    int64
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
