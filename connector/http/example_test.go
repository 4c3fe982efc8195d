package httpsink_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"time"

	"github.com/weirline/weirline/connector/gen"
	httpsink "github.com/weirline/weirline/connector/http"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink/async"
)

type order struct {
	ID       string
	Customer string
	Total    float64
}

// Each order is posted as JSON, in a request of its own, by whose key the service tells a repetition.
func ExampleSink() {
	p := engine.New(engine.Config{Name: "shop", Dir: "state", CheckpointEvery: time.Minute})
	orders := engine.From(p, "orders", gen.Source[order]{
		Make: func(n int64) order { return order{ID: fmt.Sprint(n), Customer: "ann", Total: 9.5} }, Count: 1000,
	})
	engine.To(orders, "billing", httpsink.Sink[order]{
		URL:   "https://billing.example/orders",
		Token: "secret",
		ID:    func(o order) string { return o.ID }, // sent as Idempotency-Key
		Check: httpsink.Check{URL: "https://billing.example/health"},
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// A document for each order at a URL of its own: a repeated PUT changes nothing. An order that is gone is not put again.
func ExampleSink_put() {
	out := httpsink.Sink[order]{
		Method:     http.MethodPut,
		To:         func(o order) (string, error) { return "https://archive.example/orders/" + url.PathEscape(o.ID), nil },
		Repeatable: true,
		Rules:      map[int]httpsink.Outcome{http.StatusGone: httpsink.Done},
		Batching:   async.Sink[order]{Key: func(o order) string { return o.ID }}, // the last one written is the last one there
	}
	fmt.Println(out.Validate())
	// Output: <nil>
}

// Many orders in a request, and an answer that has a result for each.
func ExampleSink_batch() {
	out := httpsink.Sink[order]{
		URL:        "https://billing.example/orders/batch",
		Form:       httpsink.JSONArray,
		Gzip:       true,
		Repeatable: true, // the service tells orders by their ID
		Answer: func(r httpsink.Response, n int) error {
			var results []struct{ Status, Problem string }
			if err := json.Unmarshal(r.Body, &results); err != nil || len(results) != n {
				return fmt.Errorf("an answer with %d results: %w", len(results), err)
			}
			errs := map[int]error{}
			for i, it := range results {
				switch it.Status {
				case "taken":
				case "invalid":
					errs[i] = async.Refuse(errors.New(it.Problem))
				default:
					errs[i] = errors.New(it.Problem) // again
				}
			}
			return &async.Partial{Errs: errs}
		},
	}
	fmt.Println(out.Validate())
	// Output: <nil>
}
