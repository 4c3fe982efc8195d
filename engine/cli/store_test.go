package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/store"
)

// TestStateAsURL gives -state a URL: refused by a binary without such a store, else passed to it as it is.
func TestStateAsURL(t *testing.T) {
	var opened string
	app := App{
		Name: "x",
		Store: func(location string) func(store.Options) (store.Store, error) {
			opened = location
			return func(store.Options) (store.Store, error) { return nil, errors.New("not opened here") }
		},
		Build: func(_ context.Context, e *Env) (*engine.Pipeline, error) {
			if e.Config.Dir != "" || e.Config.Store == nil {
				t.Errorf("directory %q, store set: %v", e.Config.Dir, e.Config.Store != nil)
			}
			return nil, errors.New("enough")
		},
	}
	var stderr strings.Builder
	pr := testProcess(nil, "-state", "s3://b/p?region=r")
	pr.out, pr.err = io.Discard, &stderr
	pr.notify, pr.forget = func(chan<- os.Signal) {}, func(chan<- os.Signal) {}
	if code := app.run(pr); code != exitUsage || opened != "s3://b/p?region=r" || !strings.Contains(stderr.String(), "enough") {
		t.Errorf("code %d, opened %q: %s", code, opened, stderr.String())
	}
	app.Store = nil
	stderr.Reset()
	if code := app.run(pr); code != exitUsage || !strings.Contains(stderr.String(), "directory only") || !strings.Contains(stderr.String(), "App.Store") {
		t.Errorf("code %d: %s", code, stderr.String())
	}
}
