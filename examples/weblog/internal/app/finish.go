package app

import (
	"context"
	"fmt"
	"strings"

	"github.com/weirline/weirline/examples/weblog/internal/results"
	"github.com/weirline/weirline/internal/fault"
)

// summary is what the tallies of a run that is over come to.
type summary struct {
	fileLines, topicLines, skipped, late int64
	partitions                           []string // "0:0-1249", offsets inclusive
}

// finish reads the results back and writes the file, if the input has ended.
func (a *App) finish(ctx context.Context) error {
	if how := a.pipeline.Status().Outcome; how != "finished" {
		a.log.Info("the input hasn't ended, so no results are written", "how", how)
		return nil
	}
	tallies, err := a.db.Tallies(ctx)
	if err != nil {
		return redisError(err, a.redis)
	}
	sum, err := a.add(tallies)
	if err != nil {
		return err
	}
	rows, minutes, views := 0, 0, int64(0)
	err = results.WriteCSV(a.o.out, func(write func(results.Row) error) error {
		err := a.db.Each(ctx, func(r results.Row) error {
			rows++
			if r.Page == results.AllPages {
				minutes++
				views += r.Views
			}
			return write(r)
		})
		if err != nil {
			return redisError(err, a.redis)
		}
		return sum.check(views)
	})
	if err != nil {
		return err
	}
	a.log.Info("results written", "file", a.o.out, "rows", rows, "minutes", minutes, "views", views,
		"file_lines", sum.fileLines, "topic_lines", sum.topicLines, "skipped", sum.skipped, "late", sum.late,
		"offsets", strings.Join(sum.partitions, " "))
	return nil
}

// add sums the tallies up and holds each partition against its end.
func (a *App) add(tallies []results.Tally) (summary, error) {
	var s summary
	next := map[int32]int64{}
	for _, t := range tallies {
		s.skipped += t.Skipped
		switch t.From {
		case results.Files:
			s.fileLines = t.Lines
		case results.Late:
			s.late = t.Lines
		default:
			s.topicLines += t.Lines
			next[t.From] = t.Next
			s.partitions = append(s.partitions, fmt.Sprintf("%d:%d-%d", t.From, t.First, t.Next-1))
			if t.First != 0 || t.Missing+t.Doubled != 0 || t.Lines != t.Next {
				return s, fault.New(fault.Misplaced, "partition %d was read from offset %d to %d in %d records: %d missing, %d doubled",
					t.From, t.First, t.Next-1, t.Lines, t.Missing, t.Doubled)
			}
		}
	}
	for p, end := range a.ends {
		if next[p] != end {
			return s, lost("of partition %d offsets up to %d were read, and its end is %d", p, next[p], end)
		}
	}
	return s, nil
}

// check holds the views that were found against the lines that were read. A late line may have lost its view of all pages,
// of its own, or both, so with late ones it can only say that there are too many.
func (s summary) check(views int64) error {
	want := s.fileLines + s.topicLines - s.skipped
	if views == want || s.late > 0 && want-s.late <= views && views <= want {
		return nil
	}
	return lost("they hold %d views of the %d lines that counted", views, want)
}

func lost(what string, args ...any) error {
	return fault.New(fault.SinkFailed, "the results in Redis aren't whole: "+what, args...).
		WithFix("they have expired or were removed, or the input isn't the one the run began with; begin anew with an empty -state")
}
