package async

import (
	"log/slog"
	"math"
	"time"

	"github.com/weirline/weirline/sink"
)

// event is what there is to report when mu is free again.
type event struct {
	attempts, records int // calls of Send for a batch of so many
	sent, rejected    int
	retries           [causes]int
	breakers          []change

	inFlight, window, open int
	pace                   float64
	held, bytes            int
	oldest                 time.Duration // age; 0 if nothing is held
	replay                 int           // records a restart would send again
	begun                  error         // a streak began with it
	shard                  string        // in that shard
	healed                 bool          // a streak ended
	lasted                 time.Duration // so long
}

// change is a breaker that has opened or closed.
type change struct {
	shard  string
	opened bool
	err    error // the last one before it opened
}

func (ev *event) happened() bool { return ev.attempts > 0 || ev.rejected > 0 || len(ev.breakers) > 0 }

// look notes the writer's present state. mu is held.
func (w *writer[T]) look(ev *event) {
	ev.inFlight, ev.window, ev.pace, ev.open = w.inFlight, w.window, w.pace, w.open
	ev.held, ev.bytes = w.heldN, w.heldB
	ev.replay = w.streak.snapshot + w.streak.taken
	if n := w.held.oldest; n != nil {
		ev.oldest = w.now() - n.at
	}
}

// retryCounters are the names of the counters of records sent again, by cause.
var retryCounters = [causes]string{
	causeFailed: "retries_failed", causeTimeout: "retries_timeout",
	causePartial: "retries_partial", causeThrottled: "retries_throttled",
}

// report tells metrics and log. mu isn't held.
func (w *writer[T]) report(ev event) {
	m := w.task.Metrics
	if ev.attempts > 0 {
		m.Count("attempts", int64(ev.attempts))
		m.Count("sent", int64(ev.sent))
		m.Gauge("batch_records", float64(ev.records))
	}
	for c, n := range ev.retries {
		if n > 0 {
			m.Count(retryCounters[c], int64(n))
		}
	}
	if ev.rejected > 0 {
		m.Count("rejected", int64(ev.rejected))
	}
	m.Gauge("in_flight", float64(ev.inFlight))
	m.Gauge("window", float64(ev.window))
	m.Gauge("pace", math.Round(ev.pace*1000)/1000) // a sum that comes and goes leaves crumbs
	m.Gauge("breakers_open", float64(ev.open))
	m.Gauge("buffered", float64(ev.held))
	m.Gauge("buffered_bytes", float64(ev.bytes))
	m.Gauge("oldest_seconds", ev.oldest.Seconds())
	w.log(ev)
}

// log writes a line for each beginning and end of what is wrong.
func (w *writer[T]) log(ev event) {
	log := w.task.Log
	if ev.begun != nil {
		log.Warn("send failed, records wait and are sent again",
			append(shardAttr(ev.shard), "error", ev.begun, "waiting_records", ev.held, "waiting_since", time.Now().Add(-ev.oldest),
				"a_restart_would_resend_records", ev.replay)...)
	}
	for _, c := range ev.breakers {
		if c.opened {
			log.Info("destination counts as down, one batch at a time tries it",
				append(shardAttr(c.shard), "error", c.err, "every", w.cfg.Breaker.Open)...)
		} else {
			log.Info("destination is up", append(shardAttr(c.shard), "waiting_records", ev.held)...)
		}
	}
	if ev.healed {
		log.Info("destination takes records again", "duration", ev.lasted, "waiting_records", ev.held)
	}
}

func shardAttr(name string) []any {
	if name == "" {
		return nil
	}
	return []any{"shard", name}
}

// withDefaults fills in what a task made by hand may lack.
func withDefaults(t sink.Task) sink.Task {
	if t.Log == nil {
		t.Log = slog.New(slog.DiscardHandler)
	}
	if t.Metrics == nil {
		t.Metrics = noMetrics{}
	}
	return t
}

type noMetrics struct{}

func (noMetrics) Count(string, int64)     {}
func (noMetrics) Gauge(string, float64)   {}
func (noMetrics) Observe(string, float64) {}
