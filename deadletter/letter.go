package deadletter

import (
	"fmt"
	"time"

	"github.com/weirline/weirline/internal/plain"
)

// Letter is a bad record with its provenance. Fields that aren't known, or don't apply, are zero.
type Letter struct {
	Operator string    `json:"operator"`           // where it was found to be bad
	Cause    string    `json:"cause"`              // why
	Attempts int       `json:"attempts,omitempty"` // how often a destination was asked to take it
	Found    time.Time `json:"found"`              // when it was found to be bad, by this machine's clock, UTC
	Job      string    `json:"job"`                // whose operator it was
	Task     int       `json:"task"`               // the index of the operator's task
	At       string    `json:"at,omitempty"`       // where it was read: split and position
	Epoch    uint64    `json:"epoch"`              // the epoch it belongs to
	Time     time.Time `json:"time,omitzero"`      // its event time
	Key      string    `json:"key,omitempty"`      // its key, printed
	Value    string    `json:"value,omitempty"`    // the value, printed, cut at 512 bytes
	Raw      []byte    `json:"raw,omitempty"`      // what was read, if it could not be decoded

	// Record is the value whole, as CBOR, for it to be written again. It is missing if it couldn't be decoded, and for types of which
	// CBOR would lose a part.
	Record []byte `json:"record,omitempty"`
}

// Of is the letter of a value, with nothing but the value.
func Of(v any) Letter { return Letter{Value: Printed(v), Record: plain.Bytes(v)} }

// Printed is v as text, cut at 512 bytes.
func Printed(v any) string { return shorten(fmt.Sprintf("%+v", v)) }

// What says which record it is, in a line.
func (l Letter) What() string {
	s := l.Value
	if l.Key != "" {
		s = "of key " + l.Key + " " + s
	}
	if l.Raw != nil {
		s = shorten(fmt.Sprintf("%q", l.Raw))
	}
	if l.At != "" {
		s = "at " + l.At + " " + s
	}
	return s
}

func shorten(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	return s[:most] + fmt.Sprintf("... (%d bytes)", len(s))
}

// Minute counts letters by the minute. Its zero value is ready; it belongs to one goroutine.
type Minute struct {
	began time.Time
	n     int
}

// Add counts one. It returns how many the minute has with it and, if a new one begins, how many the last one had.
func (m *Minute) Add(now time.Time) (n, before int) {
	if now.Sub(m.began) >= time.Minute {
		before, m.began, m.n = m.n, now, 0
	}
	m.n++
	return m.n, before
}
