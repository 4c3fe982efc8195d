package cli

import (
	"strings"
	"testing"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/connector/mysql"
	"github.com/weirline/weirline/connector/objects"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/connector/redis"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
)

// TestGuaranteesOfTheConnectors is what -plan and -check print, and the log at a start, for each sink there is.
func TestGuaranteesOfTheConnectors(t *testing.T) {
	row := func(n int64) ([]any, error) { return []any{n}, nil }
	tx := func(to sink.TwoPhase[int64]) func(s engine.Stream[int64]) {
		return func(s engine.Stream[int64]) { engine.ToTx(s, "out", to) }
	}
	plain := func(to sink.Sink[int64]) func(s engine.Stream[int64]) {
		return func(s engine.Stream[int64]) { engine.To(s, "out", to) }
	}
	for name, c := range map[string]struct {
		to   func(s engine.Stream[int64])
		want string
	}{
		"files":    {tx(files.TxSink[int64]{Dir: "out"}), "in -> out: exactly once ("},
		"postgres": {tx(postgres.TxSink[int64]{Table: "t", Columns: []string{"n"}, Row: row}), "in -> out: exactly once ("},
		"mysql":    {tx(mysql.TxSink[int64]{DSN: "u@tcp(h)/d", Table: "t", Columns: []string{"n"}, Row: row}), "in -> out: exactly once ("},
		"objects":  {tx(objects.TxSink[int64]{Bucket: "b"}), "in -> out: exactly once ("},
		"redis":    {plain(redis.Sink[int64]{Do: func(int64, *redis.Cmds) error { return nil }}), "in -> out: exactly once in effect ("},
		"kafka, two-phase": {
			tx(kafka.TxSink[int64]{Brokers: []string{"h:1"}, Topic: "t", Encode: func(int64) (kafka.Record, error) { return kafka.Record{}, nil }}),
			"in -> out: exactly once (",
		},
		"ledger": {tx(postgres.TxSink[int64]{Table: "t", Columns: []string{"n"}, Row: row, Mode: postgres.Ledger}), "in -> out: exactly once ("},
		"kafka": {
			plain(kafka.Sink[int64]{Brokers: []string{"h:1"}, Topic: "t", Encode: func(int64) (kafka.Record, error) { return kafka.Record{}, nil }}),
			"limited by out; to lift it: use a two-phase sink",
		},
	} {
		p := engine.New(engine.Config{Name: "told", Dir: "state"})
		c.to(engine.From(p, "in", gen.Source[int64]{Make: func(n int64) int64 { return n }}))
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if text := planText(p.Plan()); !strings.Contains(text, c.want) {
			t.Errorf("%s: the plan lacks %q:\n%s", name, c.want, text)
		}
	}
}
