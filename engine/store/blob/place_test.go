package blob_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weirline/weirline/engine/store/blob"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/ahead"
	"github.com/weirline/weirline/sink/sinktest"
	"github.com/weirline/weirline/txn"
	"github.com/weirline/weirline/txn/txntest"
)

// column is a file that numbers are appended to.
type column string

func (c column) Writer(context.Context, sink.Task) (sink.Writer[string], error) {
	f, err := os.OpenFile(string(c), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &columnWriter{f}, err
}

type columnWriter struct{ f *os.File }

func (w *columnWriter) Write(_ context.Context, batch []string) error {
	_, err := w.f.WriteString(strings.Join(batch, "\n") + "\n")
	return err
}

func (w *columnWriter) Flush(context.Context) error { return w.f.Sync() }

func (w *columnWriter) Close() error {
	if err := w.f.Close(); !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

// TestRowsWaitInAPlace is the contract of a write-ahead sink whose rows wait in an object store.
func TestRowsWaitInAPlace(t *testing.T) {
	for name, location := range map[string]string{
		"file": "file://" + filepath.ToSlash(t.TempDir()), "s3": testsvc.S3(t).Location(prefix()),
	} {
		t.Run(name, func(t *testing.T) {
			p, err := blob.PlaceAt(location)
			if err != nil {
				t.Fatal(err)
			}
			out := filepath.Join(t.TempDir(), "out")
			s := ahead.Sink[string]{To: column(out), Place: p}
			if err := s.Preflight(t.Context()); err != nil {
				t.Fatal(err)
			}
			txntest.Run(t, txntest.Case[string]{
				TxCase: sinktest.TxCase[string]{
					Sink: s, Make: strconv.Itoa,
					Visible: func() ([]string, error) {
						b, err := os.ReadFile(out)
						if errors.Is(err, os.ErrNotExist) {
							return nil, nil
						}
						return strings.Fields(string(b)), err
					},
					Left: func(s sink.Slot) (left []string, _ error) {
						names, err := p.List(t.Context(), s.Name+"-")
						for _, n := range names {
							if token, _, _ := strings.Cut(n[len(s.Name)+1:], "."); len(token) == txn.TokenLen {
								left = append(left, n)
							}
						}
						return left, err
					},
				},
				RollBack: func(ctx context.Context, h sink.Handle) error {
					names, err := p.List(ctx, txn.NameOf(h.Slot.Name, h.Token))
					return errors.Join(err, p.Remove(ctx, names))
				},
				MaxSlot: 208,
			})
		})
	}
	if _, err := blob.PlaceAt("rows"); fault.CodeOf(err) != fault.BadPipeline.ID {
		t.Errorf("a directory: %v", err)
	}
	if _, err := blob.PlaceAt("s3://"); fault.CodeOf(err) != fault.StateDir.ID {
		t.Errorf("no bucket: %v", err)
	}
}
