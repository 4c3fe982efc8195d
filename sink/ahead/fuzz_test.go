package ahead

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/weirline/weirline/internal/durable"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/txn"
)

// FuzzPart reads a part of anything: what isn't refused has whole rows.
func FuzzPart(f *testing.F) {
	token := "0123456789abcdef0123456789abcdef"
	h := sink.Handle{Slot: sink.Slot{Name: "s"}, Token: token}
	name := txn.NameOf("s", token)
	for _, rows := range []string{"", "\x01a\x02bc", "\x05a", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"} {
		data, err := durable.Encode(partMagic, partVersion, part{Name: name, Rows: []byte(rows), Last: &last{Epoch: 1}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, []byte(rows))
	}
	f.Fuzz(func(t *testing.T, data, rows []byte) {
		whole, err := durable.Encode(partMagic, partVersion, part{Name: name, Rows: rows, Last: &last{Epoch: 1}})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		counted := eachRow(rows, func([]byte) error { n++; return nil })
		for _, content := range [][]byte{data, whole} {
			s := store{memory{partName(name, 0, true): content}}
			g, err := s.verify(t.Context(), h, size{Parts: 1, Rows: int64(n), Bytes: int64(len(rows)), CRC32C: crc32.Checksum(rows, crcTable)})
			if err != nil {
				if !sink.IsPermanent(err) || bytes.Equal(content, whole) && counted == nil {
					t.Errorf("%d bytes: %v", len(content), err)
				}
				continue
			}
			at := 0
			if err := g.rows(t.Context(), 0, func([]byte) error { at++; return nil }); err != nil || at != n {
				t.Errorf("%d rows of %d, %v", at, n, err)
			}
		}
	})
}

// TestSizeIsCompared has whole files that aren't those the handle speaks of.
func TestSizeIsCompared(t *testing.T) {
	h := sink.Handle{Slot: sink.Slot{Name: "s"}, Token: "0123456789abcdef0123456789abcdef"}
	name, rows := txn.NameOf("s", h.Token), []byte("\x01a\x02bc")
	data, err := durable.Encode(partMagic, partVersion, part{Name: name, Rows: rows, Last: &last{Epoch: 1}})
	if err != nil {
		t.Fatal(err)
	}
	s := store{memory{partName(name, 0, true): data}}
	whole := size{Parts: 1, Rows: 2, Bytes: 5, CRC32C: crc32.Checksum(rows, crcTable)}
	if _, err := s.verify(t.Context(), h, whole); err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func(s *size){
		"rows": func(s *size) { s.Rows++ }, "bytes": func(s *size) { s.Bytes-- }, "checksum": func(s *size) { s.CRC32C ^= 1 },
	} {
		other := whole
		change(&other)
		if _, err := s.verify(t.Context(), h, other); fault.CodeOf(err) != fault.LostCommit.ID || !sink.IsPermanent(err) {
			t.Errorf("other %s: %v", what, err)
		}
	}
}

// memory is a place to read from.
type memory map[string][]byte

func (m memory) Read(_ context.Context, name string) ([]byte, error) {
	if data, ok := m[name]; ok {
		return data, nil
	}
	return nil, errors.New("there is no such file")
}

func (memory) Create(context.Context, string, []byte) error { return errors.ErrUnsupported }

func (memory) List(context.Context, string) ([]string, error) { return nil, errors.ErrUnsupported }

func (memory) Remove(context.Context, []string) error { return errors.ErrUnsupported }
func (memory) String() string                         { return "memory" }
