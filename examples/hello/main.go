// Command hello is the pipeline shown in the README: hits per page and minute, from log files into files of counts, each of
// which appears exactly once.
//
//	mkdir -p logs counts
//	echo '{"at":"2026-11-21T10:00:07Z","page":"/"}' >logs/a.json
//	hello && cat counts/*
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/cli"
)

// Hit is a line of the log.
type Hit struct {
	At   time.Time
	Page string
}

func main() { cli.Main("hello", build) }

func build(_ context.Context, e *cli.Env) (*engine.Pipeline, error) {
	p := engine.New(e.Config)
	hits := engine.From(p, "log", files.Source[Hit]{Paths: []string{"logs"}, Decode: files.JSON[Hit]})
	timed := hits.EventTime(func(h Hit) time.Time { return h.At }, engine.Watermarks{Delay: time.Minute})
	byPage := engine.KeyBy(timed, func(h Hit) string { return h.Page })
	minutes := engine.Window(byPage, "minutes", engine.Tumbling{Size: time.Minute})
	counts := engine.Aggregate(minutes,
		func(n *int, _ Hit) { *n++ },
		func(page string, w engine.Span, n *int) string {
			return fmt.Sprintf("%s %s %d", w.Start.Format(time.RFC3339), page, *n)
		})
	engine.ToTx(counts, "out", files.TxSink[string]{Dir: "counts"})
	return p, nil
}
