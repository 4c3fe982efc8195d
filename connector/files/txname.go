package files

import (
	"fmt"
	"hash/crc32"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/parts"
	"github.com/weirline/weirline/txn"
)

// A transaction is a hidden directory. Its states are the endings of its name: being written, then whole, synced and waiting for its
// commit. Below it a file is <bucket>/<number>.
const (
	openSuffix     = ".tmp"
	preparedSuffix = ".prepared"

	maxSlot = 255 - len(".-"+preparedSuffix) - txn.TokenLen // bytes; a file's name has 255 at most
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// hiddenName is .<slot>-<token><suffix>.
func hiddenName(slot, token, suffix string) string { return "." + txn.NameOf(slot, token) + suffix }

// partsOf takes slot and token out of a hidden name; ok is false for any other name.
func partsOf(name string) (slot, token string, ok bool) {
	rest, hidden := strings.CutPrefix(name, ".")
	base, open := strings.CutSuffix(rest, openSuffix)
	base, prepared := strings.CutSuffix(base, preparedSuffix)
	if !hidden || open == prepared {
		return "", "", false
	}
	return txn.SlotOf(base)
}

// names are of visible files.
type names struct{ parts.Name }

// around is what stands before and behind a file's number.
func (n names) around(slot sink.Slot, token string, epoch uint64) (begin, end string) {
	suffix := n.Suffix
	n.Slot, n.Token, n.Epoch, n.Number, n.Suffix = slot.ID, token, epoch, 0, ""
	return strings.TrimSuffix(n.String(), numbered(0)), suffix
}

// numbered is a file's name in the hidden directory.
func numbered(number int) string { return fmt.Sprintf("%04d", number) }

// nativeVersion is the form of native.
const nativeVersion = 2

// native is what a handle carries. Names are relative to the sink's directory.
type native struct {
	Dir      string `json:"dir"`      // where it was prepared, for the operator's eyes
	Prepared string `json:"prepared"` // the hidden directory; in version 1 a file

	// A file is <Prepared>/<Path> and becomes <Path's directory>/<Begin><Path's last name><End>.
	Begin string       `json:"begin,omitempty"`
	End   string       `json:"end,omitempty"`
	Files []nativeFile `json:"files,omitempty"`

	// Version 1 had one file.
	Final  string `json:"final,omitempty"`
	Size   int64  `json:"size,omitempty"`
	CRC32C uint32 `json:"crc32c,omitempty"`
}

type nativeFile struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	CRC32C uint32 `json:"crc32c"`
}

// piece is a file of a transaction.
type piece struct {
	path     string // its name within the transaction
	from, to string // below the sink's directory
	bucket   string // the directory of to
	size     int64
	crc      uint32
}

func (n native) pieceOf(f nativeFile) piece {
	dir, number := path.Split(f.Path)
	return piece{
		path: f.Path, from: path.Join(n.Prepared, f.Path), to: dir + n.Begin + number + n.End, bucket: strings.TrimSuffix(dir, "/"),
		size: f.Size, crc: f.CRC32C,
	}
}

// transaction is a handle that was read.
type transaction struct {
	h        sink.Handle
	dir      string // where it was prepared
	prepared string
	pieces   []piece
}

func readHandle(h sink.Handle) (transaction, error) {
	n, err := txn.Decode[native](h, nativeVersion)
	if err != nil {
		return transaction{}, err
	}
	t := transaction{h: h, dir: n.Dir, prepared: n.Prepared}
	for _, f := range n.Files {
		t.pieces = append(t.pieces, n.pieceOf(f))
	}
	names := []string{n.Prepared, n.Begin + "0" + n.End}
	if n.Final != "" || n.Begin == "" {
		names[1] = n.Final
		t.pieces = []piece{{path: ".", from: n.Prepared, to: n.Final, size: n.Size, crc: n.CRC32C}}
	}
	for _, name := range names {
		if name == "" || name != filepath.Base(name) {
			return t, txn.Unreadable(h, "%q isn't a file's name", name)
		}
	}
	for _, f := range n.Files {
		if err := parts.CheckPath(f.Path); f.Path == "" || err != nil {
			return t, txn.Unreadable(h, "%q isn't a file's path: %v", f.Path, err)
		}
	}
	return t, nil
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
