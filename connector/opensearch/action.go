package opensearch

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/weirline/weirline/internal/fault"
)

// Op is what is done to a document.
type Op int

// The operations. All but Index without ID, and Create without ID, need the sink's ID.
const (
	Index  Op = iota // make the document, or replace it
	Create           // make it unless it is there; the only one that data streams take
	Update           // put Doc's fields into the document that is there
	Upsert           // the same, or make it of Doc
	Delete           // remove it
)

// Action is how one record is written.
type Action struct {
	Op      Op
	Index   string // unset: the sink's
	Routing string // unset: by the document's id

	// Version keeps older records from replacing newer ones: the document's version, which grows with each change of its source (a
	// sequence number, a time). Index and Delete with ID only. Unset (0): the order of arrival counts.
	Version int64

	// Doc is the document, or the fields of an Update or Upsert: []byte and json.RawMessage hold JSON, anything else is encoded as
	// JSON. A Delete has none.
	Doc any
}

// maxID is how many bytes a document's id may have.
const maxID = 512

// check says what is wrong with an action that the server would refuse together with all others of its request.
func (a Action) check(id string, ids bool, index string) error {
	fix := func(format string, args ...any) error {
		return fault.New(fault.SinkRejected, format, args...).WithFix("mend what Do or ID makes of the record")
	}
	switch {
	case a.Op < Index || a.Op > Delete:
		return fix("operation %d is none of the known ones", a.Op)
	case a.Index == "" && index == "":
		return fix("record has no index, and the sink has none either")
	case ids && id == "":
		return fix("record has no id")
	case len(id) > maxID:
		return fix("id of %d bytes is longer than %d", len(id), maxID)
	case !ids && a.Op != Index && a.Op != Create:
		return fix("%s needs the sink's ID", a.Op)
	case a.Version < 0 || a.Version > 0 && (!ids || a.Op != Index && a.Op != Delete):
		return fix("Version is %d; it can't be negative, and only Index and Delete with ID take one", a.Version)
	}
	return nil
}

// String is the server's word for it.
func (o Op) String() string {
	switch o {
	case Create:
		return "create"
	case Update, Upsert:
		return "update"
	case Delete:
		return "delete"
	}
	return "index"
}

// appendAction appends the lines of one action to a request for index.
func appendAction(dst []byte, a Action, id, index string) ([]byte, error) {
	var doc []byte
	if a.Op != Delete {
		var err error
		if doc, err = document(a.Doc); err != nil {
			return dst, err
		}
	}
	dst = append(append(append(dst, `{"`...), a.Op.String()...), `":{`...)
	begin := len(dst)
	field := func(name string) {
		if len(dst) > begin {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), name...), `":`...)
	}
	if a.Index != "" && a.Index != index {
		field("_index")
		dst = appendString(dst, a.Index)
	}
	if id != "" {
		field("_id")
		dst = appendString(dst, id)
	}
	if a.Routing != "" {
		field("routing")
		dst = appendString(dst, a.Routing)
	}
	if a.Version > 0 {
		field("version")
		dst = strconv.AppendInt(dst, a.Version, 10)
		field("version_type")
		dst = append(dst, `"external"`...)
	}
	dst = append(dst, "}}\n"...)
	switch a.Op {
	case Update:
		dst = append(append(append(dst, `{"doc":`...), doc...), "}\n"...)
	case Upsert:
		dst = append(append(append(dst, `{"doc_as_upsert":true,"doc":`...), doc...), "}\n"...)
	case Index, Create:
		dst = append(append(dst, doc...), '\n')
	case Delete:
	}
	return dst, nil
}

var errNoObject = errors.New("document isn't a JSON object")

// document is a document as one line.
func document(doc any) ([]byte, error) {
	var raw []byte
	switch d := doc.(type) {
	case []byte:
		raw = d
	case json.RawMessage:
		raw = d
	default:
		b, err := json.Marshal(doc)
		if err != nil {
			return nil, fmt.Errorf("encode document: %w", err)
		}
		raw = b
	}
	raw = bytes.TrimSpace(raw)
	if len(raw) == 0 || raw[0] != '{' {
		return nil, errNoObject
	}
	if bytes.IndexByte(raw, '\n') < 0 && bytes.IndexByte(raw, '\r') < 0 {
		return raw, nil
	}
	var line bytes.Buffer
	if err := json.Compact(&line, raw); err != nil {
		return nil, fmt.Errorf("encode document: %w", err)
	}
	return line.Bytes(), nil
}

// appendString appends s as JSON.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			b, _ := json.Marshal(s) // a string can't fail
			return append(dst, b...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}
