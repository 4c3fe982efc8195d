package benchmarks

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/benchmarks/internal/load"
	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/source"
)

// counted runs source to count and returns the time from the first record's decoding to the end.
func counted[T any, S source.Split](b *testing.B, parallelism int, src source.Source[T, S], began *time.Time, want int64) time.Duration {
	b.Helper()
	p := engine.New(engine.Config{Name: "bench", Parallelism: parallelism})
	total := load.NewTotal(func(T) int64 { return 1 })
	engine.To(engine.From(p, "input", src), "count", total)
	*began = time.Now()
	if err := p.Run(b.Context()); err != nil {
		b.Fatal(err)
	}
	count, _, last := total.Result()
	if count != want {
		b.Fatalf("%d records, want %d", count, want)
	}
	return last.Sub(*began)
}

func BenchmarkFileToCount(b *testing.B) {
	const lines = 4_000_000
	path := filepath.Join(b.TempDir(), "lines")
	writeLines(b, path, lines)
	var began time.Time
	ours := func() time.Duration {
		return counted(b, tasks, files.Source[[]byte]{Paths: []string{path}, Splits: tasks}, &began, lines)
	}
	against(b, lines, ours, func() time.Duration {
		began := time.Now()
		count, _ := inParallel(func(task int64) (int64, int64) { return countLines(b, path, task), 0 })
		took := time.Since(began)
		if count != lines {
			b.Fatalf("the limit counted %d lines, want %d", count, lines)
		}
		return took
	})
}

// writeLines writes lines of 100 bytes, "\n" included.
func writeLines(b *testing.B, path string, lines int) {
	b.Helper()
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriterSize(f, 1<<20)
	for i := range lines {
		fmt.Fprintf(w, "%012d%s\n", i, strings.Repeat("x", 87))
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
}

// countLines counts one task's share of the line ends, in blocks of 256 KiB.
func countLines(b *testing.B, path string, task int64) (count int64) {
	f, err := os.Open(path)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		b.Error(err)
		return 0
	}
	from, to := info.Size()*task/tasks, info.Size()*(task+1)/tasks
	r := io.NewSectionReader(f, from, to-from)
	buf := make([]byte, 256<<10)
	for {
		n, err := r.Read(buf)
		for rest := buf[:n]; ; count++ {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			rest = rest[i+1:]
		}
		if errors.Is(err, io.EOF) {
			return count
		}
		if err != nil {
			b.Error(err)
			return count
		}
	}
}

func BenchmarkKafkaToCount(b *testing.B) {
	const records = 1_000_000
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "in"))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	produce(b, c, records)
	src := kafka.Source[[]byte]{
		Brokers: c.ListenAddrs(), Topics: []string{"in"}, Stop: kafka.StopLatest,
		Decode: func(r *kafka.Record) ([]byte, error) { return r.Value, nil },
	}
	var began time.Time
	against(b, records, func() time.Duration { return counted(b, 1, src, &began, records) }, func() time.Duration {
		return poll(b, c, records)
	})
}

func produce(b *testing.B, c *kfake.Cluster, records int) {
	b.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("in"),
		kgo.RecordPartitioner(kgo.RoundRobinPartitioner()), kgo.MaxBufferedRecords(100_000))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	value := bytes.Repeat([]byte("v"), 100)
	for range records {
		cl.Produce(b.Context(), kgo.SliceRecord(value), nil)
	}
	if err := cl.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// poll is the bare client: the same connections to make, the same records to fetch.
func poll(b *testing.B, c *kfake.Cluster, records int) time.Duration {
	b.Helper()
	began := time.Now()
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.ConsumeTopics("in"))
	if err != nil {
		b.Fatal(err)
	}
	defer cl.Close()
	for n := 0; n < records; {
		fs := cl.PollFetches(b.Context())
		if err := fs.Err(); err != nil {
			b.Fatal(err)
		}
		n += fs.NumRecords()
	}
	return time.Since(began)
}
