package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/connector/kafka"
	"github.com/weirline/weirline/connector/postgres"
	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/testsvc"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
	"github.com/weirline/weirline/sink/parts"
)

const letterRecords = 3000

// number is a record: a struct, so that what is stored of it is more than its text.
type number struct {
	N    int64
	Tags map[string]string
}

// lettersApp writes numbers to a web service, or into a table, and what they refuse into files or a topic, exactly once.
func lettersApp() App {
	var shop, url, table, dead, broker, topic string
	return App{
		Name: "numbers",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&shop, "shop", "", "`address` of a web service")
			fs.StringVar(&url, "url", "", "`address` of a PostgreSQL server, instead")
			fs.StringVar(&table, "table", "", "`name` of the table there")
			fs.StringVar(&dead, "dead", "", "`directory` of dead letters")
			fs.StringVar(&broker, "broker", "", "`address` of a Kafka broker for them, instead")
			fs.StringVar(&topic, "topic", "", "`name` of the topic there")
		},
		DeadLetters: func(context.Context, *Env) (deadletter.Log, error) {
			if broker != "" {
				return kafka.DeadLetters{Brokers: []string{broker}, Topic: topic}, nil
			}
			return deadletter.Files{Path: dead}, nil
		},
		Build: func(_ context.Context, e *Env) (*engine.Pipeline, error) {
			cfg := e.Config
			cfg.Poison = engine.Poison{Policy: engine.PoisonDeadLetter, Budget: -1}
			p := engine.New(cfg)
			s := engine.From(p, "numbers", gen.Source[number]{
				Make:  func(n int64) number { return number{n, map[string]string{"a": fmt.Sprint(n), "b": "\xff", "c": ""}} },
				Count: letterRecords, PerSecond: 10_000, Splits: 2,
			})
			if url != "" {
				engine.ToTx(s, "out", postgres.TxSink[number]{URL: url, Table: table, Columns: []string{"n"}, Row: func(v number) ([]any, error) { return []any{v.N}, nil }})
			} else {
				engine.To(s, "out", async.Sink[number]{Send: postNumbers(shop), MaxBatch: 100})
			}
			if broker != "" {
				p.DeadLettersTx(kafka.TxSink[engine.DeadLetter]{
					Brokers: []string{broker}, Topic: topic, MaxDowntime: -1, Encode: kafka.JSONRecord[engine.DeadLetter],
				})
			} else {
				p.DeadLettersTx(files.TxSink[engine.DeadLetter]{Dir: dead, Format: parts.JSON[engine.DeadLetter]{}})
			}
			return p, nil
		},
	}
}

// postNumbers sends numbers to a numberShop.
func postNumbers(url string) func(context.Context, []number) error {
	return func(ctx context.Context, batch []number) error {
		body, err := json.Marshal(batch)
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
		defer resp.Body.Close()
		refused := map[int]string{}
		if err := json.NewDecoder(resp.Body).Decode(&refused); err != nil || len(refused) == 0 {
			return err
		}
		out := &sink.Rejected{Errs: map[int]error{}}
		for i, why := range refused {
			out.Errs[i] = fmt.Errorf("the shop says %s", why)
		}
		return out
	}
}

// numberShop takes numbers and refuses some.
type numberShop struct {
	mu      sync.Mutex
	got     map[int64]int
	refuses func(n int64) bool
}

func (s *numberShop) set(refuses func(int64) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuses = refuses
}

