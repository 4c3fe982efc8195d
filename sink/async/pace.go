package async

import (
	"math"
	"time"
)

// How a pace goes on after the destination throttled. Near the rate at which it did, it stays for a while and grows slowly,
// so that most requests are within what is allowed; then it looks how much is possible.
const (
	paceStart     = 0.97 // of the last throttled rate, where it begins; it reaches that rate at the end of the stay
	paceRise      = 0.2  // of that rate, what it then grows by before it begins to double
	paceOff       = 3    // times that rate: so much above, it limits nothing any more
	stayShort     = 3 * time.Second
	stayLong      = 6750 * time.Millisecond
	stayBatches   = 8    // requests that the stay should have
	stayDelays    = 6.75 // times the delay the destination asked for: what the stay should last
	riseBatches   = 3    // requests that the growth before doubling should have
	doubleBatches = 2    // requests that a doubling should have
	riseTime      = 500 * time.Millisecond
	doubleTime    = 500 * time.Millisecond
	fewTaken      = 4                    // requests: fewer taken since it throttled last are too few to measure
	quickCut      = 0.8                  // what is left of the rate then
	growLong      = 5                    // seconds: neither takes longer for lack of requests
	leastFirst    = 1                    // requests a second, when it throttles first
	leastPace     = 0.1                  // the same, whatever happens
	slackTime     = 5 * time.Millisecond // how late a timer may be without loss of rate
	rateTime      = time.Second          // over how long the rate is measured while nothing limits it
	savedUp       = time.Second          // of a pause, for how much the destination may have saved up requests
)

// pace is the rate of requests. It is off until the destination throttles.
type pace struct {
	on    bool
	base  float64       // requests a second at which the destination throttled last
	event time.Duration // when it did; what older requests met is known
	since time.Duration // when it let requests in again
	stay  time.Duration // how long to stay near base
	slow  time.Duration // twice the latency: nothing changes faster
	next  time.Duration // when the next request may go

	quick    int           // times in a row that it throttled at once
	accepted float64       // requests since from, refused parts of them left out
	from     time.Duration // since, or while off the last time the rate was measured
	rate     float64       // while off: when it was measured last
}

// when is when the next request may go.
func (p *pace) when(now time.Duration) time.Duration {
	if !p.on {
		return now
	}
	return max(now, p.since, p.next)
}

// sent books a request.
func (p *pace) sent(now time.Duration) {
	if !p.on {
		return
	}
	r := p.perSecond(now)
	if r >= paceOff*p.base {
		*p = pace{from: now, rate: r, event: p.event}
		return
	}
	if now-p.next > slackTime {
		p.next = now
	}
	p.next += seconds(1 / r)
}

// perSecond is the present rate.
func (p *pace) perSecond(now time.Duration) float64 {
	if !p.on {
		return 0
	}
	rise := max(riseTime, p.slow, seconds(min(riseBatches/p.base, growLong)))
	double := max(doubleTime, p.slow, seconds(min(doubleBatches/p.base, growLong)))
	t := max(0, now-p.since)
	if t <= p.stay {
		return p.base * (paceStart + (1-paceStart)*t.Seconds()/p.stay.Seconds())
	}
	if t -= p.stay; t <= rise {
		return p.base * (1 + paceRise*t.Seconds()/rise.Seconds())
	}
	t -= rise
	return p.base * min(paceOff, (1+paceRise)*math.Exp2(t.Seconds()/double.Seconds()))
}

// accept books an answered request: which share of it the destination took.
func (p *pace) accept(now, sent time.Duration, share float64) {
	if p.on {
		if sent >= p.since {
			p.accepted += share
		}
		return
	}
	if since := now - p.from; since >= 2*rateTime {
		p.rate, p.accepted, p.from = 0, 0, now // a pause says nothing about what is possible
	} else if since >= rateTime {
		p.rate, p.accepted, p.from = p.accepted/since.Seconds(), 0, now
	}
	p.accepted += share
}

// throttle books a request the destination refused because there are too many, asking for a delay.
func (p *pace) throttle(now, sent, delay, latency time.Duration) {
	if p.on && sent < p.event {
		p.since = max(p.since, now+delay) // it went out before the pace was lowered
		return
	}
	p.base = p.limit(now, sent)
	p.on, p.event = true, now
	p.since = max(p.since, now+delay)
	p.slow = 2 * latency
	p.stay = max(stayShort, seconds(stayDelays*delay.Seconds()), seconds(stayBatches/p.base))
	p.stay = min(p.stay, max(stayLong, p.slow))
	p.next, p.accepted, p.from = p.since+seconds(1/p.base), 0, 0
}

// limit estimates what the destination allows. What it let through on average since it throttled last is less, as a rule,
// and the rate at which it has just throttled again is more.
func (p *pace) limit(now, sent time.Duration) float64 {
	if !p.on {
		if since := now - p.from; since >= rateTime/4 || p.rate == 0 {
			return max(p.accepted/max(since, rateTime/20).Seconds(), leastFirst)
		}
		return max(p.rate, leastFirst)
	}
	above := p.perSecond(sent)
	from := p.since
	if pause := min(p.since-p.event, savedUp); sent-from <= pause/2 {
		from -= pause / 2 // so soon, it took mostly what it had saved up in the pause
	}
	below := p.accepted / (max(0, sent-from).Seconds() + 1/above)
	if p.accepted < fewTaken {
		// At once: the estimate was wrong, the more so if it isn't the first time.
		if p.quick++; p.quick == 1 {
			return max(below, above*quickCut)
		}
		return max(below, above/2, leastPace)
	}
	p.quick = 0
	return min(above, max(above/2, math.Sqrt(above*below)))
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
