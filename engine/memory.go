package engine

import (
	"math"

	"github.com/weirline/weirline/internal/fault"
)

// minQueueBytes is the least part of Config.Memory that a queue can do with: a full batch of flat values.
const minQueueBytes = maxBatchBytes

// queueBytes is the byte bound of each queue of the graph as planned: half of its part of Config.Memory, since what its sender
// has begun when the bound is reached comes on top (see fit). The error says that the parts are too small.
func (p *Pipeline) queueBytes() (int64, error) {
	bound := p.cfg.QueueBytes
	if bound < 0 {
		bound = math.MaxInt64
	}
	queues := 0
	for _, v := range p.vertices {
		if v.source != nil {
			queues += v.tasks
		}
		for _, l := range v.inputs {
			if l.kind == linkForward && !l.fused {
				queues += v.tasks
			} else if !l.fused {
				queues += l.from.tasks * v.tasks
			}
		}
	}
	if p.cfg.Memory == 0 || queues == 0 {
		return bound, nil
	}
	part := p.cfg.Memory / int64(queues)
	if part < minQueueBytes {
		return min(bound, minQueueBytes/2), fault.New(fault.BadPipeline, "Config.Memory is %d bytes, and at parallelism %d there are %d queues, each of which needs %d bytes",
			p.cfg.Memory, p.cfg.Parallelism, queues, minQueueBytes).WithFix("give %d bytes or more, or a lower parallelism", queues*minQueueBytes)
	}
	return min(bound, part/2), nil
}

// fit is how many records a batch for a queue may have, if others of bytes had n: a quarter of the bound, and at most most. So
// what is queued, collected for the queue and being worked on stays below twice the bound.
func (c *channel) fit(most, n int, bytes int64) int {
	return int(max(1, min(int64(most), c.most/4/max(1, bytes/int64(n)))))
}
