package topic

import (
	"context"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

// sender produces records without waiting for each. The first error stops it.
type sender struct {
	ctx    context.Context //nolint:containedctx // a sender lives within one call
	client *kgo.Client
	name   string

	mu  sync.Mutex
	err error
}

func (t *Topic) sender(ctx context.Context) *sender {
	return &sender{ctx: ctx, client: t.client, name: t.Name}
}

// send copies the line; it blocks while too much is on its way.
func (s *sender) send(partition int32, line []byte) error {
	if err := s.failed(); err != nil {
		return err
	}
	r := &kgo.Record{Partition: partition, Value: append([]byte(nil), line...)}
	s.client.Produce(s.ctx, r, func(_ *kgo.Record, err error) {
		if err == nil {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil {
			s.err = fmt.Errorf("publish into topic %q: %w", s.name, err)
		}
	})
	return nil
}

// flush waits until everything is acknowledged.
func (s *sender) flush() error {
	if err := s.client.Flush(s.ctx); err != nil {
		return fmt.Errorf("publish into topic %q: %w", s.name, err)
	}
	return s.failed()
}

func (s *sender) failed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Send publishes lines to their partitions and waits until they are acknowledged. lines and partitions go together.
func (t *Topic) Send(ctx context.Context, partitions []int32, lines [][]byte) error {
	s := t.sender(ctx)
	for i, line := range lines {
		if err := s.send(partitions[i], line); err != nil {
			return err
		}
	}
	return s.flush()
}
