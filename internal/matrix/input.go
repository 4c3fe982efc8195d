package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
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

// compare says if a result is wrong or there twice, and when all is over, if one is missing.
func compare(got []row, want map[row]bool, over bool) error {
	seen := make(map[row]bool, len(got))
	for _, r := range got {
		switch {
		case !want[r]:
			return fmt.Errorf("result %q is wrong", r)
		case seen[r]:
			return fmt.Errorf("result %q is there twice", r)
		}
		seen[r] = true
	}
	if over && len(seen) < len(want) {
		for r := range want {
			if !seen[r] {
				return fmt.Errorf("%d of %d results are there; %q isn't", len(seen), len(want), r)
			}
		}
	}
	return nil
}
