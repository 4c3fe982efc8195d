package main

import (
	"context"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/deliver"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/engine"
)

// topics copies a topic, exactly once by transactions, between two runs of the bare client, of which the faster one counts.
func topics(ctx context.Context, o options) (result, error) {
	t, err := deliver.OpenTopics(ctx, o.kafka, o.records)
	if err != nil {
		return result{}, err
	}
	defer t.Close()
	return besideBare(ctx, o, t.Bare, func() (deliver.Outcome, error) { return t.Job(ctx, config(o), t.ExactlyOnce(nil)) })
}

// table writes rows into a table, exactly once by prepared transactions, likewise.
func table(ctx context.Context, o options) (result, error) {
	t := &deliver.Table{URL: o.postgres, Records: o.records, Keys: o.keys}
	return besideBare(ctx, o, t.Bare, func() (deliver.Outcome, error) { return t.Job(ctx, config(o), t.Sink(postgres.XA)) })
}

// upserts replaces rows of a table, without transactions, likewise.
func upserts(ctx context.Context, o options) (result, error) {
	t := &deliver.Table{URL: o.postgres, Records: o.records, Keys: o.keys}
	return besideBare(ctx, o, t.BareUpsert, func() (deliver.Outcome, error) { return t.UpsertJob(ctx, config(o), t.Upserts()) })
}

// besideBare runs a job between two runs of the bare client. All of them check what they wrote.
func besideBare(
	ctx context.Context, o options, bare func(context.Context, engine.Config) (time.Duration, error), job func() (deliver.Outcome, error),
) (result, error) {
	before, err := bare(ctx, config(o))
	if err != nil {
		return result{}, err
	}
	done, err := job()
	if err != nil {
		return result{}, err
	}
	r := measured(o, done.Watch, done.End, done.Status)
	r.OK, r.OutCount = true, o.records
	after, err := bare(ctx, config(o))
	r.beside(min(before, after))
	return r, err
}
