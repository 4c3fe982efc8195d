package objects_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/objects"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

type order struct {
	ID    int64
	Total float64
	At    time.Time
}

// Orders go into objects of JSON lines, by the hour of their time, each exactly once, in the epochs of the job's checkpoints.
func ExampleTxSink() {
	p := engine.New(engine.Config{Name: "shop", Dir: "state", CheckpointEvery: time.Minute})
	orders := engine.From(p, "orders", gen.Source[order]{
		Make: func(seq int64) order { return order{ID: seq, Total: 9.5, At: time.Now()} }, Count: 1000,
	})
	engine.ToTx(orders, "lake", objects.TxSink[order]{
		Bucket: "lake",
		Prefix: "orders",
		Region: "eu-central-1",
		Format: parts.JSON[order]{},
		Folder: parts.ByTime(func(o order) time.Time { return o.At }, parts.ByHour),
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// Another server than Amazon's, large objects, and a policy for uploads that somebody has aborted.
func ExampleTxSink_server() {
	out := objects.TxSink[order]{
		Bucket:   "lake",
		Prefix:   "orders",
		Endpoint: "https://objects.example:9000",
		Format: parts.CSV[order]{
			Header: []string{"id", "total"},
			Row: func(r *parts.Row, o order) error {
				r.Int(o.ID)
				r.Float(o.Total)
				return nil
			},
		},
		Rolling:  parts.Rolling{Size: 1 << 30},
		PartSize: 32 << 20,
		Lost:     txn.AcceptLoss,
	}
	if err := out.Validate(); err != nil {
		log.Fatal(err)
	}
}

// Each order is an object of its own, which is replaced when the order changes.
func ExampleSink() {
	p := engine.New(engine.Config{Name: "shop", Dir: "state"})
	orders := engine.From(p, "orders", gen.Source[order]{
		Make: func(seq int64) order { return order{ID: seq, Total: 9.5, At: time.Now()} }, Count: 1000,
	})
	engine.To(orders, "lake", objects.Sink[order]{
		Bucket: "lake",
		Prefix: "orders",
		Region: "eu-central-1",
		Key:    func(o order) string { return fmt.Sprintf("%03d/%d.json", o.ID%1000, o.ID) },
		Body: func(dst []byte, o order) ([]byte, error) {
			return fmt.Appendf(dst, `{"id":%d,"total":%g}`, o.ID, o.Total), nil
		},
		ContentType: "application/json",
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