func (s *numberShop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var batch []number
	if err := json.NewDecoder(r.Body).Decode(&batch); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := map[int]string{}
	for i, v := range batch {
		switch {
		case s.refuses != nil && s.refuses(v.N):
			refused[i] = fmt.Sprintf("number %d is odd", v.N%10)
		case v.Tags["a"] != fmt.Sprint(v.N):
			refused[i] = "a tag is lost"
		default:
			s.got[v.N]++
		}
	}
	if err := json.NewEncoder(w).Encode(refused); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// missing are the numbers that aren't there, and twice those that are there more than once.
func (s *numberShop) counted() (missing, twice int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range int64(letterRecords) {
		switch c := s.got[n]; {
		case c == 0:
			missing++
		case c > 1:
			twice++
		}
	}
	return missing, twice
}

func runLetters(t *testing.T, code int, args []string, says ...string) string {
	t.Helper()
	stdout, stderr := start(t, []string{childVar + "=letters"}, args...).end(code)
	for _, s := range says {
		if !strings.Contains(stdout+stderr, s) {
			t.Errorf("%v doesn't say %q:\n%s%s", args, s, stdout, stderr)
		}
	}
	return stdout
}

// TestDeadLettersAreReplayed runs a job whose destination refuses some records, mends the destination, and writes the dead letters again
// with the binary's own commands: the destination is complete then, with each record once, whatever is replayed once more.
func TestDeadLettersAreReplayed(t *testing.T) {
	for name, place := range map[string]func(t *testing.T) []string{
		"files": func(t *testing.T) []string { return []string{"-dead", t.TempDir()} },
		"kafka": func(t *testing.T) []string {
			k := testsvc.Kafka(t)
			topic := "dead-" + strings.ToLower(t.Name()[len(t.Name())-5:])
			if err := k.CreateTopic(t.Context(), topic, 3); err != nil {
				t.Fatal(err)
			}
			return []string{"-broker", k.Addr, "-topic", topic}
		},
	} {
		t.Run(name, func(t *testing.T) {
			shop := &numberShop{got: map[int64]int{}, refuses: func(n int64) bool { return n%10 == 7 || n%10 == 3 }}
			server := httptest.NewServer(shop)
			defer server.Close()
			dir := t.TempDir()
			args := append(place(t), "-shop", server.URL, "-state", filepath.Join(dir, "state"), "-parallelism", "1", "-checkpoint", "50ms")
			do := func(code int, says []string, more ...string) string {
				t.Helper()
				return runLetters(t, code, append(more, args...), says...)
			}
			do(exitDone, nil, "run")
			if missing, twice := shop.counted(); missing != letterRecords/5 || twice != 0 {
				t.Fatalf("%d are missing, %d there twice", missing, twice)
			}
			do(exitDone, []string{"operator", "out", "300      0 ", "the shop says number 3 is odd", "the shop says number 7 is odd"}, "dlq", "ls")
			do(exitDone, []string{"operator  out", "cause     the shop says number 7 is odd", "attempts  1", "job       numbers", "record "}, "dlq", "show", "1", "-cause", " 7 ")
			if shown := strings.Count(do(exitDone, nil, "dlq", "show", "5", "-json"), "\n"); shown != 5 {
				t.Errorf("5 letters are %d lines", shown)
			}
			refused := filepath.Join(dir, "refused.jsonl")
			replay := []string{"dlq", "replay", "-operator", "out", "-refused", refused}
			do(exitDone, []string{"600 letters chosen: 600 would be written again, 0 refused"}, append(replay, "-dry-run")...)

			shop.set(func(n int64) bool { return n%10 == 7 && n > 2000 })
			do(exitDone, []string{"300 letters chosen: 200 written again, 100 refused again, 0 were", refused}, append(replay, "-cause", "number 7")...)
			do(exitDone, []string{"600 letters chosen: 300 written again, 0 refused again, 300 were written before"}, replay...)
			do(exitDone, []string{"600 letters chosen: 0 written again, 0 refused again, 600 were written before"}, replay...)
			do(exitDone, []string{"300      300 "}, "dlq", "ls")
			if missing, twice := shop.counted(); missing != 100 || twice != 0 {
				t.Errorf("before the last are mended %d are missing, %d there twice", missing, twice)
			}
			shop.set(nil)
			again := []string{"dlq", "replay", "-operator", "out", "-refused", refused + ".2", "-letters", refused}
			do(exitDone, []string{"100 letters chosen: 100 written again"}, again...)
			do(exitDone, []string{"100 letters chosen: 0 written again"}, again...)
			if missing, twice := shop.counted(); missing != 0 || twice != 0 {
				t.Errorf("at the end %d are missing, %d there twice", missing, twice)
			}
			if _, err := os.Stat(refused + ".2"); err == nil {
				t.Error("a file is left for letters of which there are none")
			}
		})
	}
}

// TestDeadRowsAreReplayed does it with a two-phase sink: all rows are committed in one transaction.
func TestDeadRowsAreReplayed(t *testing.T) {
	pg := testsvc.Postgres(t)
	args := tableArgs(t, pg, "n bigint not null, constraint odd check (n not in (17, 2500))")
	dir := t.TempDir()
	args = append(args, "-dead", dir, "-state", filepath.Join(t.TempDir(), "state"), "-parallelism", "2", "-checkpoint", "50ms")
	runLetters(t, exitDone, append([]string{"run"}, args...))
	replay := append([]string{"dlq", "replay", "-operator", "out", "-refused", filepath.Join(t.TempDir(), "refused")}, args...)
	if err := pg.Exec(t.Context(), "alter table "+args[3]+" drop constraint odd"); err != nil {
		t.Fatal(err)
	}
	runLetters(t, exitDone, replay, "2 letters chosen: 2 written again, 0 refused again, 0 were")
	runLetters(t, exitDone, replay, "2 letters chosen: 0 written again, 0 refused again, 2 were")
	got, err := pg.Query(t.Context(), "select count(*), count(distinct n) from "+args[3])
	if want := fmt.Sprintf("%d\t%[1]d", letterRecords); err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("rows, different ones: %q, %v; want %q", got, err, want)
	}
	left, err := pg.Query(t.Context(), "select gid from pg_prepared_xacts")
	if err != nil || slices.ContainsFunc(left, func(gid string) bool { return strings.Contains(gid, "numbers") }) {
		t.Errorf("left in the server: %q, %v", left, err)
	}
}

