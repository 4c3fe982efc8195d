package docs

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/cli"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/parts"
)

// Letters sends bad records into files, each exactly once.
func Letters(cfg engine.Config, dir string) *engine.Pipeline {
	cfg.Poison = engine.Poison{Policy: engine.PoisonDeadLetter, Budget: 100}
	p := engine.New(cfg)
	p.DeadLettersTx(files.TxSink[engine.DeadLetter]{Dir: dir, Format: parts.JSON[engine.DeadLetter]{}})
	return p
}

// LettersToKafka sends them into a topic, where the command dlq finds them.
func LettersToKafka(brokers []string, build func(p *engine.Pipeline)) cli.App {
	return cli.App{
		Name: "orders",
		Build: func(_ context.Context, e *cli.Env) (*engine.Pipeline, error) {
			e.Config.Poison.Policy = engine.PoisonDeadLetter
			p := engine.New(e.Config)
			p.DeadLettersTx(kafka.TxSink[engine.DeadLetter]{Brokers: brokers, Topic: "orders-dead", Encode: kafka.JSONRecord[engine.DeadLetter]})
			build(p)
			return p, nil
		},
		DeadLetters: func(context.Context, *cli.Env) (deadletter.Log, error) {
			return kafka.DeadLetters{Brokers: brokers, Topic: "orders-dead"}, nil
		},
	}
}

func TestLetters(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	p := Letters(engine.Config{Name: "docs", Dir: state, Parallelism: 1}, dir)
	events := engine.From(p, "events", gen.Source[Event]{Make: func(n int64) Event { return Event{ID: int(n), User: "u"} }, Count: 100})
	ByUser(events, async.Sink[Event]{Send: func(_ context.Context, batch []Event) error {
		bad := map[int]error{}
		for i, e := range batch {
			if e.ID == 42 {
				bad[i] = errors.New("no such event")
			}
		}
		if len(bad) > 0 {
			return &sink.Rejected{Errs: bad}
		}
		return nil
	}})
	if err := p.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil || len(names) != 1 {
		t.Fatalf("files %q, %v", names, err)
	}
	b, err := os.ReadFile(names[0])
	if err != nil || strings.Count(string(b), "\n") != 1 || !strings.Contains(string(b), `"cause":"no such event"`) {
		t.Errorf("dead letters %s, %v", b, err)
	}
	if app := LettersToKafka(nil, func(*engine.Pipeline) {}); app.DeadLetters == nil {
		t.Error("the binary doesn't say where its dead letters lie")
	}
}
