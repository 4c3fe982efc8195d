// Package accesslog reads lines of web server access logs (NCSA common and combined format).
//
//	hit, ok := accesslog.Parse(line)
//
// A line counts if its beginning matches
//
//	(\S+) \S+ \S+ \[date\] "(\S+) (\S+)
//
// where date is as in 17/May/2015:10:05:03 +0000 and a day that exists. The visitor is the first field, the page the
// requested path up to the first question mark. Nothing is allocated: a Hit's strings are parts of the line, and the
// functions may be called by all goroutines at once.
package accesslog

import (
	"strconv"
	"strings"
	"time"
)

// Hit is one request.
type Hit struct {
	At      int64 // microseconds since 1970 UTC
	Page    string
	Visitor string
}

// Parse reads a line; ok is false if it doesn't count.
func Parse(line string) (h Hit, ok bool) {
	visitor, rest, ok := field(line)
	if !ok {
		return Hit{}, false
	}
	for range 2 {
		if _, rest, ok = field(rest); !ok {
			return Hit{}, false
		}
	}
	if len(rest) < 1 || rest[0] != '[' {
		return Hit{}, false
	}
	at, rest, ok := date(rest[1:])
	if !ok || !strings.HasPrefix(rest, `] "`) {
		return Hit{}, false
	}
	if _, rest, ok = field(rest[3:]); !ok {
		return Hit{}, false
	}
	page := rest[:word(rest)]
	if page == "" {
		return Hit{}, false
	}
	if i := strings.IndexByte(page, '?'); i >= 0 {
		page = page[:i]
	}
	return Hit{At: at, Page: page, Visitor: visitor}, true
}

// field cuts a word and the one blank that must follow it.
func field(s string) (f, rest string, ok bool) {
	n := word(s)
	if n == 0 || n == len(s) || s[n] != ' ' {
		return "", "", false
	}
	return s[:n], s[n+1:], true
}

// word is how many bytes s has before the first white space, as \S means it.
func word(s string) int {
	for i := range len(s) {
		switch s[i] {
		case ' ', '\t', '\n', '\f', '\r':
			return i
		}
	}
	return len(s)
}

const (
	dateLayout = "02/Jan/2006:15:04:05 -0700"
	months     = "JanFebMarAprMayJunJulAugSepOctNovDec"
)

// date reads a date of dateLayout at the beginning of s: microseconds since 1970 UTC.
func date(s string) (at int64, rest string, ok bool) {
	if len(s) < len(dateLayout) {
		return 0, "", false
	}
	d := s[:len(dateLayout)]
	if d[2] != '/' || d[6] != '/' || d[11] != ':' || d[14] != ':' || d[17] != ':' || d[20] != ' ' {
		return 0, "", false
	}
	month := strings.Index(months, d[3:6])
	if month%3 != 0 { // also if absent
		return 0, "", false
	}
	month /= 3
	good := true
	num := func(from, to, least, most int) int {
		n := 0
		for i := from; i < to; i++ {
			good = good && '0' <= d[i] && d[i] <= '9'
			n = n*10 + int(d[i]-'0')
		}
		good = good && least <= n && n <= most
		return n
	}
	year := num(7, 11, 0, 9999)
	day := num(0, 2, 1, lastDay(year, month))
	seconds := int64(num(12, 14, 0, 23)*3600 + num(15, 17, 0, 59)*60 + num(18, 20, 0, 59))
	zone := int64(num(22, 24, 0, 24)*3600 + num(24, 26, 0, 60)*60)
	switch d[21] {
	case '-':
		zone = -zone
	case '+':
	default:
		return 0, "", false
	}
	return (days(year, month, day)*86400 + seconds - zone) * 1e6, s[len(dateLayout):], good
}

// lastDay is the last day of a month counted from 0.
func lastDay(year, month int) int {
	switch month {
	case 1:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 3, 5, 8, 10:
		return 30
	}
	return 31
}

// days is the number of days from 1970-01-01 to a date of the Gregorian calendar, month counted from 0.
func days(year, month, day int) int64 {
	y, m := int64(year), int64(month-2) // years that begin in March, so that the leap day is the last one
	if m < 0 {
		y, m = y-1, m+12
	}
	y += 400 // no negative years below
	return y*365 + y/4 - y/100 + y/400 + (153*m+2)/5 + int64(day) - 1 - (719468 + 146097)
}

// Append appends a line in the combined format, without a line end.
func Append(dst []byte, at time.Time, visitor, page string, status, size int, agent string) []byte {
	dst = append(dst, visitor...)
	dst = append(dst, " - - ["...)
	dst = at.AppendFormat(dst, dateLayout)
	dst = append(dst, `] "GET `...)
	dst = append(dst, page...)
	dst = append(dst, ` HTTP/1.1" `...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, int64(size), 10)
	dst = append(dst, ` "-" "`...)
	dst = append(dst, agent...)
	return append(dst, '"')
}
