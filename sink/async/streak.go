package async

import (
	"log/slog"
	"time"

	"github.com/weirline/weirline/sink"
)

// streak is the time from the first failure until nothing that failed is left waiting. It is logged once at each end.
type streak struct {
	waiting  int           // records that were sent in vain and aren't delivered yet
	since    time.Duration // when it began
	snapshot int           // records in the last snapshot
	taken    int           // records written after it
}

// fail books a record that has to be sent again; was says that it had failed before.
func (s *streak) fail(was bool, why error, now time.Duration, ev *event) {
	ev.retries++
	if was {
		return
	}
	if s.waiting == 0 {
		s.since = now
		ev.begun = why
	}
	s.waiting++
}

// settle books a record that won't be sent again; was says that it had failed before.
func (s *streak) settle(was bool, now time.Duration, ev *event) {
	if !was {
		return
	}
	s.waiting--
	if s.waiting == 0 {
		ev.healed, ev.lasted = true, now-s.since
	}
}

// event is what there is to report after an attempt or a snapshot, when mu is free again.
type event struct {
	attempts, sent, retries, rejected int
	took                              time.Duration
	inFlight, held                    int
	oldest                            time.Duration // age; 0 if nothing is held
	replay                            int           // records a restart would send again
	begun                             error         // a streak began with it
	healed                            bool          // a streak ended
	lasted                            time.Duration // so long
}

// look notes the writer's present state. mu is held.
func (w *writer[T]) look(ev *event) {
	ev.inFlight, ev.held = w.inFlight, w.heldN
	ev.replay = w.streak.snapshot + w.streak.taken
	if n := w.held.oldest; n != nil {
		ev.oldest = w.now() - n.at
	}
}

// report tells metrics and log. mu isn't held.
func (w *writer[T]) report(ev event) {
	m := w.task.Metrics
	if ev.attempts > 0 {
		m.Count("attempts", int64(ev.attempts))
		m.Count("sent", int64(ev.sent))
		m.Count("retries", int64(ev.retries))
		m.Observe("send_seconds", ev.took.Seconds())
	}
	m.Gauge("in_flight", float64(ev.inFlight))
	m.Gauge("buffered", float64(ev.held))
	m.Gauge("oldest_seconds", ev.oldest.Seconds())
	if ev.healed {
		w.task.Log.Info("destination takes records again",
			"duration", ev.lasted, "waiting_records", ev.held)
	}
	if ev.begun != nil {
		w.task.Log.Warn("send failed, records wait and are sent again",
			"error", ev.begun, "waiting_records", ev.held, "waiting_since", time.Now().Add(-ev.oldest),
			"a_restart_would_resend_records", ev.replay)
	}
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
