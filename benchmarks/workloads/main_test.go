package main

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestRuns(t *testing.T) {
	for _, args := range []string{
		"w1 300000",
		"w2 300000 -keys 1000 -checkpoint 20ms",
		"w2 300000 -keys 1000 -checkpoint 0 -parallelism 3",
		"w2 300000 -keys 1000 -checkpoint 20ms -backend pebble",
		"w3 3000000 -keys 50 -checkpoint 20ms",
		"q5 1000000 -checkpoint 20ms",
		"q5 300000 -checkpoint 0 -parallelism 3",
		"q8 1000000 -checkpoint 20ms",
		"w2lat 40000 -rate 200000 -checkpoint 50ms",
	} {
		t.Run(args, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(t.Context(), strings.Fields(args), &out); err != nil {
				t.Fatalf("%v; it printed %s", err, out.String())
			}
			var r result
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatalf("%v in %s", err, out.String())
			}
			if !r.OK || r.Rate <= 0 || r.LastHalf <= 0 || r.OutCount == 0 {
				t.Errorf("printed %s", out.String())
			}
			if lat := strings.HasPrefix(args, "w2lat"); lat != (r.Latency != nil) {
				t.Errorf("latency is %v", r.Latency)
			}
			if strings.Contains(args, "ms") && r.Checkpoints == 0 {
				t.Errorf("no checkpoint: %s", out.String())
			}
		})
	}
}

// The run must be long enough for a checkpoint after its half and half a second more.
func TestRecovers(t *testing.T) {
	var out bytes.Buffer
	if err := run(t.Context(), strings.Fields("w9 30000000 -keys 1000 -checkpoint 50ms -throw-after 10ms"), &out); err != nil {
		t.Fatalf("%v; it printed %s", err, out.String())
	}
	var r result
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v in %s", err, out.String())
	}
	if v := r.Recovery; !r.OK || v == nil || v.First <= 0 || v.CaughtUp < v.First || v.After < 10 {
		t.Errorf("printed %s", out.String())
	}
}

func TestUsage(t *testing.T) {
	for _, args := range []string{"", "w1", "w5 5", "w4 5", "w6 5", "w1 x", "w1 0", "w1 5 -keys 0", "w1 5 more", "w1 5 -rate -1", "w1 5 -nonsense", "w2 5 -backend tape"} {
		if _, _, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

func TestHistogram(t *testing.T) {
	seed := rand.Uint64()
	rnd := rand.New(rand.NewPCG(seed, 1))
	var h, other histogram
	var all []int64
	for i := range 10_000 {
		v := rnd.Int64N(1 << rnd.IntN(35))
		all = append(all, v)
		if i%2 == 0 {
			h.add(v)
		} else {
			other.add(v)
		}
	}
	h.merge(&other)
	slices.Sort(all)
	for _, q := range []float64{0.5, 0.99, 0.999} {
		want := float64(all[int(q*float64(len(all)))]) / 1000
		if got := h.at(q); got < want || got > want*65/64+0.001 {
			t.Errorf("seed %d: %v is at %v, want %v", seed, q, got, want)
		}
	}
	if h.max != all[len(all)-1] {
		t.Errorf("seed %d: max is %d, want %d", seed, h.max, all[len(all)-1])
	}
}
