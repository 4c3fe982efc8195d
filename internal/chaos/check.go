package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
)

// fill writes the records into the topic.
func (s settings) fill(ctx context.Context, k *testsvc.KafkaServer) error {
	if err := k.CreateTopic(ctx, topic, partitions); err != nil {
		return err
	}
	cl, err := k.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		return err
	}
	defer cl.Close()
	failed := make(chan error, 1)
	for seq := range s.records {
		e := eventAt(seq, s.keys)
		v := binary.LittleEndian.AppendUint32(make([]byte, 0, 12), e.Key)
		r := &kgo.Record{Topic: topic, Partition: int32(seq % partitions), Value: binary.LittleEndian.AppendUint64(v, uint64(e.Value))}
		cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return fmt.Errorf("produce: %w", err)
	default:
		return nil
	}
}

// tally is what should be known of a key, or what the files say.
type tally struct {
	n    uint32 // records
	last uint32 // highest number seen
	rows uint64 // sum of the numbers seen: with as many rows and this highest number, none is missing or double
	sum  int64  // at the highest number
}

// verify compares the files with a plain loop over the records.
func (s settings) verify() error {
	want := make([]tally, s.keys)
	for seq := range s.records {
		e := eventAt(seq, s.keys)
		t := &want[e.Key]
		t.n++
		t.last++
		t.rows += uint64(t.n)
		t.sum += e.Value
	}
	got := make([]tally, s.keys)
	files, err := s.read(got)
	if err != nil {
		return err
	}
	wrong, total := 0, int64(0)
	for k := range want {
		total += int64(got[k].n)
		if got[k] != want[k] {
			if wrong++; wrong <= 3 {
				fmt.Printf("key %d: %+v, want %+v\n", k, got[k], want[k])
			}
		}
	}
	fmt.Printf("%d rows in %d files, %d keys wrong\n", total, files, wrong)
	if wrong > 0 || total != s.records {
		return fmt.Errorf("%d keys are wrong, %d rows instead of %d", wrong, total, s.records)
	}
	return nil
}

// read tallies all visible files.
func (s settings) read(into []tally) (files int, err error) {
	entries, err := os.ReadDir(s.output())
	if err != nil {
		return 0, err
	}
	for _, f := range entries {
		if strings.HasPrefix(f.Name(), ".") {
			return files, fmt.Errorf("%s is left over", f.Name())
		}
		b, err := os.ReadFile(filepath.Join(s.output(), f.Name()))
		if err != nil {
			return files, err
		}
		if len(b)%rowBytes != 0 {
			return files, fmt.Errorf("%s is torn: %d bytes", f.Name(), len(b))
		}
		files++
		for ; len(b) > 0; b = b[rowBytes:] {
			r := rowOf(b)
			if int64(r.Key) >= int64(len(into)) {
				return files, fmt.Errorf("%s has key %d", f.Name(), r.Key)
			}
			t := &into[r.Key]
			t.n++
			t.rows += uint64(r.N)
			if r.N > t.last {
				t.last, t.sum = r.N, r.Sum
			}
		}
	}
	return files, nil
}
