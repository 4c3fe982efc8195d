package ahead_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/async"
)

// Order is a record on its way to a web service.
type Order struct {
	ID    string
	Cents int64
}

// Put sends an order under its id: a second time replaces the first. The service knows no transactions.
type Put struct {
	async.Sink[Order]
}

// Idempotent says what the address makes of it.
func (Put) Idempotent() bool { return true }

// To makes the sink of a service's address.
func To(url string) Put {
	return Put{async.Sink[Order]{MaxBatch: 1, Key: func(o Order) string { return o.ID }, Send: func(ctx context.Context, batch []Order) error {
		o := batch[0]
		req, err := http.NewRequestWithContext(ctx, http.MethodPut, url+"/orders/"+o.ID, strings.NewReader(fmt.Sprint(o.Cents)))
		if err != nil {
			return sink.Permanent(fmt.Errorf("put order: %w", err))
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return fmt.Errorf("put order: %w", err)
		}
		if resp.StatusCode/100 != 2 {
			err = fmt.Errorf("put order: %s", resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	}}}
}

// Orders of an epoch wait in a directory until its checkpoint is complete, and only then go to the service.
func Example() {
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer service.Close()
	state, err := os.MkdirTemp("", "state-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(state)

	p := engine.New(engine.Config{Name: "shop", Dir: state, Log: slog.New(slog.DiscardHandler)})
	orders := engine.From(p, "orders", gen.Source[Order]{Count: 100, Make: func(n int64) Order { return Order{fmt.Sprint("o", n), n * 100} }})
	engine.ToTx(orders, "service", ahead.Sink[Order]{
		To:  To(service.URL),
		Dir: filepath.Join(state, "ahead"),
	})
	for _, g := range p.Plan().Guarantees {
		fmt.Println(g.Promise+":", g.Why)
	}
	fmt.Println(p.Run(context.Background()))
	// Output:
	// exactly once in effect: rows wait until their checkpoint is complete; a commit that a crash interrupts writes them again as they were, which changes nothing
	// <nil>
}
