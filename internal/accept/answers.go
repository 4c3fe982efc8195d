package main

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// answerChecks compare the results with an independent computation.
func answerChecks() (all []check) {
	for _, n := range []int{1, 2, 4} {
		all = append(all, check{fmt.Sprintf("answers/embedded/parallelism=%d", n), answer(n, nil, false)})
	}
	for _, n := range []int{1, 2, 4} {
		all = append(all, check{fmt.Sprintf("answers/real/parallelism=%d", n), answer(n, nil, true)})
	}
	return append(all,
		check{"answers/20-files", answer(2, evenly(20), false)},
		check{"answers/8-splits-of-one-file", answer(1, nil, false, "-splits", "8")},
		check{"answers/16-unequal-files-rescaled", rescaled},
		check{"answers/empty-partition", emptyPartition},
		check{"answers/ctrl-c-then-resume", resumedAnswer},
		check{"answers/no-periodic-checkpoints", answer(2, nil, false, "-checkpoint", "-1s")},
		check{"answers/finished-run-again", again},
	)
}

func evenly(n int) func(i int) string {
	return func(i int) string { return fmt.Sprintf("%02d.log", i%n) }
}

// answer is a run from beginning to end.
func answer(parallelism int, file func(int) string, real bool, flags ...string) func(context.Context, *env) (string, error) {
	return func(ctx context.Context, e *env) (string, error) {
		l, err := e.accessLog()
		if err != nil {
			return "", err
		}
		if real {
			more, err := e.real(ctx, 3)
			if err != nil {
				return "", err
			}
			flags = append(flags[:len(flags):len(flags)], more...)
		}
		j, err := e.newJob(l, file, flags...)
		if err != nil {
			return "", err
		}
		return j.finish(ctx, "-parallelism", strconv.Itoa(parallelism))
	}
}

// rescaled reads files whose time ranges differ much in length, with one task, then four, then one.
func rescaled(ctx context.Context, e *env) (string, error) {
	l, err := e.accessLog()
	if err != nil {
		return "", err
	}
	n := len(l.files)
	j, err := e.newJob(l, func(i int) string { return fmt.Sprintf("%02d.log", min(15, i*i*16/(n*n))) })
	if err != nil {
		return "", err
	}
	for _, p := range []string{"1", "4"} {
		if err := j.suspend(ctx, 700*time.Millisecond, "-parallelism", p); err != nil {
			return "", fmt.Errorf("parallelism %s: %w", p, err)
		}
	}
	return j.finish(ctx, "-parallelism", "1")
}

// emptyPartition has more partitions than lines in the topic.
func emptyPartition(ctx context.Context, e *env) (string, error) {
	l, err := e.accessLog()
	if err != nil {
		return "", err
	}
	const lines, partitions = 5, 9
	flags, err := e.real(ctx, partitions)
	if err != nil {
		return "", err
	}
	j, err := e.newJob(&accessLog{files: l.files, live: l.live[:lines], from: l.from}, nil, flags...)
	if err != nil {
		return "", err
	}
	figure, err := j.finish(ctx, "-parallelism", "2")
	return figure + fmt.Sprintf(", %d of %d partitions empty", partitions-lines, partitions), err
}

// resumedAnswer is interrupted in mid-minute, twice.
func resumedAnswer(ctx context.Context, e *env) (string, error) {
	l, err := e.accessLog()
	if err != nil {
		return "", err
	}
	j, err := e.newJob(l, nil)
	if err != nil {
		return "", err
	}
	for _, after := range []time.Duration{1300 * time.Millisecond, 2900 * time.Millisecond} { // in the files, in the topic
		if err := j.suspend(ctx, after, "-parallelism", "2"); err != nil {
			return "", err
		}
	}
	return j.finish(ctx, "-parallelism", "2")
}

// again starts a finished run once more.
func again(ctx context.Context, e *env) (string, error) {
	l, err := e.accessLog()
	if err != nil {
		return "", err
	}
	j, err := e.newJob(l, nil)
	if err != nil {
		return "", err
	}
	if _, err := j.finish(ctx); err != nil {
		return "", err
	}
	p, err := j.start(ctx)
	if err != nil {
		return "", err
	}
	began := time.Now()
	if err := p.finish(time.Minute); err != nil {
		return "", err
	}
	return j.compare(p, time.Since(began))
}
