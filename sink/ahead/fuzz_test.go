package ahead

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"testing"

	"github.com/weirline/weirline/internal/durable"
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
