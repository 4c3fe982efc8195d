package kafka_test

import (
	"context"
	"fmt"
	"log"
	"strconv"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/source"
)

type order struct {
	ID string `json:"id"`
}

// The orders since midnight up to now, and then the end.
func ExampleSource() {
	src := kafka.Source[order]{
		Brokers: []string{"localhost:9092"},
		Topics:  []string{"orders"},
		Start:   kafka.At(time.Now().Truncate(24 * time.Hour)),
		Stop:    kafka.StopLatest,
		Decode:  kafka.JSON[order],
	}
	fmt.Println(src.Bounded())
	// Output: true
}

// Values made of key and value, of committed records only; progress is visible as a consumer group.
func ExampleSource_decode() {
	src := kafka.Source[string]{
		Brokers:       []string{"localhost:9092"},
		Topics:        []string{"orders"},
		ReadCommitted: true,
		Group:         "billing",
		Decode:        func(r *kafka.Record) (string, error) { return string(r.Key) + "=" + string(r.Value), nil },
	}
	var _ source.Source[string, kafka.Split] = src
	fmt.Println(src.Bounded())
	// Output: false
}

// Orders keyed by their ID, so that those of one ID keep their order.
func ExampleSink() {
	out := kafka.Sink[order]{
		Brokers: []string{"localhost:9092"},
		Topic:   "orders",
		Encode: func(o order) (kafka.Record, error) {
			r, err := kafka.JSONRecord(o)
			r.Key = []byte(o.ID)
			return r, err
		},
	}
	r, err := out.Encode(order{ID: "7"})
	fmt.Printf("%s %s %v\n", r.Key, r.Value, err)
	// Output: 7 {"id":"7"} <nil>
}

// Orders go into a topic, each exactly once, in the epochs of the job's checkpoints.
func ExampleTxSink() {
	p := engine.New(engine.Config{Name: "shop", Dir: "state"})
	orders := engine.From(p, "orders", gen.Source[order]{
		Make: func(seq int64) order { return order{ID: strconv.FormatInt(seq, 10)} }, Count: 1000,
	})
	engine.ToTx(orders, "copies", kafka.TxSink[order]{
		Brokers: []string{"localhost:9092"},
		Topic:   "copies",
		Encode:  kafka.JSONRecord[order],
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}