func TestDeadLetterUsage(t *testing.T) {
	dir := t.TempDir()
	on := func(args ...string) []string {
		return append(append([]string{"dlq"}, args...), "-dead", dir, "-state", filepath.Join(dir, "state"))
	}
	file := filepath.Join(t.TempDir(), "refused")
	runLetters(t, exitUsage, on("replay", "-operator", "out"), "WL1501", "-refused")
	runLetters(t, exitUsage, on("replay", "-refused", file), "WL1501", "-operator")
	runLetters(t, exitUsage, on("replay", "-operator", "out", "-refused", filepath.Join(dir, "x")), "WL1501", "lies among the letters")
	runLetters(t, exitUsage, on("replay", "-operator", "out", "-refused", filepath.Join(dir, "no", "x"), "-letters", t.TempDir()), "WL1501", "-refused")
	runLetters(t, exitFailed, on("replay", "-operator", "numbers", "-refused", file), "WL1213", `no sink "numbers"`)
	runLetters(t, exitUsage, on("show", "many"), "WL1501", "many")
	runLetters(t, exitUsage, on("ls", "-cause", "("), "WL1501", "-cause")
	runLetters(t, exitUsage, on("ls", "-since", "yesterday"), "WL1501", "-since", "2h")
	runLetters(t, exitFailed, on("ls", "-letters", filepath.Join(dir, "none")), "WL1213", "none")
	runLetters(t, exitDone, on("ls"), "no dead letters are chosen in "+dir)
	runLetters(t, exitDone, on("ls", "-json"), "[]")
	tell(t, exitUsage, []string{"dlq", "ls"}, "WL1501", "-letters", "App.DeadLetters")
}

func TestMoments(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Time{"": {}, "2h": now.Add(-2 * time.Hour), "2026-01-01T00:00:00Z": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if at, err := moment("since", text, now); err != nil || !at.Equal(want) {
			t.Errorf("%q is %v, %v", text, at, err)
		}
	}
}
