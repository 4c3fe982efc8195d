package kafka

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/source/sourcetest"
)

func TestSourceKit(t *testing.T) {
	c := fake(t, kfake.SeedTopics(3, "a"), kfake.SeedTopics(1, "b"))
	var want []string
	for _, in := range []struct {
		topic  string
		p      int32
		values []string
	}{{"a", 0, numbered("x", 0, 40)}, {"a", 2, numbered("y", 0, 7)}, {"b", 0, numbered("z", 0, 20)}} {
		produce(t, c.ListenAddrs(), in.topic, in.p, in.values...)
		want = append(want, in.values...)
	}
	src := text(c, "a", "b")
	src.Stop = StopLatest
	sourcetest.Run(t, sourcetest.Case[string, Split]{
		Source: src, Want: want, Restarts: 8,
		Bad: []Split{{Topic: "a", Partition: 1, Next: 5, Stop: 9}, {Topic: "gone", Next: 1, Stop: 9}},
	})
}

func TestSinkKit(t *testing.T) {
	k := testsvc.Kafka(t)
	topic := name("kit")
	create(t, k.Addr, topic, 3)
	sinktest.Run(t, sinktest.Case[string]{
		Sink: Sink[string]{Brokers: []string{k.Addr}, Topic: topic, Encode: TextRecord},
		Make: func(i int) string { return numbered("r", i, i+1)[0] },
		Read: func() ([]string, error) { return content(t, k.Addr, topic), nil },
	})
}
