package app

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/weirline/weirline/examples/weblog/internal/accesslog"
	"github.com/weirline/weirline/examples/weblog/internal/demo"
	"github.com/weirline/weirline/examples/weblog/internal/topic"
	"github.com/weirline/weirline/internal/fault"
)

// historySeconds is how much of the past is made up.
const historySeconds = 3 * 3600

// site is what must stay the same over restarts for the made-up log to go on.
type site struct {
	Seed  uint64    `json:"seed"`
	Start time.Time `json:"start"` // of second 0
	First int64     `json:"first"` // second of the first line in the topic
}

// startDemo makes up the history, unless there are logs, and begins to publish what follows it.
func (a *App) startDemo(ctx context.Context, state string, t *topic.Topic) error {
	s, err := a.site(filepath.Join(state, "demo.json"))
	if err != nil {
		return err
	}
	log := demo.Log{Seed: s.Seed, Start: s.Start}
	if a.o.logs == "" {
		a.o.logs = filepath.Join(state, "history")
		if err := log.WriteHistory(a.o.logs, s.First); err != nil {
			return err
		}
	}
	ends, err := t.Ends(ctx)
	if err != nil {
		return err
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() {
		err := demo.Live{Log: log, First: s.First, Speed: a.o.speed, To: t.Send}.Run(run, ends)
		if err != nil && run.Err() == nil {
			a.log.Error("no more lines are made up", "error", err)
		}
	})
	a.closers = append(a.closers, func() error { stop(); wg.Wait(); return nil })
	return nil
}

// site reads what an earlier run decided, or decides: the made-up log ends now, or goes on where the user's ends.
func (a *App) site(path string) (site, error) {
	var s site
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return s, fault.Wrap(fault.StateDir, err, "read %s", path)
		}
		return s, nil
	}
	s = site{Seed: 1, Start: time.Now().Add(-historySeconds * time.Second).Truncate(time.Minute).UTC(), First: historySeconds}
	if a.o.logs != "" {
		if s.Start, err = newest(a.o.logs); err != nil {
			return s, err
		}
		s.First = 0
	}
	temp := path + ".tmp"
	b, err = json.Marshal(s)
	if err = errors.Join(err, os.WriteFile(temp, b, 0o600), os.Rename(temp, path)); err != nil {
		return s, fault.Wrap(fault.StateDir, err, "write %s", path)
	}
	return s, nil
}

// newest is the highest time in the logs; now, if there is none.
func newest(logs string) (time.Time, error) {
	at := int64(0)
	err := topic.Dir(logs)(func(line []byte) error {
		if h, ok := accesslog.Parse(string(line)); ok {
			at = max(at, h.At)
		}
		return nil
	})
	if err != nil {
		return time.Time{}, fault.Wrap(fault.Unreadable, err, "look for the end of the logs")
	}
	if at == 0 {
		return time.Now().UTC(), nil
	}
	return time.UnixMicro(at).UTC(), nil
}
