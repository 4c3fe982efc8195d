package async

import (
	"math"
	"time"
)

// never is when something that waits for an answer can happen.
const never = time.Duration(math.MaxInt64)

// gate says when the next batch may go to a shard: it is the shard's window, pace and breaker. It answers with a time, or
// with never, and that only while a batch is on its way whose answer changes it. Times are since the writer's start.
type gate struct {
	window  window
	pace    pace
	breaker *breaker
	fixed   bool
}

func newGate(most int, fixed bool, b Breaker, clock func() time.Duration) gate {
	return gate{window: newWindow(most, fixed), breaker: newBreaker(b, clock), fixed: fixed}
}

// when is when the next batch may go, with so many on their way.
func (g *gate) when(now time.Duration, inFlight int) time.Duration {
	if g.breaker.isOpen() {
		return g.breaker.when(now) // a trial goes beside batches that hang
	}
	if inFlight >= g.window.size() {
		return never
	}
	return g.pace.when(now)
}

// begin books a batch that goes; false: not yet, ask when again.
func (g *gate) begin(now time.Duration) (ticket, bool) {
	t, ok := g.breaker.begin()
	if ok {
		g.pace.sent(now)
	}
	return t, ok
}

// reply is what the answer to a batch says about the destination.
type reply struct {
	sent      time.Duration // when the batch went
	took      time.Duration // of the first call
	full      bool          // the window was full then
	share     float64       // of the records, those the destination took or judged
	throttled bool
	delay     time.Duration // when throttled: what the destination asked for
	failed    bool          // it did nothing with any of them
}

// end books the answer to a batch.
func (g *gate) end(now time.Duration, t ticket, r reply) {
	switch {
	case g.fixed:
	case r.throttled:
		g.pace.accept(now, r.sent, r.share)
		g.pace.throttle(now, r.sent, r.delay, g.window.last)
	case r.failed:
		g.window.fail(now, r.sent)
	default:
		g.pace.accept(now, r.sent, r.share)
		g.window.answered(r.took, r.full)
	}
	g.breaker.end(t, r.failed)
}

// heal is called when the breaker has closed.
func (g *gate) heal() { g.window.heal() }

// isHealthy says whether nothing would be lost by a new gate in its place but the width of the window.
func (g *gate) isHealthy() bool { return !g.pace.on && !g.breaker.isOpen() }
