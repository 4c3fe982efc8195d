package source

import (
	"bytes"
	"encoding"
	"encoding/json"
	"reflect"

	"github.com/weirline/weirline/internal/fault"
)

// EncodeSplit makes the stored form of a split: its MarshalBinary if S or *S has that and UnmarshalBinary, else JSON. It
// refuses what would not come back the same: text that isn't UTF-8, which JSON would silently replace.
func EncodeSplit[S Split](s S) ([]byte, error) {
	if binaryCodec[S]() {
		m, ok := any(s).(encoding.BinaryMarshaler)
		if !ok {
			m = any(&s).(encoding.BinaryMarshaler)
		}
		b, err := m.MarshalBinary()
		if err != nil {
			return nil, fault.Wrap(fault.BadPosition, err, "encode split %q", s.ID())
		}
		return b, nil
	}
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fault.Wrap(fault.BadPosition, err, "encode split %q", s.ID()).
			WithFix("make %T plain data, or give it MarshalBinary and UnmarshalBinary", s)
	}
	if bytes.Contains(b, []byte(`\ufffd`)) {
		back, err := DecodeSplit[S](b)
		if err != nil || back.ID() != s.ID() {
			return nil, fault.Wrap(fault.BadPosition, err, "encode split %q: it holds text that isn't UTF-8", s.ID()).
				WithFix("use UTF-8 names, or give %T MarshalBinary and UnmarshalBinary", s)
		}
	}
	return b, nil
}

// DecodeSplit is the reverse of EncodeSplit. Fields that b doesn't have stay zero and fields that S doesn't have are
// ignored, so a split type may gain fields. Anything else that can't be decoded is a fault.BadPosition.
func DecodeSplit[S Split](b []byte) (S, error) {
	var s S
	t := reflect.TypeFor[S]()
	if t.Kind() == reflect.Pointer {
		s, _ = reflect.New(t.Elem()).Interface().(S)
	}
	var err error
	if binaryCodec[S]() {
		u, ok := any(s).(encoding.BinaryUnmarshaler)
		if !ok {
			u = any(&s).(encoding.BinaryUnmarshaler)
		}
		err = u.UnmarshalBinary(b)
	} else if bytes.Equal(bytes.TrimSpace(b), []byte("null")) {
		return s, fault.New(fault.BadPosition, "decode split of type %v: it is null", t)
	} else {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		var none S
		return none, fault.Wrap(fault.BadPosition, err, "decode split of type %v", t)
	}
	return s, nil
}

// binaryCodec says whether S brings its own codec. It depends on the type alone, so that both directions agree.
func binaryCodec[S Split]() bool {
	t := reflect.TypeFor[S]()
	marshaler, unmarshaler := reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler]()
	if t.Kind() != reflect.Pointer && t.Kind() != reflect.Interface {
		t = reflect.PointerTo(t)
	}
	return t.Implements(marshaler) && t.Implements(unmarshaler)
}
