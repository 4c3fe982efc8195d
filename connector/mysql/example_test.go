package mysql_test

import (
	"context"
	"log"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/mysql"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/txn"
)

type order struct {
	ID       int64
	Customer string
	Total    float64
}

// Orders go into a table, each exactly once, in the epochs of the job's checkpoints.
func ExampleTxSink() {
	p := engine.New(engine.Config{Name: "shop", Dir: "state"})
	orders := engine.From(p, "orders", gen.Source[order]{
		Make: func(seq int64) order { return order{ID: seq, Customer: "ann", Total: 9.5} }, Count: 1000,
	})
	engine.ToTx(orders, "table", mysql.TxSink[order]{
		DSN:     "shop:secret@tcp(localhost:3306)/shop",
		Table:   "orders",
		Columns: []string{"id", "customer", "total"},
		Row:     func(o order) ([]any, error) { return []any{o.ID, o.Customer, o.Total}, nil },
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// With Keys a row takes the place of the one with the same keys. The stream is keyed by them, so that one task writes all
// of a key's rows.
func ExampleTxSink_keys() {
	out := mysql.TxSink[order]{
		DSN:     "shop:secret@tcp(localhost:3306)/shop?tls=true",
		Table:   "reports.totals",
		Columns: []string{"customer", "total"},
		Keys:    []string{"customer"},
		Row:     func(o order) ([]any, error) { return []any{o.Customer, o.Total}, nil },
		Lost:    txn.AcceptLoss, // go on when somebody has rolled back what was prepared
	}
	if err := out.Validate(); err != nil {
		log.Fatal(err)
	}
}

// total is what a customer has ordered; one who is gone has none.
type total struct {
	Customer string
	Sum      float64
	Gone     bool
}

// Totals are replaced as they change, without waiting for a checkpoint. The stream is keyed by Keys, so that one task writes all of a
// key's rows.
func ExampleSink() {
	p := engine.New(engine.Config{Name: "shop", Dir: "state"})
	totals := engine.From(p, "totals", gen.Source[total]{
		Make: func(seq int64) total { return total{Customer: "ann", Sum: float64(seq)} }, Count: 1000,
	})
	engine.To(totals, "table", mysql.Sink[total]{
		DSN:     "shop:secret@tcp(localhost:3306)/shop",
		Table:   "totals",
		Columns: []string{"customer", "sum"},
		Keys:    []string{"customer"},
		Row:     func(t total) ([]any, error) { return []any{t.Customer, t.Sum}, nil },
		Delete:  func(t total) bool { return t.Gone },
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
