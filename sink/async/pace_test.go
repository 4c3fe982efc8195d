package async

import (
	"fmt"
	"testing"
	"time"
)

// paced is a pace that measured 100 requests a second for 2 s, one at a time, and was then throttled.
func paced(delay, latency time.Duration) (*pace, time.Duration) {
	p := &pace{}
	now := time.Duration(0)
	for ; now < 2*time.Second; now += 10 * time.Millisecond {
		p.sent(now)
		p.accept(now, now, 1)
	}
	p.throttle(now, now, delay, latency)
	return p, now
}

func TestPaceIsOffUntilThrottled(t *testing.T) {
	p := &pace{}
	for now := time.Duration(0); now < time.Minute; now += time.Second {
		equal(t, "when", p.when(now), now)
		p.sent(now)
		p.accept(now, now, 1)
		equal(t, "rate", p.perSecond(now), 0)
	}
}

func TestPaceAfterThrottling(t *testing.T) {
	cases := []struct {
		delay, latency, after time.Duration
		want                  float64
	}{
		{0, 0, 0, 97},
		{0, 0, 1500 * time.Millisecond, 98.5},
		{0, 0, 3 * time.Second, 100},
		{0, 0, 3250 * time.Millisecond, 110},
		{0, 0, 3500 * time.Millisecond, 120},
		{0, 0, 4 * time.Second, 240},
		{0, 0, 4500 * time.Millisecond, 300}, // three times: it switches off
		{0, 0, time.Hour, 300},
		{time.Second, 0, 0, 97},
		{time.Second, 0, time.Second, 97},
		{time.Second, 0, 7750 * time.Millisecond, 100},
		{time.Hour, 0, 2 * time.Hour, 300},
		{0, 2 * time.Second, 3 * time.Second, 100},
		{0, 2 * time.Second, 5 * time.Second, 110}, // nothing changes faster than answers come
	}
	for _, c := range cases {
		p, at := paced(c.delay, c.latency)
		equal(t, fmt.Sprintf("rate %v after throttling with delay %v, latency %v", c.after, c.delay, c.latency),
			fmt.Sprintf("%.1f", p.perSecond(at+c.after)), fmt.Sprintf("%.1f", c.want))
	}
}

func TestPaceKeepsTheServersDelay(t *testing.T) {
	p, at := paced(time.Second, 0)
	if first := p.when(at) - at; first < time.Second || first > time.Second+20*time.Millisecond {
		t.Errorf("first request %v after throttling, want a second", first)
	}
	p.throttle(at+time.Millisecond, at-time.Millisecond, 3*time.Second, 0) // one that was on its way
	equal(t, "after another that was on its way", p.when(at), at+time.Millisecond+3*time.Second)
	equal(t, "rate, which that didn't lower", fmt.Sprintf("%.0f", p.base), "100")
}

func TestPaceSpacesRequests(t *testing.T) {
	p, at := paced(0, 0)
	n, now := 0, at
	for now < at+time.Second {
		now = p.when(now)
		p.sent(now)
		n++
	}
	if n < 95 || n > 99 {
		t.Errorf("%d requests in a second at 97", n)
	}
	// Time without requests is no reason to send many at once.
	now += time.Second
	p.sent(now)
	if next := p.when(now) - now; next < 9*time.Millisecond {
		t.Errorf("next request %v after the first one for a second", next)
	}
}

func TestPaceSwitchesOff(t *testing.T) {
	p, at := paced(0, 0)
	now := at + 10*time.Second
	p.sent(now)
	equal(t, "on", p.on, false)
	equal(t, "when", p.when(now), now)
}

// Throttled again the moment it went on, it goes down fast; after a while that was all right, only a little.
func TestPaceThrottledAgain(t *testing.T) {
	p, now := paced(0, 0)
	for _, want := range []float64{78, 38, 18, 9} {
		now = p.when(now)
		p.sent(now)
		p.throttle(now+1, now, 0, 0)
		equal(t, "rate", fmt.Sprintf("%.0f", p.base), fmt.Sprintf("%.0f", want))
	}
	p, now = paced(0, 0)
	for end := now + 3*time.Second; now < end; now = p.when(now) {
		p.sent(now)
		p.accept(now, now, 1)
	}
	p.throttle(now, now, 0, 0)
	if p.base < 98 || p.base > 101 {
		t.Errorf("rate %v after 3 s at about 98.5", p.base)
	}
}

// Whatever is answered, the rate stays positive and the next request has a time.
func TestPaceNeverStops(t *testing.T) {
	p, now := &pace{}, time.Duration(0)
	for range 1000 {
		p.sent(now)
		p.throttle(now, now, 0, 0)
		next := p.when(now)
		if next < now || next > now+time.Minute {
			t.Fatalf("next request after %v", next-now)
		}
		now = next
	}
}

// After a pause nothing is known: what the first requests met must not pass for the rate of an hour.
func TestPaceThrottledAfterAPause(t *testing.T) {
	p := &pace{}
	for _, now := range []time.Duration{0, time.Hour} {
		for i := range time.Duration(10) {
			p.accept(now+i*time.Millisecond, now+i*time.Millisecond, 1)
		}
	}
	p.throttle(time.Hour+10*time.Millisecond, time.Hour, 0, 0)
	if p.base < 50 || p.base > 1000 {
		t.Errorf("rate %v, when ten requests in 10 ms were taken", p.base)
	}
	first := &pace{}
	first.throttle(time.Hour, time.Hour, 0, 0)
	equal(t, "rate when the very first request is refused", first.base, 1)
}
