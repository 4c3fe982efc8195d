//go:build !linux

package main

import "time"

// sleeper waits by the runtime's timers, whose grain is about a millisecond in an idle process.
type sleeper struct{}

func newSleeper() (*sleeper, error) { return &sleeper{}, nil }

func (s *sleeper) sleep(d time.Duration) error {
	<-time.After(d)
	return nil
}

func (s *sleeper) close() error { return nil }
