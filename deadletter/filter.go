package deadletter

import (
	"regexp"
	"time"
)

// Filter chooses letters. The zero value chooses all.
type Filter struct {
	Operator string         // those of this operator; "" = of all
	Cause    *regexp.Regexp // those whose cause it matches somewhere; nil = all
	Since    time.Time      // those found at this time or later; zero = from the first
	Until    time.Time      // those found before; zero = to the last
}

// Takes says whether a letter is chosen.
func (f Filter) Takes(l Letter) bool {
	return (f.Operator == "" || l.Operator == f.Operator) &&
		(f.Cause == nil || f.Cause.MatchString(l.Cause)) &&
		(f.Since.IsZero() || !l.Found.Before(f.Since)) &&
		(f.Until.IsZero() || l.Found.Before(f.Until))
}
