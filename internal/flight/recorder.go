package flight

// Channel is a queue as a Recorder sees it.
type Channel struct {
	Link   any // whose log its batches go to
	Codec  Codec
	Sender int
	Over   bool // the epoch's barrier has been taken already: nothing more belongs to it

	ahead int // items at the head of the queue that are stored already
}

// Item is an item of a queue: a batch, the barrier of the epoch being recorded, or neither.
type Item struct {
	Batch   any
	Barrier bool
}

// Recorder stores what is queued before the barriers of an epoch, each batch once: it walks the queues as far as they go, and is
// told of every item that is taken. It belongs to the goroutine that takes.
type Recorder struct {
	Channels []Channel
	Logs     map[any][]byte // by link
	Bytes    int64          // in all logs
	Err      error          // the first one of a codec; nothing is stored afterwards
}

// Walk stores about budget bytes of what peek shows: the item of a channel that n others stand before. It is done when all
// barriers have been reached, and stalled when some haven't come.
func (r *Recorder) Walk(budget int64, peek func(channel, n int) (Item, bool)) (done, stalled bool) {
	before := r.Bytes
	done = true
	for i := range r.Channels {
		for c := &r.Channels[i]; !c.Over; {
			it, ok := peek(i, c.ahead)
			if !ok {
				done = false
				break
			}
			if r.Bytes > before+budget {
				return false, false
			}
			c.ahead++
			r.store(c, it)
		}
	}
	return done, !done
}

// Waiting says whether Walk would find something.
func (r *Recorder) Waiting(peek func(channel, n int) (Item, bool)) bool {
	for i, c := range r.Channels {
		if _, ok := peek(i, c.ahead); ok && !c.Over {
			return true
		}
	}
	return false
}

// Taken notes that the first item of a channel was taken, before anything is done with it.
func (r *Recorder) Taken(channel int, it Item) {
	switch c := &r.Channels[channel]; {
	case c.Over:
	case c.ahead > 0:
		c.ahead--
	default:
		r.store(c, it)
	}
}

func (r *Recorder) store(c *Channel, it Item) {
	if it.Barrier {
		c.Over = true
	}
	if it.Batch == nil || r.Err != nil {
		return
	}
	was := r.Logs[c.Link]
	log, err := c.Codec.Append(was, c.Sender, it.Batch)
	r.Bytes += int64(len(log) - len(was))
	r.Logs[c.Link], r.Err = log, err
}
