package files

import (
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// The states of a hidden file are its endings: being written, then whole, synced and waiting for its commit.
const (
	openSuffix     = ".tmp"
	preparedSuffix = ".prepared"

	maxSlot = 255 - len(".-"+preparedSuffix) - txn.TokenLen // bytes; a file's name has 255 at most
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// hiddenName is .<slot>-<token><suffix>.
func hiddenName(slot, token, suffix string) string { return "." + txn.NameOf(slot, token) + suffix }

// partsOf takes slot and token out of a hidden file's name; ok is false for any other name.
func partsOf(name string) (slot, token string, ok bool) {
	rest, hidden := strings.CutPrefix(name, ".")
	base, open := strings.CutSuffix(rest, openSuffix)
	base, prepared := strings.CutSuffix(base, preparedSuffix)
	if !hidden || open == prepared {
		return "", "", false
	}
	return txn.SlotOf(base)
}

// nativeVersion is the form of native.
const nativeVersion = 1

// native is what a handle carries. Names are relative to the sink's directory.
type native struct {
	Dir      string `json:"dir"` // where it was prepared, for the operator's eyes
	Prepared string `json:"prepared"`
	Final    string `json:"final"`
	Size     int64  `json:"size"`
	CRC32C   uint32 `json:"crc32c"`
}

func readNative(h sink.Handle) (native, error) {
	n, err := txn.Decode[native](h, nativeVersion)
	if err != nil {
		return n, err
	}
	for _, name := range []string{n.Prepared, n.Final} {
		if name == "" || name != filepath.Base(name) {
			return n, txn.Unreadable(h, "%q isn't a file's name", name)
		}
	}
	return n, nil
}

// syncDir makes what was made, renamed or removed in a directory survive a crash.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("open directory to sync it: %w", err)
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}
