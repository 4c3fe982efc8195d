package kafka

import (
	"encoding/json"
	"fmt"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Header is a key and a value that travel beside a record.
type Header = kgo.RecordHeader

// Record is a record as Kafka knows it.
//
// Given to Decode it is lent for the call; Key, Value and Headers may be kept, and must not be changed. Made by Encode it
// belongs to the sink from then on; Offset is ignored.
type Record struct {
	Topic     string // for a sink: empty = the sink's Topic
	Partition int32  // for a sink: used with AsEncoded
	Offset    int64
	Key       []byte // nil = none
	Value     []byte // nil = a tombstone
	Headers   []Header
	Time      time.Time // for a sink: zero = the time of sending
}

// Text decodes the value as a string. A tombstone is "".
func Text(r *Record) (string, error) {
	return unsafe.String(unsafe.SliceData(r.Value), len(r.Value)), nil
}

// Bytes takes the value as it is. A tombstone is nil.
func Bytes(r *Record) ([]byte, error) { return r.Value, nil }

// JSON decodes the value as JSON; a tombstone is the zero value of T. Use it as Decode: kafka.JSON[Order].
func JSON[T any](r *Record) (T, error) {
	var v T
	if r.Value == nil {
		return v, nil
	}
	if err := json.Unmarshal(r.Value, &v); err != nil {
		return v, fmt.Errorf("decode JSON value: %w", err)
	}
	return v, nil
}

// TextRecord encodes a string as a record without key.
func TextRecord(v string) (Record, error) { return Record{Value: []byte(v)}, nil }

// BytesRecord encodes bytes as a record without key.
func BytesRecord(v []byte) (Record, error) { return Record{Value: v}, nil }

// JSONRecord encodes a value as JSON, as a record without key. Use it as Encode: kafka.JSONRecord[Order].
func JSONRecord[T any](v T) (Record, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return Record{}, fmt.Errorf("encode JSON value: %w", err)
	}
	return Record{Value: b}, nil
}
