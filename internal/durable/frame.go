package durable

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cespare/xxhash/v2"
	"github.com/fxamacker/cbor/v2"
)

// A frame is magic (8 bytes), format version (4), length of the payload (8), xxhash64 of all these and the payload (8),
// payload. Numbers are little endian. The frame is the same for ever, so that the version can be trusted before anything
// else is understood.
const (
	frameHead = 8 + 4 + 8
	frameSize = frameHead + 8
)

// ErrDamaged is the root of all errors about content that isn't what was written.
var ErrDamaged = errors.New("damaged")

// NewerError says that content was written by a later version.
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

// Encode puts v into a frame, as CBOR; magic, of eight bytes, says what kind of file it is. It fails only for values CBOR has no form for.
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
