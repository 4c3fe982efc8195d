package files

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// The states of a hidden file are its endings: being written, then whole, synced and waiting for its commit.
const (
	openSuffix     = ".tmp"
	preparedSuffix = ".prepared"
	tokenLen       = 32 // hex digits
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// hiddenName is .<slot>-<token><suffix>.
func hiddenName(slot, token, suffix string) string { return "." + slot + "-" + token + suffix }

// slotOf takes the slot out of a hidden file's name; ok is false for any other name. The token has a fixed length and no
// dash, so a slot whose name begins like another's isn't taken for it.
func slotOf(name string) (slot string, ok bool) {
	rest, hidden := strings.CutPrefix(name, ".")
	base, open := strings.CutSuffix(rest, openSuffix)
	base, prepared := strings.CutSuffix(base, preparedSuffix)
	if !hidden || open == prepared || len(base) < tokenLen+2 {
		return "", false
	}
	slot, token := base[:len(base)-tokenLen-1], base[len(base)-tokenLen:]
	if _, err := hex.DecodeString(token); err != nil || base[len(slot)] != '-' {
		return "", false
	}
	return slot, true
}

func newToken() string {
	var b [tokenLen / 2]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// native is the version 1 of what a handle carries. Names are relative to the sink's directory.
type native struct {
	Version  int    `json:"version"`
	Dir      string `json:"dir"` // where it was prepared, for the operator's eyes
	Prepared string `json:"prepared"`
	Final    string `json:"final"`
	Size     int64  `json:"size"`
	CRC32C   uint32 `json:"crc32c"`
}

func readNative(h sink.Handle) (native, error) {
	var n native
	if err := json.Unmarshal(h.Native, &n); err != nil {
		return n, sink.Permanent(fault.Wrap(fault.CommitFailed, err, "read handle %s of slot %s", h.Token, h.Slot.Name))
	}
	if n.Version != 1 {
		return n, sink.Permanent(fault.New(fault.NewerFormat, "handle %s has version %d, this binary knows 1", h.Token, n.Version))
	}
	for _, name := range []string{n.Prepared, n.Final} {
		if name == "" || name != filepath.Base(name) {
			return n, sink.Permanent(fault.New(fault.CommitFailed, "handle %s names %q, which isn't a file's name", h.Token, name))
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
