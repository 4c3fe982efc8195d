package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

// fillBatch is small, so that a job has never fetched more than a part of the input.
const fillBatch = 200

// fill writes the input.
func fill(ctx context.Context, k *testsvc.KafkaServer) error {
	if err := k.CreateTopic(ctx, topic, partitions); err != nil {
		return err
	}
	cl, err := k.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	var batch []*kgo.Record
	for seq := range records {
		e := eventAt(seq)
		batch = append(batch, &kgo.Record{Topic: topic, Partition: e.partition(), Value: []byte(e.String())})
		if len(batch) < fillBatch && seq < records-1 {
			continue
		}
		if err := cl.ProduceSync(ctx, batch...).FirstErr(); err != nil {
			return fmt.Errorf("fill the topic: %w", err)
		}
		batch = batch[:0]
	}
	return nil
}

// truth is the answer, by a plain loop.
func truth() map[row]bool {
	all, of := make(map[row]bool, records), map[uint32]row{}
	for seq := range records {
		e := eventAt(seq)
		r := of[e.Key]
		r = row{e.Key, r.N + 1, r.Sum + e.Value}
		of[e.Key], all[r] = r, true
	}
	return all
}

// compare says if a result is wrong, or there twice or missing against what is wanted.
func compare(got []row, want map[row]bool, w txntest.Want) error {
	seen, first, again := make(map[row]bool, len(got)), map[uint32]int64{}, 0
	for _, r := range got {
		switch {
		case !want[r]:
			return fmt.Errorf("result %q is wrong", r)
		case seen[r] && !w.Again:
			return fmt.Errorf("result %q is there twice", r)
		case seen[r]:
			again++
		}
		seen[r] = true
		first[r.Key] = min(cmp.Or(first[r.Key], r.N), r.N)
	}
	if w.Again && again == 0 {
		return errors.New("no result is there twice")
	}
	missing := map[row]bool{}
	for r := range want {
		if !seen[r] && (!w.Tail || r.N > first[r.Key]) {
			missing[r] = true
		}
	}
	if w.Over && len(missing) != w.Lost {
		for r := range missing {
			return fmt.Errorf("%d results are there and %d are missing, want %d; %q is", len(seen), len(missing), w.Lost, r)
		}
		return fmt.Errorf("all results are there, want %d missing", w.Lost)
	}
	if w.Over && len(got) == 0 {
		return errors.New("there is no result")
	}
	return nil
}
