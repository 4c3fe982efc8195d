// Package results is how weblog keeps its results in Redis, and how they are read back.
//
//	<prefix>minute:<unix seconds>   hash: page -> "<views> <visitors>"; the page "*" stands for all
//	<prefix>minutes                 sorted set: the minutes there are, scored by themselves
//	<prefix>tally                   hash: input -> what was read of it
//	<prefix>owner                   the run these keys belong to
//
// The job's sinks write through Store and StoreTally, which only set what a row determines: writing a row again changes
// nothing. Every key expires. DB reads, from any goroutine; each call is a few round trips.
package results

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/connector/redis"
)

// AllPages is the page that stands for all of them.
const AllPages = "*"

const (
	minutesKey = "minutes"
	tallyKey   = "tally"
	ownerKey   = "owner"
)

func minuteKey(minute int64) string { return "minute:" + strconv.FormatInt(minute, 10) }

// Row is the result for one page and minute.
type Row struct {
	Minute   int64 // unix seconds of its start
	Page     string
	Views    int64
	Visitors int64
}

// Store writes a row.
func Store(r Row, c *redis.Cmds, keep time.Duration) error {
	key := minuteKey(r.Minute)
	c.HSet(key, r.Page, fmt.Sprintf("%d %d", r.Views, r.Visitors))
	if r.Page == AllPages { // every minute has this row
		c.Expire(key, keep)
		c.ZAdd(minutesKey, float64(r.Minute), r.Minute)
		c.Expire(minutesKey, keep)
	}
	return nil
}

// row reads what Store has written.
func row(minute int64, page, value string) (Row, error) {
	views, visitors, ok := strings.Cut(value, " ")
	v, err := strconv.ParseInt(views, 10, 64)
	u, err2 := strconv.ParseInt(visitors, 10, 64)
	if !ok || err != nil || err2 != nil {
		return Row{}, fmt.Errorf("read result of page %q and minute %d: %q isn't two numbers", page, minute, value)
	}
	return Row{Minute: minute, Page: page, Views: v, Visitors: u}, nil
}

// The inputs that aren't partitions.
const (
	Files int32 = -1 // all log files together
	Late  int32 = -2 // not an input: views that came when their minute was over
)

// Tally is what was read of an input, exactly: it is part of the job's state.
type Tally struct {
	From    int32 // partition, Files or Late
	Lines   int64 // taken
	Skipped int64 // of these, didn't count
	First   int64 // partitions: the first offset
	Next    int64 // partitions: the offset after the last one
	Missing int64 // partitions: offsets that were passed over
	Doubled int64 // partitions: offsets that came again
}

// Take counts a line.
func (t *Tally) Take(from int32, at int64, skipped bool) {
	if t.Lines == 0 {
		t.From, t.First, t.Next = from, at, at
	}
	t.Lines++
	if skipped {
		t.Skipped++
	}
	switch {
	case from < 0:
	case at < t.Next:
		t.Doubled++
	default:
		t.Missing += at - t.Next
		t.Next = at + 1
	}
}

// StoreTally writes a tally.
func StoreTally(t Tally, c *redis.Cmds, keep time.Duration) error {
	c.HSet(tallyKey, strconv.Itoa(int(t.From)),
		fmt.Sprintf("%d %d %d %d %d %d", t.Lines, t.Skipped, t.First, t.Next, t.Missing, t.Doubled))
	c.Expire(tallyKey, keep)
	return nil
}

// tally reads what StoreTally has written.
func tally(from, value string) (Tally, error) {
	var t Tally
	_, err := fmt.Sscan(from+" "+value, &t.From, &t.Lines, &t.Skipped, &t.First, &t.Next, &t.Missing, &t.Doubled)
	if err != nil {
		return t, fmt.Errorf("read tally %q of input %q: %w", value, from, err)
	}
	return t, nil
}
