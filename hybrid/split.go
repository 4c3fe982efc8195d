package hybrid

import (
	"encoding"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/weirline/weirline/source"
)

// Split is a split of one of the stages. As JSON it is
//
//	{"stage":1,"name":"orders-3","start":...,"inner":...}
//
// where inner is the stage's own split, or packed holds it in base64 if it isn't stored as JSON.
type Split struct {
	Stage int             // counted from 0
	Name  string          // the ID of the split in its stage
	Start json.RawMessage // what ThenFrom derived; empty for other stages

	// Either live is the stage's split and encode stores it, which only checkpoints need; or the split comes from a
	// checkpoint and inner is the stored form. packed says that this isn't JSON.
	live   any
	encode func(live any) ([]byte, error)
	inner  []byte
	packed bool
}

// ID is the stage and the name: "1/orders-3".
func (s Split) ID() string { return strconv.Itoa(s.Stage) + "/" + s.Name }

// Inner is the stage's split in its stored form; see source.EncodeSplit.
func (s Split) Inner() ([]byte, error) {
	if s.encode != nil {
		return s.encode(s.live)
	}
	return s.inner, nil
}

type splitJSON struct {
	Stage  int             `json:"stage"`
	Name   string          `json:"name"`
	Start  json.RawMessage `json:"start,omitempty"`
	Inner  json.RawMessage `json:"inner,omitempty"`
	Packed []byte          `json:"packed,omitempty"`
}

// MarshalJSON is the stored form.
func (s Split) MarshalJSON() ([]byte, error) {
	b, err := s.Inner()
	if err != nil {
		return nil, err
	}
	out := splitJSON{Stage: s.Stage, Name: s.Name, Start: s.Start}
	if s.packed {
		out.Packed = b
	} else {
		out.Inner = b
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads the stored form.
func (s *Split) UnmarshalJSON(b []byte) error {
	var in splitJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return fmt.Errorf("decode hybrid split: %w", err)
	}
	*s = Split{Stage: in.Stage, Name: in.Name, Start: in.Start, inner: in.Inner}
	if len(in.Inner) == 0 {
		s.inner, s.packed = in.Packed, true
	}
	return nil
}

// wrap makes a Split of a stage's split, which must not be changed afterwards.
func wrap[S source.Split](stage int, start json.RawMessage, inner S) Split {
	_, packed := any(inner).(encoding.BinaryMarshaler)
	if !packed {
		_, packed = any(&inner).(encoding.BinaryMarshaler)
	}
	return Split{
		Stage: stage, Name: inner.ID(), Start: start, packed: packed,
		live: inner, encode: encodeLive[S],
	}
}

func encodeLive[S source.Split](live any) ([]byte, error) { return source.EncodeSplit(live.(S)) }

func unwrap[S source.Split](s Split) (S, error) {
	if live, ok := s.live.(S); ok {
		return live, nil
	}
	var none S
	b, err := s.Inner()
	if err != nil {
		return none, err
	}
	return source.DecodeSplit[S](b)
}

func unwrapAll[S source.Split](splits []Split) ([]S, error) {
	out := make([]S, 0, len(splits))
	for _, s := range splits {
		inner, err := unwrap[S](s)
		if err != nil {
			return nil, err
		}
		out = append(out, inner)
	}
	return out, nil
}

// byStage sorts the names in IDs by stage. IDs of another form are left out.
func byStage(ids []string) map[int][]string {
	out := map[int][]string{}
	for _, id := range ids {
		number, name, ok := strings.Cut(id, "/")
		stage, err := strconv.Atoi(number)
		if ok && err == nil {
			out[stage] = append(out[stage], name)
		}
	}
	return out
}
