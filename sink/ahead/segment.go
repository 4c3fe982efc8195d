package ahead

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

const (
	openEnd    = ".open"
	lastEnd    = ".end"
	appliedEnd = ".applied"

	partBytes = 4 << 20 // of rows, after which a part is full
	maxSlot   = 255 - 1 - txn.TokenLen - len(".00000"+lastEnd+durable.TempSuffix)
)

var crcTable = crc32.MakeTable(crc32.Castagnoli)

// nativeVersion is the form of native.
const nativeVersion = 1

// native is what a handle carries.
type native struct {
	Place string `json:"place"` // where it was prepared
	size
}

// size is what a segment must come to. The last part has it too.
type size struct {
	Parts  int    `json:"parts"`
	Rows   int64  `json:"rows"`
	Bytes  int64  `json:"bytes"` // of rows, their lengths included
	CRC32C uint32 `json:"crc32c"`
}

// part is the content of a file of rows, in a frame of package durable.
type part struct {
	Name string // of the transaction
	Part int
	Rows []byte // each with its length before it
	Last *last  // of the last one
}

type last struct {
	Epoch uint64
	At    int64 // when it was prepared, in nanoseconds since 1970
	Size  size
}

const (
	partMagic   = "weirAHD\n"
	partVersion = 1
)

func partName(name string, n int, isLast bool) string {
	if isLast {
		return fmt.Sprintf("%s.%05d%s", name, n, lastEnd)
	}
	return fmt.Sprintf("%s.%05d", name, n)
}

// names are all files of a prepared transaction.
func (s size) names(name string) []string {
	out := []string{name + openEnd}
	for n := range s.Parts {
		out = append(out, partName(name, n, n == s.Parts-1))
	}
	return out
}

var fileName = regexp.MustCompile(`^(.+)\.(open|[0-9]{5,}|[0-9]{5,}\.end)(\.tmp)?$`)

// file is what a name says.
type file struct {
	name        string
	slot, token string
	open        bool // it says that the transaction was begun
	last        bool // it is the last part, which is there only if the transaction was prepared
}

// parse is not ok for names that aren't those of transactions.
func parse(name string) (f file, ok bool) {
	m := fileName.FindStringSubmatch(name)
	if m == nil {
		return f, false
	}
	f = file{name: name, open: m[2] == openEnd[1:] && m[3] == "", last: strings.HasSuffix(m[2], lastEnd) && m[3] == ""}
	f.slot, f.token, ok = txn.SlotOf(m[1])
	return f, ok
}

// history is what became of a slot's transactions. Epochs are never used again, and a slot has one transaction at a time: one of Epoch
// or before that isn't among GivenUp was applied.
type history struct {
	Token   string // the last one applied
	Epoch   uint64
	GivenUp []string // tokens of those that were prepared and then cleared, the newest last
}

const (
	historyMagic   = "weirAPL\n"
	historyVersion = 1
	maxGivenUp     = 1000
)

// knows says whether it tells what became of a transaction whose files are gone.
func (h history) knows(t sink.Handle) bool {
	return h.Token != "" && t.Epoch <= h.Epoch || slices.Contains(h.GivenUp, t.Token)
}

func (h *history) giveUp(token string) {
	h.GivenUp = append(h.GivenUp, token)
	h.GivenUp = h.GivenUp[max(0, len(h.GivenUp)-maxGivenUp):]
}

// store reads and writes what is in a place.
type store struct{ Place }

func (s store) history(ctx context.Context, slot string) (h history, err error) {
	data, err := s.Read(ctx, slot+appliedEnd)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, fault.Wrap(fault.CommitFailed, err, "read %s in %s", slot+appliedEnd, s)
	}
	return h, s.unframe(data, historyMagic, historyVersion, &h, slot+appliedEnd, fault.CommitFailed,
		"put the file back from a copy, or remove it: nobody can say then what became of transactions whose files are gone")
}

func (s store) keep(ctx context.Context, slot string, h history) error {
	data, err := durable.Encode(historyMagic, historyVersion, h)
	if err == nil {
		err = s.Create(ctx, slot+appliedEnd, data)
	}
	if err != nil {
		return fault.Wrap(fault.CommitFailed, err, "write %s in %s", slot+appliedEnd, s).WithFix("%s", fixPlace)
	}
	return nil
}

const fixPlace = "make room where rows wait, or mend the right to write there"

// unframe reads a file's content. Its errors are permanent, and have this code and fix if the content isn't what was written.
func (s store) unframe(data []byte, magic string, version uint32, v any, name string, code fault.Code, fix string) error {
	err := durable.Decode(magic, version, data, v)
	if n, newer := errors.AsType[*durable.NewerError](err); newer {
		return sink.Permanent(fault.Wrap(fault.NewerFormat, n, "read %s in %s", name, s))
	}
	if err != nil {
		return sink.Permanent(fault.Wrap(code, err, "%s in %s can't be used", name, s).WithFix("%s", fix))
	}
	return nil
}

