package docs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// Message is what the queue's client library delivers, again and again until its id is acknowledged.
type Message struct{ ID, Body string }

// Consumer is the library's connection to a queue.
type Consumer interface {
	Receive(ctx context.Context, atMost int) ([]Message, error) // waits for the first one
	Ack(ctx context.Context, ids ...string) error               // of messages that needn't come again
	Close() error
}

// Inbox is a queue, with the ids of the messages that were read and aren't acknowledged yet.
type Inbox struct {
	Queue   string
	Unacked []string
}

// ID is the queue's name.
func (i Inbox) ID() string { return i.Queue }

// Queues reads the messages of some queues, each once.
func Queues(dial func(queue string) (Consumer, error), names ...string) source.Source[string, Inbox] {
	var all []Inbox
	for _, name := range names {
		all = append(all, Inbox{Queue: name})
	}
	newReader := func(ctx context.Context, t source.Task) (_ source.Reader[string, Inbox], err error) {
		q := &queues{open: map[string]*inbox{}}
		q.Reader, err = reader.Each(func(_ context.Context, at Inbox) (source.Cursor[string, Inbox], error) {
			c, err := dial(at.Queue)
			q.open[at.Queue] = &inbox{at, c}
			return q.open[at.Queue], err
		})(ctx, t)
		return q, err
	}
	return source.Unbounded(source.Of(enumerator.Static(all...), newReader))
}

type queues struct {
	source.Reader[string, Inbox]
	open map[string]*inbox
}

// Unwrap shows what reader.Each can do beside.
func (q *queues) Unwrap() any { return q.Reader }

// Ack implements source.Acker: at is what a durable checkpoint holds.
func (q *queues) Ack(ctx context.Context, at []Inbox) (err error) {
	for _, a := range at {
		if i := q.open[a.Queue]; i != nil {
			err = errors.Join(err, i.ack(ctx, a.Unacked))
		}
	}
	return err
}

type inbox struct {
	at Inbox
	Consumer
}

func (i *inbox) Read(ctx context.Context, out *source.Batch[string]) (Inbox, error) {
	messages, err := i.Receive(ctx, out.Room())
	for _, m := range messages {
		if slices.Contains(i.at.Unacked, m.ID) {
			continue // delivered again after a restart, and processed before
		}
		out.Add(m.Body)
		i.at.Unacked = append(i.at.Unacked, m.ID)
	}
	return Inbox{i.at.Queue, slices.Clone(i.at.Unacked)}, err
}

func (i *inbox) ack(ctx context.Context, ids []string) error {
	if err := i.Ack(ctx, ids...); err != nil {
		return err
	}
	i.at.Unacked = slices.DeleteFunc(i.at.Unacked, func(id string) bool { return slices.Contains(ids, id) })
	return nil
}

// broker is a queue in memory. A new consumer gets what isn't acknowledged.
type broker struct {
	messages []Message
	next     int
}

func (b *broker) Receive(ctx context.Context, atMost int) ([]Message, error) {
	if b.next == len(b.messages) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ms := b.messages[b.next:min(b.next+atMost, b.next+3, len(b.messages))]
	b.next += len(ms)
	return ms, nil
}

func (b *broker) Ack(_ context.Context, ids ...string) error {
	known := len(b.messages)
	b.messages = slices.DeleteFunc(b.messages, func(m Message) bool { return slices.Contains(ids, m.ID) })
	b.next -= known - len(b.messages)
	return nil
}

func (b *broker) Close() error { return nil }

// TestQueues crashes after each checkpoint, with messages that were read after it, and with or without its acknowledgement.
func TestQueues(t *testing.T) {
	b := &broker{}
	var want []string
	for n := range 40 {
		want = append(want, fmt.Sprint("message ", n))
		b.messages = append(b.messages, Message{fmt.Sprint(n), want[n]})
	}
	at, got := Inbox{Queue: "orders"}, []string(nil)
	for round := 0; len(got) < len(want); round++ {
		b.next = 0
		src := Queues(func(string) (Consumer, error) { return b, nil }, "orders")
		r, err := src.Reader(t.Context(), source.Task{})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Add(t.Context(), at); err != nil {
			t.Fatal(err)
		}
		kept := got
		for read := 0; len(got) < len(want) && read < 4; read++ {
			var out source.Batch[string]
			out.Limit(8)
			next, err := r.Read(t.Context(), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, out.Values...); read == 2 { // a checkpoint: what is read after it comes again
				at, kept = next, got
				if a, ok := source.As[source.Acker[Inbox]](r); round%2 == 0 && (!ok || a.Ack(t.Context(), []Inbox{at}) != nil) {
					t.Fatal("no acknowledgement")
				}
			}
		}
		if len(got) < len(want) {
			got = slices.Clone(kept)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
