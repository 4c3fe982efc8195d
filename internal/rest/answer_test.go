package rest

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(d time.Duration) string { return now.Add(d).Format(http.TimeFormat) }
	for _, c := range []struct {
		value, date string
		want        time.Duration
		ok          bool
	}{
		{"", "", 0, false},
		{"0", "", 0, true},
		{"17", "", 17 * time.Second, true},
		{" 5 ", "", 5 * time.Second, true},
		{"-5", "", 0, false},
		{"1.5", "", 0, false},
		{"soon", "", 0, false},
		{"99999999", "", time.Hour, true},
		{"99999999999999999999999", "", 0, false},
		{at(30 * time.Second), "", 30 * time.Second, true},
		{at(-30 * time.Second), "", 0, true},
		{at(48 * time.Hour), "", time.Hour, true},
		{at(30 * time.Second), at(20 * time.Second), 10 * time.Second, true}, // their clock is ahead of ours
		{at(30 * time.Second), "nonsense", 30 * time.Second, true},
	} {
		h := http.Header{}
		if c.value != "" {
			h.Set("Retry-After", c.value)
		}
		if c.date != "" {
			h.Set("Date", c.date)
		}
		got, ok := Answer{Header: h}.RetryAfter(now)
		if got != c.want || ok != c.ok {
			t.Errorf("Retry-After %q with Date %q: %v, %v, want %v, %v", c.value, c.date, got, ok, c.want, c.ok)
		}
	}
}

func TestText(t *testing.T) {
	for body, want := range map[string]string{
		"":                             "",
		"  no such\n\titem \x00":       "no such item",
		"a\xffb":                       "a b",
		strings.Repeat("é", 400):       strings.Repeat("é", 150) + "...",
		"x" + strings.Repeat("é", 400): "x" + strings.Repeat("é", 149) + "...",
	} {
		got := Answer{Body: []byte(body)}.Text()
		if got != want || !utf8.ValidString(got) {
			t.Errorf("%.20q... is shown as %q, want %q", body, got, want)
		}
	}
	if got := (Answer{Status: 422, Body: []byte("no"), Cut: true}).Failure().Error(); got != "server answered 422 Unprocessable Entity: no..." {
		t.Error(got)
	}
	if got := (Answer{Status: 599}).Failure().Error(); got != "server answered 599" {
		t.Error(got)
	}
}
