package files

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	format "github.com/weirline/weirline/sink/parts/parquet"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn/txntest"
)

type named struct {
	Name string
	N    int64
}

// table reads all visible Parquet files.
func table(dir string) (rows []named, err error) {
	files, err := shown(dir)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := []byte(files[name])
		more, rerr := parquet.Read[named](bytes.NewReader(text), int64(len(text)))
		rows, err = append(rows, more...), errors.Join(err, rerr)
	}
	return rows, err
}

func TestTxContractOfParquet(t *testing.T) {
	dir := t.TempDir()
	s := TxSink[named]{
		Dir: dir, Format: format.Format[named]{}, CompactBelow: 1 << 20, MaxOpen: 2,
		Bucket: func(dst []byte, v named) []byte { return fmt.Appendf(dst, "n=%d", v.N%3) },
	}
	txntest.Run(t, txntest.Case[named]{
		TxCase: sinktest.TxCase[named]{
			Sink:    s,
			Make:    func(i int) named { return named{fmt.Sprint("record ", i), int64(i)} },
			Visible: func() ([]named, error) { return table(dir) },
			Left:    func(s sink.Slot) ([]string, error) { return leftovers(dir, s) },
		},
		RollBack: func(_ context.Context, h sink.Handle) error {
			return os.RemoveAll(filepath.Join(dir, hiddenName(h.Slot.Name, h.Token, preparedSuffix)))
		},
		MaxSlot: maxSlot,
	})
}

// TestParquetRollsAndJoins writes with two tasks more than a file takes, and joins what is small.
func TestParquetRollsAndJoins(t *testing.T) {
	s := TxSink[named]{Dir: t.TempDir(), Format: format.Format[named]{}, Rolling: parts.Rolling{Size: 20_000}, CompactBelow: 10_000}
	var hs []sink.Handle
	for task := range 2 {
		w, _ := txOpen(t, s)
		var rs []named
		for i := range 1000 {
			rs = append(rs, named{fmt.Sprintf("%d and more %d", i, i*i), int64(task*1000 + i)})
		}
		hs = append(hs, prepare(t, w, sink.Slot{ID: task, Name: fmt.Sprint("job-out-", task)}, 1, rs...))
	}
	_, c := txOpen(t, s)
	if err := c.Commit(t.Context(), hs); err != nil {
		t.Fatal(err)
	}
	rows, err := table(s.Dir)
	seen := map[int64]bool{}
	for _, r := range rows {
		seen[r.N] = true
	}
	files, ferr := shown(s.Dir)
	if err := errors.Join(err, ferr); err != nil || len(rows) != 2000 || len(seen) != 2000 || len(files) != 3 {
		t.Errorf("%d rows, %d different, in %d files of %v, %v", len(rows), len(seen), len(files), sizes(files), err)
	}
	for name := range files {
		if filepath.Ext(name) != ".parquet" {
			t.Errorf("a file is called %s", name)
		}
	}
}

func sizes(files map[string]string) (out []int) {
	for _, text := range files {
		out = append(out, len(text))
	}
	return out
}
