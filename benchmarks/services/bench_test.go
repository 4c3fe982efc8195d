package services

import (
	"context"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/deliver"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
)

func TestMain(m *testing.M) { os.Exit(testsvc.Main(m)) }

const (
	tasks  = 2
	every  = time.Second // between checkpoints, and between the bare client's commits
	rounds = 5
	hold   = 500 * time.Millisecond // of commits that are held up
)

// run is one contender: it does the work once and says how long that took.
type run func(ctx context.Context, cfg engine.Config) (time.Duration, error)

// settings are a job's, with a new state directory.
func settings(t testing.TB, every time.Duration) engine.Config {
	t.Helper()
	return engine.Config{Name: "bench", Dir: t.TempDir(), Parallelism: tasks, CheckpointEvery: every}
}

// short makes, with -short, one round of many and a twentieth of the records.
func short(n int64) int64 {
	if testing.Short() {
		return max(1, n/20)
	}
	return n
}

// inTurn lets all run in each round, each time in another order, and returns how long each took in each round.
func inTurn(b *testing.B, all ...run) [][]float64 {
	b.Helper()
	times := make([][]float64, len(all))
	for round := range int(short(rounds)) {
		for i := range all {
			k := (i + round) % len(all)
			d, err := all[k](b.Context(), settings(b, every))
			if err != nil {
				b.Fatal(err)
			}
			times[k] = append(times[k], d.Seconds())
		}
	}
	return times
}

// ratios are the times of the one by those of the other, round by round.
func ratios(one, other []float64) []float64 {
	out := make([]float64, len(one))
	for i := range one {
		out[i] = one[i] / other[i]
	}
	return out
}

func median(xs []float64) float64 {
	s := slices.Sorted(slices.Values(xs))
	return s[len(s)/2]
}

// beside reports a job's times beside those of the bare client, and its longest pause in all rounds if it was watched.
func beside(b *testing.B, records int64, ours, bare []float64, p *deliver.Pauses) {
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ratios(ours, bare)), "xlimit")
	b.ReportMetric(slices.Min(ratios(ours, bare)), "xlimit-min")
	b.ReportMetric(float64(records)/median(ours), "rec/s")
	b.ReportMetric(float64(records)/median(bare), "bare/s")
	if p != nil {
		b.ReportMetric(millis(p.Longest()), "pause-ms")
	}
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// BenchmarkKafka copies a topic: by transactions of the bare client, by a job exactly once, and by a job at least once.
func BenchmarkKafka(b *testing.B) {
	records := short(4_000_000)
	t := openTopics(b, records)
	var times [][]float64
	var p deliver.Pauses
	for b.Loop() {
		times = inTurn(b, t.Bare, copies(t, t.ExactlyOnce(&p)), copies(t, t.AtLeastOnce()))
	}
	beside(b, records, times[1], times[0], &p)
	b.ReportMetric(100*(median(ratios(times[1], times[2]))-1), "%slower")
}

// BenchmarkPostgres writes a table: by COPY of the bare client in prepared transactions, and by a job either way.
func BenchmarkPostgres(b *testing.B) {
	t := openTable(b, short(2_000_000))
	for _, m := range modes {
		b.Run(m.name, func(b *testing.B) {
			var times [][]float64
			var p deliver.Pauses
			for b.Loop() {
				times = inTurn(b, t.Bare, rows(t, m.mode, &p))
			}
			beside(b, t.Records, times[1], times[0], &p)
		})
	}
}

// BenchmarkPostgresUpsert replaces rows of a table, without transactions: by unnest of the bare client, and by a job.
func BenchmarkPostgresUpsert(b *testing.B) {
	t := openTable(b, short(2_000_000))
	var times [][]float64
	for b.Loop() {
		times = inTurn(b, t.BareUpsert, replaces(t))
	}
	beside(b, t.Records, times[1], times[0], nil)
}

// BenchmarkRedis sets keys, each many times: by pipelines of the bare client, and by a job.
func BenchmarkRedis(b *testing.B) {
	t := &deliver.Strings{Addr: testsvc.NewRedis(b, testsvc.RedisOptions{}).Addr, Records: short(3_000_000), Keys: 10_000}
	var times [][]float64
	for b.Loop() {
		times = inTurn(b, t.Bare, sets(t))
	}
	beside(b, t.Records, times[1], times[0], nil)
}

// BenchmarkMariaDB writes a table: by INSERT of the bare client in XA transactions, and by a job.
func BenchmarkMariaDB(b *testing.B) {
	t := &deliver.MariaTable{DSN: testsvc.NewMariaDB(b, testsvc.MariaDBOptions{}).DSN, Records: short(1_000_000), Keys: 10_000}
	var times [][]float64
	var p deliver.Pauses
	for b.Loop() {
		times = inTurn(b, t.Bare, inserts(t, &p))
	}
	beside(b, t.Records, times[1], times[0], &p)
}

var modes = []struct {
	name string
	mode postgres.Mode
}{{"xa", postgres.XA}, {"ledger", postgres.Ledger}}

// openTopics starts a broker as the workloads have it, with the topic to copy.
func openTopics(tb testing.TB, records int64) *deliver.Topics {
	tb.Helper()
	t, err := deliver.OpenTopics(tb.Context(), testsvc.NewKafka(tb, testsvc.KafkaOptions{Heap: "1g"}).Addr, records)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(t.Close)
	return t
}

// openTable starts a server that waits for the disk.
func openTable(tb testing.TB, records int64) *deliver.Table {
	tb.Helper()
	pg := testsvc.NewPostgres(tb, testsvc.PostgresOptions{Sync: true, Args: []string{"-c", "shared_buffers=512MB", "-c", "max_wal_size=4GB"}})
	return &deliver.Table{URL: pg.URL, Records: records, Keys: 10_000}
}

func copies(t *deliver.Topics, into deliver.Into) run {
	return func(ctx context.Context, cfg engine.Config) (time.Duration, error) {
		return took(t.Job(ctx, cfg, into))
	}
}

func rows(t *deliver.Table, mode postgres.Mode, p *deliver.Pauses) run {
	return func(ctx context.Context, cfg engine.Config) (time.Duration, error) {
		return took(t.Job(ctx, cfg, deliver.Watched(t.Sink(mode), p)))
	}
}

func inserts(t *deliver.MariaTable, p *deliver.Pauses) run {
	return func(ctx context.Context, cfg engine.Config) (time.Duration, error) {
		return took(t.Job(ctx, cfg, deliver.Watched(t.Sink(), p)))
	}
}

func replaces(t *deliver.Table) run {
	return func(ctx context.Context, cfg engine.Config) (time.Duration, error) {
		return took(t.UpsertJob(ctx, cfg, t.Upserts()))
	}
}

func sets(t *deliver.Strings) run {
	return func(ctx context.Context, cfg engine.Config) (time.Duration, error) {
		return took(t.Job(ctx, cfg, t.Sink()))
	}
}

// took is the time of a job that nothing went wrong in.
func took(o deliver.Outcome, err error) (time.Duration, error) {
	if err != nil {
		return 0, err
	}
	if o.Status.Restarts > 0 {
		return 0, fmt.Errorf("the job was restarted %d times", o.Status.Restarts)
	}
	return o.Took(), nil
}
