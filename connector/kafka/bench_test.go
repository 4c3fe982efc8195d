package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/source"
)

const benchRecords = 400_000

// BenchmarkRead reads 400,000 records of 100 bytes from 4 partitions, bare and through the source.
func BenchmarkRead(b *testing.B) {
	c := fake(b, kfake.SeedTopics(4, "in"))
	fill(b, c)
	b.Run("how=bare", func(b *testing.B) {
		for b.Loop() {
			bare(b, c)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRecords, "ns/record")
	})
	b.Run("how=source", func(b *testing.B) {
		src := text(c, "in")
		src.Stop = StopLatest
		splits := find(b, src)
		for b.Loop() {
			through(b, src, splits)
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRecords, "ns/record")
	})
}

func fill(b *testing.B, c *kfake.Cluster) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("in"),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	value := []byte(strings.Repeat("v", 100))
	for range benchRecords {
		cl.Produce(b.Context(), kgo.SliceRecord(value), nil)
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

func bare(b *testing.B, c *kfake.Cluster) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("in"))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	for n := 0; n < benchRecords; {
		fs := cl.PollFetches(b.Context())
		if err := fs.Err(); err != nil {
			b.Fatal(err)
		}
		n += fs.NumRecords()
	}
}

func through(b *testing.B, src Source[string], splits []Split) {
	r, err := src.Reader(b.Context(), task(nil, nil))
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	if err := r.Add(b.Context(), splits...); err != nil {
		b.Fatal(err)
	}
	var out source.Batch[string]
	out.Limit(1024)
	for n, ended := 0, 0; ended < len(splits); {
		out.Reset()
		_, err := r.Read(b.Context(), &out)
		n += len(out.Values)
		if err != nil {
			ended++
		}
		if ended == len(splits) && n != benchRecords {
			b.Fatalf("%d records", n)
		}
	}
}