const fixLost = "put the whole file back from a copy, or go on without its rows by Lost: txn.AcceptLoss"

// segment is a transaction's rows, all of which are there.
type segment struct {
	store
	h     sink.Handle
	size  size
	first *part // kept if it is the only one
}

// errAbsent says that nothing is there of a segment.
var errAbsent = errors.New("no file of it is there")

// verify reads all of a segment, so that nothing is written of one that is damaged.
func (s store) verify(ctx context.Context, h sink.Handle, want size) (*segment, error) {
	seg := &segment{store: s, h: h, size: want}
	name := txn.NameOf(h.Slot.Name, h.Token)
	got := size{Parts: want.Parts}
	var missing []string
	for n := range want.Parts {
		p, err := s.part(ctx, name, n, n == want.Parts-1)
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, partName(name, n, n == want.Parts-1))
			continue
		}
		if err != nil {
			return nil, err
		}
		got.CRC32C = crc32.Update(got.CRC32C, crcTable, p.Rows)
		got.Bytes += int64(len(p.Rows))
		err = eachRow(p.Rows, func([]byte) error { got.Rows++; return nil })
		if err != nil {
			return nil, s.damaged("part %d of transaction %s: %v", n, name, err)
		}
		if want.Parts == 1 {
			seg.first = p
		}
	}
	switch {
	case len(missing) == want.Parts:
		return nil, errAbsent
	case len(missing) > 0:
		return nil, s.damaged("of the %d files of transaction %s %q are gone", want.Parts, name, missing)
	case got != want:
		return nil, s.damaged("transaction %s has %d rows in %d bytes, checksum %08x; it was prepared with %d in %d, %08x",
			name, got.Rows, got.Bytes, got.CRC32C, want.Rows, want.Bytes, want.CRC32C)
	}
	return seg, nil
}

func (s store) damaged(what string, args ...any) error {
	return sink.Permanent(fault.New(fault.LostCommit, "rows that wait in %s are damaged: %s", s, fmt.Sprintf(what, args...)).WithFix("%s", fixLost))
}

func (s store) part(ctx context.Context, name string, n int, isLast bool) (*part, error) {
	path := partName(name, n, isLast)
	data, err := s.Read(ctx, path)
	if err != nil {
		return nil, fault.Wrap(fault.CommitFailed, err, "read %s in %s", path, s)
	}
	p := &part{}
	if err := s.unframe(data, partMagic, partVersion, p, path, fault.LostCommit, fixLost); err != nil {
		return nil, err
	}
	if p.Name != name || p.Part != n || (p.Last != nil) != isLast {
		return nil, s.damaged("%s has part %d of transaction %s", path, p.Part, p.Name)
	}
	return p, nil
}

// rows calls do with each row from number from on, until it returns an error.
func (g *segment) rows(ctx context.Context, from int64, do func(row []byte) error) error {
	var at int64
	for n := range g.size.Parts {
		p := g.first
		if p == nil {
			var err error
			if p, err = g.part(ctx, txn.NameOf(g.h.Slot.Name, g.h.Token), n, n == g.size.Parts-1); err != nil {
				return err
			}
		}
		err := eachRow(p.Rows, func(row []byte) error {
			at++
			if at <= from {
				return nil
			}
			return do(row)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func eachRow(data []byte, do func(row []byte) error) error {
	for len(data) > 0 {
		n, k := binary.Uvarint(data)
		if k <= 0 || n > uint64(len(data)-k) {
			return errors.New("a row's length is wrong")
		}
		if err := do(data[k : k+int(n)]); err != nil { //nolint:gosec // see above
			return err
		}
		data = data[k+int(n):] //nolint:gosec // see above
	}
	return nil
}

// files are those of transactions in the slots that take says yes to.
func (s store) files(ctx context.Context, prefix string, take func(slot string) bool) (out []file, _ error) {
	names, err := s.List(ctx, prefix)
	if err != nil {
		return nil, fault.Wrap(fault.CommitFailed, err, "list %s", s)
	}
	for _, name := range names {
		if f, ok := parse(name); ok && take(f.slot) {
			out = append(out, f)
		}
	}
	return out, nil
}

func (s store) remove(ctx context.Context, fs []file) error {
	names := make([]string, len(fs))
	for i, f := range fs {
		names[i] = f.name
	}
	return s.removeNames(ctx, slices.Compact(names))
}

func (s store) removeNames(ctx context.Context, names []string) error {
	if err := s.Remove(ctx, names); err != nil {
		return fault.Wrap(fault.CommitFailed, err, "remove files in %s", s)
	}
	return nil
}
