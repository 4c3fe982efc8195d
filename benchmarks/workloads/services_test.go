package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/testsvc"
)

func TestMain(m *testing.M) { os.Exit(testsvc.Main(m)) }

// Workloads that write to a server compare what arrived with the answer, and themselves with the bare client.
func TestRunsOnServices(t *testing.T) {
	for _, args := range []string{
		"w4 30000 -checkpoint 20ms -kafka " + testsvc.Kafka(t).Addr,
		"w6 30000 -checkpoint 20ms -postgres " + testsvc.Postgres(t).URL,
		"w6upsert 30000 -checkpoint 20ms -postgres " + testsvc.Postgres(t).URL,
	} {
		t.Run(strings.Fields(args)[0], func(t *testing.T) {
			var out bytes.Buffer
			if err := run(t.Context(), strings.Fields(args), &out); err != nil {
				t.Fatalf("%v; it printed %s", err, out.String())
			}
			var r result
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatalf("%v in %s", err, out.String())
			}
			if !r.OK || r.Rate <= 0 || r.Bare <= 0 || r.Limit <= 0 || r.Checkpoints == 0 {
				t.Errorf("printed %s", out.String())
			}
		})
	}
}
