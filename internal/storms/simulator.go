package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// normal is how long the simulator takes over a request in calm weather.
const normal = 5 * time.Millisecond

// weather is what happens to a request at a shard that is hit, instead of execute, which delivers its records and answers.
type weather func(w http.ResponseWriter, r *http.Request, execute func())

// simulator is a destination over HTTP: POST /3 with a number in each line delivers records to shard 3.
type simulator struct {
	arrivals
	server *http.Server
	client *http.Client
	url    string
	hit    [shards]bool
	bad    [shards]weather // of the shards that are hit
	stormy atomic.Bool
	refuse bool
}

// web is a destination over HTTP, with a new weather for each shard that is hit; nil: always calm.
func web(of func(t *trial) weather) func(t *trial) (destination, error) {
	return func(t *trial) (destination, error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		s := &simulator{
			arrivals: newArrivals(), url: "http://" + l.Addr().String() + "/", refuse: t.storm.refuses,
			client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: shards * maxInFlight}},
		}
		for shard := range t.hit() {
			if of != nil {
				s.hit[shard], s.bad[shard] = true, of(t)
			}
		}
		s.server = &http.Server{Handler: s, ReadHeaderTimeout: time.Minute}
		go func() { _ = s.server.Serve(l) }() // it ends with close
		return s, nil
	}
}

func (s *simulator) close() {
	_ = s.server.Close() // nobody needs an answer any more
	s.client.CloseIdleConnections()
}

func (s *simulator) storm(context.Context) error { s.stormy.Store(true); return nil }
func (s *simulator) heal(context.Context) error  { s.stormy.Store(false); return nil }

// ServeHTTP implements http.Handler.
func (s *simulator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	shard, err := strconv.Atoi(r.URL.Path[1:])
	if err != nil || shard < 0 || shard >= shards {
		http.Error(w, "no such shard", http.StatusNotFound)
		return
	}
	var ids []int64
	for lines := bufio.NewScanner(r.Body); lines.Scan(); {
		id, err := strconv.ParseInt(lines.Text(), 10, 64)
		if err != nil || id < 0 || id >= mostRecords {
			http.Error(w, "no such record", http.StatusBadRequest)
			return
		}
		ids = append(ids, id)
	}
	s.requests[shard].Add(1)
	execute := func() { s.execute(w, ids) }
	if s.stormy.Load() && s.hit[shard] {
		s.bad[shard](w, r, execute)
		return
	}
	wait(r.Context(), normal)
	execute()
}

// execute takes what it doesn't refuse, and answers with the positions of what it does.
func (s *simulator) execute(w http.ResponseWriter, ids []int64) {
	refused := []int{}
	for i, id := range ids {
		if s.refuse && refusable(id) {
			refused = append(refused, i)
			continue
		}
		s.arrived(id)
	}
	_ = json.NewEncoder(w).Encode(refused) // a client that is gone finds out by itself
}

// refusable is one record of a hundred.
func refusable(id int64) bool { return id%100 == 42 }

var errRefused = errors.New("the destination refuses this record")

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// slow takes its time.
func slow(d time.Duration) func(*trial) weather {
	return func(*trial) weather {
		return func(_ http.ResponseWriter, r *http.Request, execute func()) {
			wait(r.Context(), d)
			execute()
		}
	}
}

// answer delivers nothing.
func answer(status int) func(*trial) weather {
	return func(*trial) weather {
		return func(w http.ResponseWriter, r *http.Request, _ func()) {
			wait(r.Context(), normal)
			http.Error(w, "try again later", status)
		}
	}
}

// flapping works for a while and then not for another, beginning anywhere.
func flapping(up, down time.Duration) func(*trial) weather {
	return func(t *trial) weather {
		began := time.Now().Add(-time.Duration(t.rnd.Int64N(int64(up + down))))
		return func(w http.ResponseWriter, r *http.Request, execute func()) {
			wait(r.Context(), normal)
			if time.Since(began)%(up+down) < up {
				execute()
				return
			}
			http.Error(w, "down", http.StatusServiceUnavailable)
		}
	}
}

// hanging never answers.
func hanging(*trial) weather {
	return func(_ http.ResponseWriter, r *http.Request, _ func()) { <-r.Context().Done() }
}

// late delivers at once and answers when nobody waits any more.
func late(after time.Duration) func(*trial) weather {
	return func(*trial) weather {
		return func(_ http.ResponseWriter, r *http.Request, execute func()) {
			execute()
			wait(r.Context(), after)
		}
	}
}

// throttled has a bucket of tokens, one for each request, with room for those of a second; if there is none it says when to
// come again, in whole seconds as HTTP has it.
func throttled(perSecond float64) func(*trial) weather {
	return func(*trial) weather {
		var mu sync.Mutex
		tokens, at := perSecond, time.Now()
		take := func() bool {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			tokens = min(tokens+now.Sub(at).Seconds()*perSecond, perSecond)
			at = now
			if tokens < 1 {
				return false
			}
			tokens--
			return true
		}
		return func(w http.ResponseWriter, r *http.Request, execute func()) {
			if !take() {
				w.Header().Set("Retry-After", "1")
				http.Error(w, "too many requests", http.StatusTooManyRequests)
				return
			}
			wait(r.Context(), normal)
			execute()
		}
	}
}

// sink is what an author would write.
func (s *simulator) sink(a async.Sink[record]) sink.Sink[record] {
	a.Send = s.send
	return a
}

// send posts a batch to its shard. One for several shards, as there are without async.Sink.Shard, is delivered when all of it is.
func (s *simulator) send(ctx context.Context, batch []record) error {
	var of [shards][]int
	for i, r := range batch {
		of[r.Shard] = append(of[r.Shard], i)
	}
	errs := map[int]error{}
	for shard, part := range of {
		if len(part) == 0 {
			continue
		}
		var body []byte
		for _, i := range part {
			body = append(strconv.AppendInt(body, batch[i].ID, 10), '\n')
		}
		refused, err := s.post(ctx, shard, body)
		if err != nil {
			return fmt.Errorf("shard %d: %w", shard, err)
		}
		for _, i := range refused {
			errs[part[i]] = errRefused
		}
	}
	if len(errs) > 0 {
		return &sink.Rejected{Errs: errs}
	}
	return nil
}

// post returns the positions of refused records.
func (s *simulator) post(ctx context.Context, shard int, body []byte) (refused []int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+strconv.Itoa(shard), bytes.NewReader(body))
	if err != nil {
		return nil, sink.Permanent(err)
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
		return refused, json.NewDecoder(resp.Body).Decode(&refused)
	case http.StatusTooManyRequests:
		seconds, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		return nil, sink.RetryAfter(errors.Join(errors.New(resp.Status), err), time.Duration(seconds)*time.Second)
	}
	return nil, errors.New(resp.Status)
}
