package async

import (
	"encoding/binary"

	"github.com/weirline/weirline/sink"
)

var _ sink.Grouped = (*writer[int])(nil)

// SnapshotBy implements sink.Grouped: each part is a state as Snapshot makes it.
func (w *writer[T]) SnapshotBy(group func(record any) int) (map[int][]byte, error) {
	type part struct {
		records []byte
		n       uint64
		last    int64
	}
	w.gather()
	defer clear(w.values)
	parts := map[int]*part{}
	for i, v := range w.values {
		g := group(v)
		p := parts[g]
		if p == nil {
			p = &part{}
			parts[g] = p
		}
		var err error
		if p.records, p.last, err = w.encode(p.records, i, p.last); err != nil {
			return nil, err
		}
		p.n++
	}
	out := make(map[int][]byte, len(parts))
	for g, p := range parts {
		out[g] = append(binary.AppendUvarint([]byte{stateFormat}, p.n), p.records...)
	}
	return out, nil
}
