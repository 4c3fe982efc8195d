// Package prom shows what a job does in the form Prometheus reads. It is apart from the engine, so that a binary that
// doesn't import it doesn't link the client library.
//
//	Handlers: func(mux *http.ServeMux, p *engine.Pipeline) { mux.Handle("GET /metrics", prom.Handler(p)) },
//
// in a cli.App serves /metrics on -addr. Nothing is collected between scrapes: each one reads Pipeline.Status once, which
// holds nothing up.
//
// All names begin with weirline_, values are in base units (seconds, bytes), and the labels are job, operator and task.
// docs/metrics.md lists them. What connectors count is weirline_connector_ and their own name. Counters of operators and
// tasks begin at zero again when the job restarts, which rate() knows how to take. Before Run there is nothing to show.
package prom
