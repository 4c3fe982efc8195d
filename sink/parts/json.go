package parts

import (
	"encoding/json"
	"fmt"
	"io"
)

// JSON is JSON lines: a record each, as encoding/json writes it. A record that it can't write is [Bad]. The characters <, > and &
// stay as they are.
type JSON[T any] struct{}

var _ Joiner = JSON[string]{}

// Encoder makes one. There is nothing to be wrong.
func (JSON[T]) Encoder() (Encoder[T], error) {
	e := &jsonEncoder[T]{}
	e.to = json.NewEncoder(&e.buffer)
	e.to.SetEscapeHTML(false)
	return e, nil
}

// Ext is ".jsonl".
func (JSON[T]) Ext() string { return ".jsonl" }

// Join puts files behind one another.
func (JSON[T]) Join(w io.Writer, files []*io.SectionReader) error { return concat(w, files) }

type jsonEncoder[T any] struct {
	buffer
	to *json.Encoder
	v  T // what is being encoded, here so that it isn't copied to the heap each time
}

// Append writes nothing of a record that can't be encoded.
func (e *jsonEncoder[T]) Append(v T) error {
	e.v = v
	err := e.to.Encode(&e.v)
	e.v = *new(T)
	if err != nil {
		return Bad(fmt.Errorf("encode record as JSON: %w", err))
	}
	return e.spill()
}
