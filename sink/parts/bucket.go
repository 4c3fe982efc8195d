package parts

import (
	"cmp"
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// A Bucket appends to dst the path of the directory a record belongs to, without a slash at either end; nothing is the sink's
// own. It is called for each record, by all tasks at once.
type Bucket[T any] func(dst []byte, v T) []byte

// ByHour is the layout of [ByTime] if none is given.
const ByHour = "dt=2006-01-02/hour=15"

// ByTime puts records into buckets by a time of theirs, formatted in UTC by a layout of package time. An empty layout is
// [ByHour].
func ByTime[T any](at func(v T) time.Time, layout string) Bucket[T] {
	layout = cmp.Or(layout, ByHour)
	every := resolution(layout)
	var recent [8]atomic.Pointer[period] // records come from few periods at once
	return func(dst []byte, v T) []byte {
		t := at(v).UTC()
		if every == 0 {
			return t.AppendFormat(dst, layout)
		}
		n := t.Unix()
		n = (n - ((n%every)+every)%every) / every
		slot := &recent[uint64(n)%uint64(len(recent))]
		p := slot.Load()
		if p == nil || p.n != n {
			p = &period{n, t.Format(layout)}
			slot.Store(p)
		}
		return append(dst, p.path...)
	}
}

// period is a stretch of time with one path.
type period struct {
	n    int64
	path string
}

// resolution is the length in seconds of the stretches that a layout doesn't divide; 0 if there are none as long as a second.
func resolution(layout string) int64 {
	at := func(minute, second, nano int) string {
		return time.Date(2001, 2, 3, 4, minute, second, nano, time.UTC).Format(layout)
	}
	first := at(1, 2, 3)
	switch {
	case at(58, 59, 987654321) == first:
		return 3600
	case at(1, 59, 987654321) == first:
		return 60
	case at(1, 2, 987654321) == first:
		return 1
	}
	return 0
}

const hexDigits = "0123456789ABCDEF"

// AppendEscaped appends a text as part of one name in a path: what isn't a letter or digit of ASCII or one of - _ . = + @ ~ becomes %XX, a dot at
// the beginning of the name too. Different texts stay different.
func AppendEscaped(dst []byte, s string) []byte {
	for i := range len(s) {
		c := s[i]
		begins := len(dst) == 0 || dst[len(dst)-1] == '/'
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '.' && !begins, strings.IndexByte("-_=+@~", c) >= 0:
			dst = append(dst, c)
		default:
			dst = append(dst, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return dst
}

// maxPath is how long a bucket's path may be, maxName how long a name in it, in bytes.
const (
	maxPath = 700 // object stores take 1024 for all of a key
	maxName = 255
)

// CheckPath refuses a bucket's path that would leave its place, be hidden, or can't be made everywhere. "" is fine.
func CheckPath(path string) error {
	if path == "" {
		return nil
	}
	why := ""
	if len(path) > maxPath {
		why = fmt.Sprintf("it has %d bytes, more than %d", len(path), maxPath)
		path = path[:maxPath] + "..."
	} else {
		for name := range strings.SplitSeq(path, "/") {
			if why = nameFault(name); why != "" {
				break
			}
		}
	}
	if why != "" {
		return fmt.Errorf("bucket %q can't be a directory: %s; put texts of records into it by parts.AppendEscaped", path, why)
	}
	return nil
}

func nameFault(name string) string {
	switch {
	case name == "":
		return "it begins or ends with a slash, or has two together"
	case name[0] == '.':
		return fmt.Sprintf("the name %q begins with a dot", name)
	case len(name) > maxName:
		return fmt.Sprintf("a name in it has %d bytes, more than %d", len(name), maxName)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\\' || r == '\ufffd' }):
		return "it has a control character, a backslash or bytes that aren't UTF-8"
	}
	return ""
}
