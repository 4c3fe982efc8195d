package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/txn/txntest"
)

// busyFor is how much later than it should a reader may see something on a machine that is busy with other things.
const busyFor = 2 * time.Second

// producer is what a broker calls a transaction: no two of ours have the same epoch of a producer.
type producer struct {
	ID    int64 `json:"producer"`
	Epoch int16 `json:"epoch"`
}

// glimpse is what a reader has seen of a transaction.
type glimpse struct {
	records int
	first   time.Time
}

// onlooker reads the committed records of a topic while the cell's processes live and die.
type onlooker struct {
	cl    *kgo.Client
	notes string // of the processes
	ended chan struct{}

	mu   sync.Mutex
	seen map[producer]glimpse
	err  error
}

// read begins to read; the file for notes is in dir.
func read(ctx context.Context, k *testsvc.KafkaServer, topic, dir string) (*onlooker, error) {
	notes := filepath.Join(dir, topic+"-notes")
	if err := os.WriteFile(notes, nil, 0o600); err != nil {
		return nil, err
	}
	cl, err := k.Client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(10*time.Millisecond))
	if err != nil {
		return nil, err
	}
	r := &onlooker{cl: cl, notes: notes, ended: make(chan struct{}), seen: map[producer]glimpse{}}
	go r.run(ctx)
	return r, nil
}

func (r *onlooker) run(ctx context.Context) {
	defer close(r.ended)
	for {
		fs := r.cl.PollFetches(ctx)
		if fs.IsClientClosed() || ctx.Err() != nil {
			return
		}
		now := time.Now()
		r.mu.Lock()
		r.err = fs.Err()
		fs.EachRecord(func(rec *kgo.Record) {
			p := producer{rec.ProducerID, rec.ProducerEpoch}
			g := r.seen[p]
			if g.records++; g.records == 1 {
				g.first = now
			}
			r.seen[p] = g
		})
		r.mu.Unlock()
	}
}

func (r *onlooker) close() {
	r.cl.Close()
	<-r.ended
}

// catchUp waits until it has seen as much as there is; nobody writes.
func (r *onlooker) catchUp(ctx context.Context, results int) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		r.mu.Lock()
		n, err := 0, r.err
		for _, g := range r.seen {
			n += g.records
		}
		r.mu.Unlock()
		if n >= results {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("the reader of committed records has got %d of %d", n, results), err, ctx.Err())
		}
	}
}

// watched lets a reader look on while the processes of a cell die.
func (b *board) watched(ctx context.Context, c cell, k txntest.Kills, seed uint64, said func(format string, args ...any)) error {
	r, err := read(ctx, b.broker, k.Args[argOut], b.dir)
	if err != nil {
		return err
	}
	defer r.close()
	k.Notes = r.notes
	k.Check = func(over bool) error {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		n, err := b.check(ctx, c, k.Args, txntest.Want{Over: over}, said)
		if err != nil {
			return err
		}
		longest, err := r.judge(ctx, n, over)
		said("the reader has waited %v", longest)
		b.waits[c.dest.name] = longest.or(b.waits[c.dest.name])
		return err
	}
	return k.Do(ctx, seed, said)
}

// judge says if the reader has seen a part of an epoch, or has waited too long. Each task has a transaction of its own, so when a
// process dies that was committing them a part of the newest epoch may be seen until the next one goes on with it.
func (r *onlooker) judge(ctx context.Context, results int, over bool) (longest wait, _ error) {
	if err := r.catchUp(ctx, results); err != nil {
		return longest, err
	}
	traces, err := txntest.Traces(r.notes)
	if err != nil {
		return longest, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	hidden, newest := map[uint64]int{}, uint64(0) // records of an epoch that aren't seen
	var shown []uint64
	for token, t := range traces {
		var n struct {
			Native producer `json:"native"`
		}
		if err := json.Unmarshal(t.Handle.Native, &n); err != nil {
			return longest, fmt.Errorf("handle of %s: %w", token, err)
		}
		g := r.seen[n.Native]
		if g.records > 0 {
			shown, newest = append(shown, t.Handle.Epoch), max(newest, t.Handle.Epoch)
			longest = longest.or(waited(t, g.first))
		}
		if g.records < t.Records {
			hidden[t.Handle.Epoch] += t.Records - g.records
		}
	}
	for _, e := range shown {
		if hidden[e] > 0 && (over || e < newest) {
			return longest, fmt.Errorf("a part of epoch %d is seen, but for %d records", e, hidden[e])
		}
	}
	if longest.is > longest.bound+busyFor {
		return longest, fmt.Errorf("the reader of committed records has waited %v", longest)
	}
	return longest, nil
}

// wait is how long a reader has waited for records, and how long it may.
type wait struct{ is, bound time.Duration }

func (w wait) String() string {
	return fmt.Sprintf("%v, bound %v", w.is.Round(time.Millisecond), w.bound.Round(time.Millisecond))
}

// or is the one that is longer over its bound.
func (w wait) or(o wait) wait {
	if o == (wait{}) || w != o && w != (wait{}) && o.is-o.bound <= w.is-w.bound {
		return w
	}
	return o
}

// waited is from the first record to its sight. There is the time to the next checkpoint for it, which is longer than the interval
// if the last one took longer, and the time until that is committed. After a death it is from the end of the recovery that commits.
func waited(t txntest.Trace, seen time.Time) wait {
	switch {
	case t.Committed.IsZero(): // the next process will say it
		return wait{}
	case t.Recovered && seen.Before(t.Committed): // somebody had committed it before the death
		return wait{}
	case t.Recovered:
		return wait{seen.Sub(t.Committed), checkpointEvery}
	}
	return wait{seen.Sub(t.Begun), max(checkpointEvery, t.Since) + t.Committed.Sub(t.Epoch)}
}
