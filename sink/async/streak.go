package async

import "time"

// streak is the time from the first failure until nothing that failed is left waiting. It is logged once at each end.
type streak struct {
	waiting  int           // records that were sent in vain and aren't delivered yet
	since    time.Duration // when it began
	snapshot int           // records in the last snapshot
	taken    int           // records written after it
}

// fail books a record that has to be sent again; was says that it had failed before.
func (s *streak) fail(was bool, why error, shard string, now time.Duration, ev *event) {
	if was {
		return
	}
	if s.waiting == 0 {
		s.since = now
		ev.begun, ev.shard = why, shard
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
