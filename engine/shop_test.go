//go:build unix

package engine_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/bubble"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/txn/txntest"
)

const (
	shopRecords = 12_000
	shopKeys    = 12 // each in one of four splits
)

// shop is a web service in the test's process that takes records from jobs in other processes.
type shop struct {
	*httptest.Server
	mu       sync.Mutex
	open     int           // how many requests it takes before it is away; negative = all
	takes    time.Duration // each request
	released chan struct{} // closed when requests take no time any more
	arrived  map[string][]int
	known    map[sequence]bool // the record itself is its idempotency key
	totals   map[string]int    // of the numbers of each key, repetitions left out
}

func newShop(t *testing.T) *shop {
	s := &shop{open: -1, released: make(chan struct{}), arrived: map[string][]int{}, known: map[sequence]bool{}, totals: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *shop) serve(w http.ResponseWriter, r *http.Request) {
	var batch []sequence
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	away, takes, released := s.open == 0, s.takes, s.released
	if s.open > 0 {
		s.open--
	}
	for _, v := range batch {
		if !away {
			s.arrived[v.K] = append(s.arrived[v.K], v.N)
			if !s.known[v] {
				s.known[v] = true
				s.totals[v.K] += v.N
			}
		}
	}
	s.mu.Unlock()
	if away {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if takes > 0 {
		select {
		case <-time.After(takes):
		case <-released:
		case <-r.Context().Done():
		}
	}
}

// set says how many requests are taken before it is away, and how long each takes.
func (s *shop) set(open int, takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open, s.takes = open, takes; takes == 0 {
		close(s.released)
		s.released = make(chan struct{})
	}
}

func (s *shop) away() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open == 0
}

func post(url string) func(context.Context, []sequence) error {
	return func(ctx context.Context, b []sequence) error {
		body, err := json.Marshal(b)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return err
		}
		if err := resp.Body.Close(); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("the shop answers %s", resp.Status)
		}
		return nil
	}
}

func shopSource(perSecond float64) gen.Source[sequence] {
	return gen.Source[sequence]{
		Make:  func(seq int64) sequence { return sequence{fmt.Sprint("k", seq%shopKeys), int(seq/shopKeys) + 1} },
		Count: shopRecords, Splits: 4, PerSecond: perSecond,
	}
}

// toShop builds the pipeline: the sink fused with its source, behind an exchange, or behind one by key, where it may hold all.
func toShop(p *engine.Pipeline, shape string, perSecond float64, send func(context.Context, []sequence) error) {
	out := async.Sink[sequence]{
		Send: send, Key: func(v sequence) string { return v.K }, MaxBatch: 50, MaxBuffered: 400, MaxInFlight: 4,
		Retry: async.Retry{Base: 20 * time.Millisecond, Max: 100 * time.Millisecond},
	}
	if shape == "keyed, all held" {
		out.MaxBuffered = -1
	}
	s := engine.From(p, "in", shopSource(perSecond))
	switch shape {
	case "fused":
		engine.To(s, "out", out)
	case "exchange":
		engine.To(s.Rebalance(), "out", out)
	case "keyed", "keyed, all held":
		engine.ToKeyed(engine.KeyBy(s, func(v sequence) string { return v.K }), "out", out)
	}
}

// shopConfig overtakes barriers after 200 ms where there is an exchange.
func shopConfig(dir, shape string, par int) engine.Config {
	return engine.Config{
		Name: "shop", Dir: filepath.Join(dir, "state"), Parallelism: par, CheckpointEvery: 300 * time.Millisecond,
		Unaligned: shape == "exchange" || shape == "keyed", UnalignedAfter: 200 * time.Millisecond, BatchSize: 32, QueueBatches: 16,
	}
}

// shopChild is the child process.
func shopChild(url string) int {
	par, _ := strconv.Atoi(os.Getenv("WEIRLINE_SHOP_PARALLELISM"))
	shape := os.Getenv("WEIRLINE_SHOP_SHAPE")
	p := engine.New(shopConfig(os.Getenv("WEIRLINE_SHOP_DIR"), shape, par))
	perSecond, _ := strconv.ParseFloat(os.Getenv("WEIRLINE_SHOP_RATE"), 64) // as fast as it can, unless it's set
	toShop(p, shape, perSecond, post(url))
	return tellEpochs(p)
}

// startShopChild starts it; the lines it prints come through the scanner.
func startShopChild(t *testing.T, s *shop, dir, shape string, par int, env ...string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "WEIRLINE_SHOP_URL="+s.URL, "WEIRLINE_SHOP_DIR="+dir, "WEIRLINE_SHOP_SHAPE="+shape, fmt.Sprint("WEIRLINE_SHOP_PARALLELISM=", par))
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return cmd, bufio.NewScanner(out)
}

// killAfter kills the child when that many checkpoints have completed since ready was true; see looks at each of its lines.
func killAfter(t *testing.T, cmd *exec.Cmd, lines *bufio.Scanner, epochs int, ready func() bool, see func(engine.EpochStatus)) {
	t.Helper()
	for epochs > 0 && lines.Scan() {
		var e engine.EpochStatus
		must(t, json.Unmarshal(lines.Bytes(), &e))
		see(e)
		if ready() {
			epochs--
		}
	}
	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); !txntest.Killed(err) {
		t.Fatalf("the child should have been killed, it ended with %v", err)
	}
	if epochs > 0 {
		t.Fatalf("the child ended before its checkpoints were complete: %d are missing", epochs)
	}
}

