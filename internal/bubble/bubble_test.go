package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/bubble"
)

// TestTimersThatFireUnderTheDetector has eight goroutines fire their bubble's timers at once; without the guard and with
// more than one processor the detector's runtime dies of it.
func TestTimersThatFireUnderTheDetector(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	fired := 0
	for range 200 {
		bubble.Test(t, func(*testing.T) {
			var wg sync.WaitGroup
			var mu sync.Mutex
			start := make(chan struct{})
			for range 8 {
				wg.Go(func() {
					timers := make([]*time.Timer, 100)
					for i := range timers {
						timers[i] = time.NewTimer(time.Second)
					}
					<-start
					for _, timer := range timers {
						<-timer.C
					}
					mu.Lock()
					defer mu.Unlock()
					fired += len(timers)
				})
			}
			time.Sleep(2 * time.Second)
			close(start)
			wg.Wait()
		})
	}
	if want := 200 * 8 * 100; fired != want {
		t.Errorf("%d timers fired, want %d", fired, want)
	}
	if now := runtime.GOMAXPROCS(0); now != before {
		t.Errorf("%d processors are left of %d", now, before)
	}
}
