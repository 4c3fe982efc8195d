package async

import "time"

// budget is what may be sent again to a shard: a share of the records that are sent for the first time. What is over it waits, but
// not for ever: a trickle is always allowed. Throttled records don't count, the pace bounds them.
type budget struct {
	share   float64 // tokens a first send adds
	reserve float64 // most tokens
	trickle float64 // tokens a second adds
	tokens  float64
	at      time.Duration // when tokens was true
	off     bool
}

// leastTrickle is for sinks with small batches: what a second allows at least.
const leastTrickle = 100

func newBudget(share float64, batch, inFlight int) budget {
	trickle := float64(max(batch, leastTrickle))
	reserve := trickle * float64(max(inFlight, firstWindow))
	return budget{share: share, reserve: reserve, trickle: trickle, tokens: reserve, off: share < 0}
}

func (b *budget) fill(now time.Duration) {
	b.tokens = min(b.reserve, b.tokens+b.trickle*(now-b.at).Seconds())
	b.at = now
}

// earn books records sent for the first time.
func (b *budget) earn(records int) { b.tokens = min(b.reserve, b.tokens+b.share*float64(records)) }

// when is when so many records may be sent again.
func (b *budget) when(now time.Duration, records int) time.Duration {
	if b.off || records == 0 {
		return now
	}
	b.fill(now)
	if lack := min(float64(records), b.reserve) - b.tokens; lack > 0 {
		return now + seconds(lack/b.trickle) + 1
	}
	return now
}

// spend books records that are sent again. More than the reserve leave a debt.
func (b *budget) spend(records int) { b.tokens -= float64(records) }
