package services

import (
	"testing"
	"time"

	"github.com/weirline/weirline/benchmarks/internal/deliver"
	"github.com/weirline/weirline/internal/testsvc"
)

// TestContenders runs each contender once with few records. Each compares what arrived with what should have.
func TestContenders(t *testing.T) {
	const records = 30_000
	topics := openTopics(t, records)
	table := openTable(t, records)
	strings := &deliver.Strings{Addr: testsvc.Redis(t).Addr, Records: records, Keys: 1000}
	maria := &deliver.MariaTable{DSN: testsvc.MariaDB(t).DSN, Records: records, Keys: 10_000}
	all := map[string]run{
		"kafka/bare": topics.Bare, "kafka/exactly-once": copies(topics, topics.ExactlyOnce(nil)), "kafka/at-least-once": copies(topics, topics.AtLeastOnce()),
		"redis/bare": strings.Bare, "redis/job": sets(strings), "postgres/bare-upsert": table.BareUpsert, "postgres/upsert": replaces(table),
		"postgres/bare": table.Bare, "mariadb/bare": maria.Bare, "mariadb/xa": inserts(maria, &deliver.Pauses{}),
	}
	for _, m := range modes {
		all["postgres/"+m.name] = rows(table, m.mode, &deliver.Pauses{})
	}
	for name, do := range all {
		t.Run(name, func(t *testing.T) {
			if took, err := do(t.Context(), settings(t, 20*time.Millisecond)); err != nil || took <= 0 {
				t.Errorf("took %v, %v", took, err)
			}
		})
	}
}

// TestPauses has writers and committers of a job watched.
func TestPauses(t *testing.T) {
	p := &deliver.Pauses{Hold: 50 * time.Millisecond}
	if err := rowsWatched(openTable(t, 200_000), modes[0].mode)(t.Context(), settings(t, 20*time.Millisecond), p); err != nil {
		t.Fatal(err)
	}
	if p.Commits() == 0 || p.Longest() <= 0 {
		t.Errorf("%d commits, longest pause %v", p.Commits(), p.Longest())
	}
}
