package enginetest

import (
	"context"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
)

// Run builds a pipeline and runs it to its end, through every scripted crash, and fails the test if it doesn't get there.
// Unset fields of cfg get values fit for tests: a directory of the test, a checkpoint each 5 ms, restarts at once.
func Run(t *testing.T, cfg engine.Config, build func(p *engine.Pipeline)) {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.CheckpointEvery == 0 {
		cfg.CheckpointEvery = 5 * time.Millisecond
	}
	if cfg.Restart == (engine.Restart{}) {
		cfg.Restart = engine.Restart{Delay: -1, Attempts: 1000}
	}
	p := engine.New(cfg)
	build(p)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatal("the pipeline didn't come to its end within a minute")
	}
}
