package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/cespare/xxhash/v2"
	"github.com/fxamacker/cbor/v2"
)

// A frame is magic (8 bytes), format version (4), length of the payload (8), xxhash64 of all these and the payload (8),
// payload. Numbers are little endian. The frame is the same for ever, so that the version can be trusted before anything
// else is understood.
const (
	magicRecord  = "weirREC\n"
	magicPointer = "weirPTR\n"
	magicNumbers = "weirNUM\n"

	frameHead = 8 + 4 + 8
	frameSize = frameHead + 8
)

// ErrDamaged is the root of all errors about content that isn't what was written.
var ErrDamaged = errors.New("damaged")

// NewerError says that a file or object was written by a later version.
type NewerError struct{ has, knows uint32 }

func (e *NewerError) Error() string {
	return fmt.Sprintf("format version %d, this binary reads up to %d", e.has, e.knows)
}

func appendFrame(magic string, version uint32, payload []byte) []byte {
	b := make([]byte, 0, frameSize+len(payload))
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint32(b, version)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(payload)))
	b = binary.LittleEndian.AppendUint64(b, frameSum(b, payload))
	return append(b, payload...)
}

func frameSum(head, payload []byte) uint64 {
	var x xxhash.Digest
	x.Reset()
	x.Write(head)
	x.Write(payload)
	return x.Sum64()
}

// openFrame checks a whole file and returns its payload, a part of data.
func openFrame(magic string, knows uint32, data []byte) ([]byte, error) {
	if len(data) < frameSize {
		return nil, fmt.Errorf("%w: %d bytes, too short for a header", ErrDamaged, len(data))
	}
	if string(data[:8]) != magic {
		return nil, fmt.Errorf("%w: begins with %q, not with %q", ErrDamaged, data[:8], magic)
	}
	payload := data[frameSize:]
	if n := binary.LittleEndian.Uint64(data[12:]); n != uint64(len(payload)) {
		return nil, fmt.Errorf("%w: %d bytes of content, %d announced", ErrDamaged, len(payload), n)
	}
	if frameSum(data[:frameHead], payload) != binary.LittleEndian.Uint64(data[frameHead:]) {
		return nil, fmt.Errorf("%w: checksum differs", ErrDamaged)
	}
	if v := binary.LittleEndian.Uint32(data[8:]); v > knows {
		return nil, &NewerError{has: v, knows: knows}
	}
	return payload, nil
}

// The modes of CBOR: one byte form per value, and no limits below those of the frame, as a source may have millions of
// splits. Names may be any bytes (file names are).
var (
	encMode = func() cbor.EncMode {
		o := cbor.CoreDetEncOptions()
		o.Time = cbor.TimeRFC3339NanoUTC
		m, err := o.EncMode()
		if err != nil {
			panic(err)
		}
		return m
	}()
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			DupMapKey:        cbor.DupMapKeyEnforcedAPF,
			IndefLength:      cbor.IndefLengthForbidden,
			MaxArrayElements: 1<<31 - 1,
			MaxMapPairs:      1<<31 - 1,
			UTF8:             cbor.UTF8DecodeInvalid,
		}.DecMode()
		if err != nil {
			panic(err)
		}
		return m
	}()
)

// Encode puts v into a frame, for stores in this module; magic has eight bytes. It fails only for values CBOR has no form for.
func Encode(magic string, version uint32, v any) ([]byte, error) {
	payload, err := encMode.Marshal(v)
	if err != nil {
		return nil, err
	}
	return appendFrame(magic, version, payload), nil
}

// Decode reads what Encode made. Errors match ErrDamaged, or are a NewerError for versions above knows.
func Decode(magic string, knows uint32, data []byte, v any) error {
	payload, err := openFrame(magic, knows, data)
	if err != nil {
		return err
	}
	if err := decMode.Unmarshal(payload, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}

// EncodeRecord is Encode for the record of an epoch.
func EncodeRecord(r *Record) ([]byte, error) { return Encode(magicRecord, Format, r) }

// DecodeRecord reads what EncodeRecord made.
func DecodeRecord(data []byte) (*Record, error) {
	r := new(Record)
	if err := Decode(magicRecord, Format, data, r); err != nil {
		return nil, err
	}
	if r.Epoch == 0 || r.Format < 1 || r.Format > Format {
		return nil, fmt.Errorf("%w: epoch %d, format %d", ErrDamaged, r.Epoch, r.Format)
	}
	return r, nil
}

// readFile reads a whole file.
func readFile(fsys FS, name string) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	n, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	data, err := io.ReadAll(io.NewSectionReader(f, 0, n))
	return data, errors.Join(err, f.Close())
}

// writeTemp writes data to name+".tmp" and syncs it. The rename is left to the caller.
func writeTemp(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name + tempSuffix)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// replace puts data in the place of name. It is durable after the directory is synced, which is left to the caller.
func replace(fsys FS, name string, data []byte) error {
	if err := writeTemp(fsys, name, data); err != nil {
		return err
	}
	return fsys.Rename(name+tempSuffix, name)
}

const tempSuffix = ".tmp"
