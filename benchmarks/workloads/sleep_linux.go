package main

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// sleeper waits by a timer of the kernel that is a file, because the runtime's own timers have a grain of a millisecond while
// the process is idle: the network poller is told whole milliseconds, but a file that becomes readable wakes it at once.
type sleeper struct {
	f   *os.File
	fd  int // f.Fd would make it blocking
	buf [8]byte
}

func newSleeper() (*sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make timer: %w", err)
	}
	return &sleeper{f: os.NewFile(uintptr(fd), "timer"), fd: fd}, nil
}

// sleep waits for d, which must be positive.
func (s *sleeper) sleep(d time.Duration) error {
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(s.fd, 0, &spec, nil); err != nil {
		return fmt.Errorf("set timer: %w", err)
	}
	if _, err := s.f.Read(s.buf[:]); err != nil {
		return fmt.Errorf("wait for timer: %w", err)
	}
	return nil
}

func (s *sleeper) close() error { return s.f.Close() }
