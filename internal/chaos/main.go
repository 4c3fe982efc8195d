// Command chaos runs a keyed sum over a real Kafka topic, kills the job again and again, and then looks whether every record
// counted once:
//
//	make chaos MINUTES=5
//	bin/chaos -minutes 5 -records 10000000 -keys 1000000 -backend memory -seed 7
//
//	kill 1: after 2.3 s, parallelism 1
//	...
//	chaos: sums exact, 71 kills
//
// Each record adds its value to its key's sum; every sum goes with its number (1, 2, 3 ... of that key) into files that appear
// whole, in two phases. A job that lost or repeated anything would leave a key's numbers with a gap or a double, or a wrong
// sum. The input is held back so that it lasts for about the time given; after that the job runs to its end. The parallelism
// goes from 1 to 4 in turn. State is on disk, in Pebble, with tables that hold a part of it, unless -backend says memory.
//
// The exit code is 1 if anything differs. With the same seed the kills come after the same times, not at the same records.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/weirline/weirline/internal/testsvc"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == jobName {
		runJob(os.Args[1:])
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// settings are those of the whole run.
type settings struct {
	minutes float64
	records int64
	keys    uint64
	seed    uint64
	backend string
	dir     string // state, output and logs
}

func parse() (settings, error) {
	var s settings
	flag.Float64Var(&s.minutes, "minutes", 5, "how long to kill")
	flag.Int64Var(&s.records, "records", 10_000_000, "records in the topic")
	flag.Uint64Var(&s.keys, "keys", 1_000_000, "keys")
	flag.Uint64Var(&s.seed, "seed", uint64(time.Now().UnixNano()), "decides when to kill")
	flag.StringVar(&s.backend, "backend", "pebble", "where state lives: pebble or memory")
	flag.Parse()
	if s.minutes <= 0 || s.records < 1 || s.keys < 1 || s.keys > 1<<31 || flag.NArg() > 0 {
		return s, fmt.Errorf("use positive -minutes, -records and -keys, and no other argument")
	}
	var err error
	s.dir, err = os.MkdirTemp("", "weirline-chaos-")
	return s, err
}

func run(ctx context.Context) error {
	s, err := parse()
	if err != nil {
		return err
	}
	broker, err := testsvc.StartKafka(ctx, filepath.Join(s.dir, "kafka"), testsvc.KafkaOptions{})
	if err != nil {
		return err
	}
	defer broker.Kill()
	began := time.Now()
	if err := s.fill(ctx, broker); err != nil {
		return err
	}
	fmt.Printf("%d records of %d keys in the topic after %.1f s; seed %d\n", s.records, s.keys, time.Since(began).Seconds(), s.seed)
	kills, err := s.torment(ctx, broker.Addr)
	if err == nil {
		err = s.verify()
	}
	if err != nil {
		return fmt.Errorf("after %d kills: %w; state, output and logs are in %s", kills, err, s.dir)
	}
	fmt.Printf("chaos: sums exact, %d kills\n", kills)
	broker.Kill()
	return os.RemoveAll(s.dir)
}

// torment kills the job every few seconds as long as asked, then lets it come to its end.
func (s settings) torment(ctx context.Context, broker string) (kills int, err error) {
	rnd := rand.New(rand.NewPCG(s.seed, 1)) //nolint:gosec // repeatable
	until := time.Now().Add(time.Duration(s.minutes * float64(time.Minute)))
	rate := float64(s.records) / (s.minutes * 60 * 1.05) // what is read again comes on top
	for n := 0; time.Now().Before(until); n++ {
		life := time.Duration(1500+rnd.IntN(4500)) * time.Millisecond
		killed, err := s.life(ctx, broker, n, 1+n%4, rate, life)
		if err != nil {
			return kills, err
		}
		if !killed {
			return kills, fmt.Errorf("the input came to its end %.0f s too early", time.Until(until).Seconds())
		}
		kills++
		fmt.Printf("kill %d: after %.1f s, parallelism %d\n", kills, life.Seconds(), 1+n%4)
	}
	began := time.Now()
	killed, err := s.life(ctx, broker, kills, 2, 0, 10*time.Minute)
	if err == nil && killed {
		err = fmt.Errorf("the job didn't end within 10 minutes")
	}
	fmt.Printf("the last life took %.1f s\n", time.Since(began).Seconds())
	return kills, err
}

// life runs the job and kills it after a time, unless it ends by itself, which is an error if it fails.
func (s settings) life(ctx context.Context, broker string, n, parallelism int, rate float64, life time.Duration) (killed bool, err error) {
	if err := os.MkdirAll(s.output(), 0o755); err != nil {
		return false, err
	}
	log, err := os.Create(filepath.Join(s.dir, fmt.Sprintf("job-%03d.log", n)))
	if err != nil {
		return false, err
	}
	defer log.Close()
	self, err := os.Executable()
	if err != nil {
		return false, err
	}
	timed, cancel := context.WithTimeout(ctx, life)
	defer cancel()
	cmd := exec.CommandContext(timed, self, jobName, "-kafka", broker, "-out", s.output(), "-backend", s.backend,
		"-state", filepath.Join(s.dir, "state"), "-parallelism", strconv.Itoa(parallelism), "-rate", fmt.Sprint(rate))
	cmd.Stdout, cmd.Stderr = log, log
	switch err := cmd.Run(); { // the end of timed is a SIGKILL
	case err == nil:
		return false, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case timed.Err() == nil:
		return false, fmt.Errorf("life %d failed: %w; see %s", n, err, log.Name())
	}
	return true, nil
}

func (s settings) output() string { return filepath.Join(s.dir, "out") }
