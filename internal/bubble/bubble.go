// Package bubble runs a test in a bubble of package [testing/synctest], where time is false and costs nothing, in a way the
// race detector survives.
//
//	bubble.Test(t, func(t *testing.T) { ... })
//
// Use it wherever [synctest.Test] would stand; [synctest.Wait] stays what it is.
//
// A timer whose time has come while nobody waits for its channel is fired by the goroutine that looks at the channel next.
// All such goroutines of a bubble fire under one and the same race context, which only one thread may use at a time: with
// two processors the detector's runtime crashes now and then, by a failed check of its own or by a fault in memory
// (golang/go issue 78156, seen with Go 1.26). With one processor only one goroutine runs at any moment and that can't
// happen; races are found all the same, since the detector goes by what happened before what, not by what ran beside what.
// So a test binary built with -race has one processor as long as any of its tests is in a bubble.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test runs f in a bubble, as [synctest.Test] does. It must not be called from inside one.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if raceEnabled {
		one.enter()
		defer one.leave()
	}
	synctest.Test(t, f)
}

// one is the stretch of time in which the process has one processor.
var one stretch

// stretch counts the bubbles that need it: tests may run beside each other.
type stretch struct {
	mu      sync.Mutex
	bubbles int
	before  int // processors, outside of it
}

func (s *stretch) enter() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bubbles++; s.bubbles == 1 {
		s.before = runtime.GOMAXPROCS(1)
	}
}

func (s *stretch) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bubbles--; s.bubbles == 0 {
		runtime.GOMAXPROCS(s.before)
	}
}
