package txntest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// Slot is one that no other test uses.
func Slot(t *testing.T, n int) sink.Slot {
	return sink.Slot{ID: n, Name: fmt.Sprintf("%s-out-%d", strings.Map(func(r rune) rune {
		if txn.Plain(string(r)) {
			return r
		}
		return '.'
	}, t.Name()), n)}
}

// Prepare makes one transaction of the records, in one batch.
func Prepare[T any](t testing.TB, w sink.TxWriter[T], s sink.Slot, epoch uint64, rs ...T) sink.Handle {
	t.Helper()
	if err := errors.Join(w.Begin(t.Context(), s), w.Write(t.Context(), rs)); err != nil {
		t.Fatal(err)
	}
	h, err := w.Prepare(t.Context(), epoch)
	if err != nil {
		t.Fatal(err)
	}
	return h
}
