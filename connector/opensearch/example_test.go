package opensearch_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/opensearch"
	"github.com/weirline/weirline/engine"
)

type product struct {
	SKU     string
	Name    string
	Stock   int64
	Gone    bool
	Changed time.Time
}

// Each product's JSON becomes the document with its SKU.
func ExampleSink() {
	p := engine.New(engine.Config{Name: "shop", Dir: "state", CheckpointEvery: time.Minute})
	products := engine.From(p, "products", gen.Source[product]{
		Make: func(n int64) product { return product{SKU: fmt.Sprint(n % 100), Stock: n, Changed: time.Now()} }, Count: 1000,
	})
	engine.To(products, "search", opensearch.Sink[product]{
		URLs:     []string{"https://search1:9200", "https://search2:9200"},
		Index:    "products",
		ID:       func(p product) string { return p.SKU },
		Username: "shop",
		Password: "secret",
	})
	if err := p.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// Do says how each record is written. With Version an older change can't replace a newer one, whenever it comes.
func ExampleSink_actions() {
	out := opensearch.Sink[product]{
		Index: "products",
		ID:    func(p product) string { return p.SKU },
		Do: func(p product) (opensearch.Action, error) {
			if p.Gone {
				return opensearch.Action{Op: opensearch.Delete, Version: p.Changed.UnixMicro()}, nil
			}
			return opensearch.Action{Doc: p, Version: p.Changed.UnixMicro()}, nil
		},
	}
	fmt.Println(out.Validate())
	// Output: <nil>
}

type click struct {
	At   time.Time `json:"@timestamp"`
	Page string    `json:"page"`
}

// A data stream takes new documents only. Without ID they are written at least once.
func ExampleSink_dataStream() {
	out := opensearch.Sink[click]{
		Index: "clicks-web",
		Do: func(c click) (opensearch.Action, error) {
			return opensearch.Action{Op: opensearch.Create, Doc: c}, nil
		},
	}
	fmt.Println(out.Promise())
	// Output: at least once the server makes an id for each document, so a repeated record makes another one set ID to the function that gives a record's document its id
}
