package rest

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// maxPause is the longest pause a server's answer can ask for.
const maxPause = time.Hour

// shown is how much of an answer's body an error shows.
const shown = 300

// RetryAfter is how long the server asks to wait, as seconds or as a date, an hour at most. A date counts from the server's own clock, if the
// answer has it, and from now otherwise.
func (a Answer) RetryAfter(now time.Time) (d time.Duration, ok bool) {
	v := strings.TrimSpace(a.Header.Get("Retry-After"))
	if v == "" {
		return 0, false
	}
	if s, err := strconv.ParseUint(v, 10, 63); err == nil {
		return time.Duration(min(s, uint64(maxPause/time.Second))) * time.Second, true
	}
	at, err := http.ParseTime(v)
	if err != nil {
		return 0, false
	}
	if theirs, err := http.ParseTime(a.Header.Get("Date")); err == nil {
		now = theirs
	}
	return min(max(at.Sub(now), 0), maxPause), true
}

// Failure is an error that says what the server answered, with the beginning of its words.
func (a Answer) Failure() error {
	status := strings.TrimSpace(fmt.Sprintf("%d %s", a.Status, http.StatusText(a.Status)))
	if text := a.Text(); text != "" {
		return fmt.Errorf("server answered %s: %s", status, text)
	}
	return fmt.Errorf("server answered %s", status)
}

// Text is the beginning of the body on one line.
func (a Answer) Text() string {
	b, cut := a.Body, a.Cut
	if len(b) > shown {
		b, cut = b[:shown], true
	}
	if cut {
		for i := 0; i < utf8.UTFMax && len(b) > 0; i++ { // don't end within a character
			if r, _ := utf8.DecodeLastRune(b); r != utf8.RuneError {
				break
			}
			b = b[:len(b)-1]
		}
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError || r == 0x7f {
			return ' '
		}
		return r
	}, string(b))
	text = strings.Join(strings.Fields(text), " ")
	if cut {
		text += "..."
	}
	return text
}