// endOf waits until the child has ended by itself.
func endOf(t *testing.T, cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	for lines.Scan() { // until it has ended
	}
	must(t, cmd.Wait())
}

// TestCheckpointsDontWaitForTheDestination: with a destination that takes 10 s for each request a process completes its checkpoints in
// less than a second, by its own account. It is killed hard and goes on: each record arrives, and a destination that goes by the
// records' own keys has each once.
func TestCheckpointsDontWaitForTheDestination(t *testing.T) {
	for _, shape := range []string{"fused", "exchange"} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel() // they mostly wait
			s, dir := newShop(t), t.TempDir()
			s.set(-1, 10*time.Second)
			cmd, lines := startShopChild(t, s, dir, shape, 2)
			var longest time.Duration
			killAfter(t, cmd, lines, 6, func() bool { return true }, func(e engine.EpochStatus) {
				t.Logf("checkpoint %d took %v, %d bytes in flight", e.Last, e.LastDuration, e.LastInFlight)
				longest = max(longest, e.LastDuration)
				if e.LastDuration >= time.Second || e.Failed > 0 {
					t.Errorf("a checkpoint before a slow destination: %+v", e)
				}
			})
			t.Logf("figure: %s: longest checkpoint %v with requests of 10 s", shape, longest.Round(time.Millisecond))
			s.set(-1, 0)
			cmd, lines = startShopChild(t, s, dir, shape, 2)
			endOf(t, cmd, lines)
			s.mu.Lock()
			defer s.mu.Unlock()
			repeated := 0
			for seq := range shopRecords {
				want := shopSource(0).Make(int64(seq))
				n := 0
				for _, v := range s.arrived[want.K] {
					if v == want.N {
						n++
					}
				}
				if n == 0 {
					t.Fatalf("%+v is lost", want)
				}
				repeated += n - 1
			}
			each := shopRecords / shopKeys
			for k, total := range s.totals {
				if want := each * (each + 1) / 2; total != want || len(s.totals) != shopKeys {
					t.Errorf("the total of %s is %d where repetitions are known, want %d; %d keys", k, total, want, len(s.totals))
				}
			}
			if repeated == 0 || repeated > shopRecords/2 {
				t.Errorf("%d records arrived again, want those that were on their way", repeated)
			}
		})
	}
}

// TestOrderByKeyOutlivesARescale: the destination goes away again and again while what isn't delivered is stored by key group, the
// process is killed hard and goes on at another parallelism. What arrives of a key is in order, but for a repetition after each
// kill, and complete.
func TestOrderByKeyOutlivesARescale(t *testing.T) {
	for shape, pars := range map[string][]int{"keyed": {1, 4, 2}, "keyed, all held": {3, 1, 4}} {
		t.Run(shape, func(t *testing.T) {
			t.Parallel() // they mostly wait
			s, dir := newShop(t), t.TempDir()
			for _, par := range pars[:2] {
				s.set(70, 0)
				// Slow enough that there is input left: at its end a task does wait for the destination.
				cmd, lines := startShopChild(t, s, dir, shape, par, "WEIRLINE_SHOP_RATE=1000")
				killAfter(t, cmd, lines, 3, s.away, func(engine.EpochStatus) {})
			}
			s.set(-1, 0)
			cmd, lines := startShopChild(t, s, dir, shape, pars[2])
			endOf(t, cmd, lines)
			s.mu.Lock()
			defer s.mu.Unlock()
			for k, arrived := range s.arrived {
				last, most, back := 0, 0, 0
				for _, n := range arrived {
					switch {
					case n == last+1:
					case n <= most:
						back++
					default:
						t.Fatalf("%s: %d arrived after %d, and nothing in between", k, n, most)
					}
					last, most = n, max(most, n)
				}
				if most != shopRecords/shopKeys || back > 2 {
					t.Errorf("%s: the last is %d, want %d; %d times earlier ones arrived again, want one for each kill at most", k, most, shopRecords/shopKeys, back)
				}
			}
			if len(s.arrived) != shopKeys {
				t.Errorf("%d keys arrived", len(s.arrived))
			}
		})
	}
}

// TestCheckpointsDontWaitInFalseTime is the same in false time and one process, for hours.
func TestCheckpointsDontWaitInFalseTime(t *testing.T) {
	for _, shape := range []string{"fused", "exchange", "keyed"} {
		t.Run(shape, func(t *testing.T) {
			dir := t.TempDir()
			bubble.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				got := 0
				cfg := shopConfig(dir, "exchange", 2)
				cfg.CheckpointEvery = 30 * time.Second
				p := engine.New(cfg)
				toShop(p, shape, 0, func(_ context.Context, b []sequence) error {
					time.Sleep(10 * time.Second)
					mu.Lock()
					defer mu.Unlock()
					got += len(b)
					return nil
				})
				began := time.Now()
				must(t, p.Run(t.Context()))
				e := p.Status().Epochs
				longest := time.Duration(0)
				for _, d := range e.Durations {
					longest = max(longest, d)
				}
				if longest >= time.Second || e.Failed > 0 || e.Completed < 5 || got != shopRecords {
					t.Errorf("%d checkpoints in %v, the longest took %v, %d failed; %d records arrived", e.Completed, time.Since(began), longest, e.Failed, got)
				}
			})
		})
	}
}
