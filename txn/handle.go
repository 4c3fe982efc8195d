package txn

import (
	"encoding/json"
	"fmt"

	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// native is the form of [sink.Handle.Native].
type native struct {
	Version int             `json:"version"`
	Native  json.RawMessage `json:"native"`
}

// Encode gives the bytes that a handle carries: the connector's own ids as JSON, with the version of their form, 1 or more.
func Encode(version int, ids any) ([]byte, error) {
	b, err := json.Marshal(ids)
	if err == nil {
		b, err = json.Marshal(native{version, b})
	}
	if err != nil {
		return nil, fmt.Errorf("encode handle: %w", err)
	}
	return b, nil
}

// Decode reads what Encode made, of this version or an older one, of which fields that were added since are zero. Its errors are
// permanent.
func Decode[N any](h sink.Handle, version int) (ids N, err error) {
	var n native
	if err := json.Unmarshal(h.Native, &n); err != nil {
		return ids, Unreadable(h, "it isn't JSON: %v", err)
	}
	if n.Version > version {
		return ids, sink.Permanent(fault.New(fault.NewerFormat, "handle %s has version %d, this binary knows %d", h.Token, n.Version, version))
	}
	if n.Version < 1 {
		return ids, Unreadable(h, "it has no version")
	}
	if err := json.Unmarshal(n.Native, &ids); err != nil {
		return ids, Unreadable(h, "%v", err)
	}
	return ids, nil
}

// Unreadable is the permanent error for a handle whose ids can't be used; how says what is wrong with them.
func Unreadable(h sink.Handle, how string, args ...any) error {
	return sink.Permanent(fault.New(fault.CommitFailed, "handle %s of slot %s can't be read: %s", h.Token, h.Slot.Name, fmt.Sprintf(how, args...)))
}
