package files_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/sink"
)

// A file becomes visible when its epoch is committed.
func ExampleTxSink() {
	dir, err := os.MkdirTemp("", "out-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	out := files.TxSink[string]{Dir: dir, Suffix: ".txt"}

	// The rest is what the engine does.
	if err := oneEpoch(context.Background(), out, dir); err != nil {
		fmt.Println(err)
	}
	// Output:
	// before the commit: 0 files
	// after it: 1 files
}

func oneEpoch(ctx context.Context, out files.TxSink[string], dir string) error {
	task := sink.Task{Job: "job", Operator: "out"}
	w, err := out.TxWriter(ctx, task)
	if err != nil {
		return err
	}
	defer w.Close()
	c, err := out.Committer(ctx, task)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := w.Begin(ctx, sink.Slot{ID: 1, Name: "job-out-1"}); err != nil {
		return err
	}
	if err := w.Write(ctx, []string{"hello", "world"}); err != nil {
		return err
	}
	h, err := w.Prepare(ctx, 1)
	if err != nil {
		return err
	}
	seen, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return err
	}
	fmt.Printf("before the commit: %d files\n", len(seen))
	if err := c.Commit(ctx, []sink.Handle{h}); err != nil {
		return err
	}
	seen, err = filepath.Glob(filepath.Join(dir, "*.txt"))
	fmt.Printf("after it: %d files\n", len(seen))
	return err
}
