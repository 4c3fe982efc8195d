// Command mutants plants bugs, one at a time, and shows that tests find each of them: by itself those of the engine, which the
// simulation or the scripts have to find, with -set planted those of two-phase commit, for the connectors' contract and crash tests,
// with -set async those of sinks that send in the background, for the tests of sink/async.
//
//	go run ./internal/mutants // last line: mutants: 30 of 30 caught
//	go run ./internal/mutants -only barrier
//	go run ./internal/mutants -set planted // last line: planted: 23 of 23 caught
//	go run ./internal/mutants -set async // last line: async: 19 of 19 caught
//
// The tree isn't changed: a bug is planted by go test -overlay. A bug whose old text is no longer in its file, or that
// doesn't compile, counts as not caught, and the exit code is then 1.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// set is a list of bugs and what has to find them, in this order: what finds most comes first.
type set struct {
	mutants []mutant
	tests   [][]string
}

var sets = map[string]set{
	"mutants": {mutants, [][]string{
		{"./internal/sim", "^TestSim$"},
		{"./engine", "^TestScript(Coord|Task)$"},
		{"./engine", "^TestSlidingWindowsOfGroupsAhead$"}, // the simulation seldom gets there
	}},
	"planted": {planted, [][]string{
		{"./connector/files", "^Test(TxContract|NothingIsShownBeforeItIsSafe|CommitDiesAtEachOperation|KilledAtEachStep)$"},
		{"./connector/postgres", "^Test(TxContract|KilledAtEachStep)$"},
		{"./connector/mysql", "^Test(TxContract|KilledAtEachStep)$"},
		{"./connector/objects", "^Test(TxContract|ServerSaysItIsComplete|ReplacedObject|KilledAtEachStep)$"},
	}},
	"async": {asyncSink, [][]string{
		{"./sink/async", "^Test([^MP]|Pa[^c])"},
		{"./sink/async", "^TestModel$"},
	}},
}

func main() {
	only := flag.String("only", "", "only mutants whose names match")
	name := flag.String("set", "mutants", "which bugs: mutants, planted or async")
	seeds := flag.Int("seeds", 3000, "most seeds of the simulation for each")
	flag.Parse()
	set, known := sets[*name]
	if !known || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	all, caught := 0, 0
	for _, m := range set.mutants {
		if !match.MatchString(m.name) {
			continue
		}
		all++
		began := time.Now()
		how, err := m.try(set.tests, *seeds)
		if err != nil {
			fmt.Printf("FAIL    %s: %v\n", m.name, err)
			continue
		}
		caught++
		fmt.Printf("caught  %s: %s, after %v\n", m.name, how, time.Since(began).Round(time.Second))
	}
	fmt.Printf("%s: %d of %d caught\n", *name, caught, all)
	if caught < all {
		os.Exit(1)
	}
}

// try plants the bug and runs the tests until one finds it; how says which.
func (m mutant) try(tests [][]string, seeds int) (how string, err error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	overlay, err := m.plant(dir)
	if err != nil {
		return "", err
	}
	for _, t := range tests {
		if !m.concerns(t[0]) {
			continue
		}
		found, err := find(overlay, t[0], t[1], seeds)
		if found != "" || err != nil {
			return found, err
		}
	}
	return "", fmt.Errorf("it survives: the tests must look closer (seeds: %d)", seeds)
}

// concerns says whether a bug could show in a package's tests: one of a connector shows in its own only.
func (m mutant) concerns(pkg string) bool {
	dir := path.Dir(m.edits[0].file)
	return path.Dir(dir) != "connector" || pkg == "./"+dir
}

// plant writes the changed files and the overlay that puts them in the place of the real ones.
func (m mutant) plant(dir string) (overlay string, err error) {
	changed := map[string]string{}
	for _, e := range m.edits {
		src, ok := changed[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.FromSlash(e.file))
			if err != nil {
				return "", err
			}
			src = string(b)
		}
		if n := strings.Count(src, e.old); n != 1 {
			return "", fmt.Errorf("%s has the old text %d times: bring internal/mutants up to date", e.file, n)
		}
		changed[e.file] = strings.Replace(src, e.old, e.new, 1)
	}
	replace := map[string]string{}
	for file, src := range changed {
		to := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(to, []byte(src), 0o600); err != nil {
			return "", err
		}
		from, err := filepath.Abs(filepath.FromSlash(file))
		if err != nil {
			return "", err
		}
		replace[from] = to
	}
	b, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, b, 0o600)
}

const patience = 4 * time.Minute

var seedLine = regexp.MustCompile(`(seed \d+): replay with`)

// find runs one test over the planted bug. found says what failed, "" if nothing did.
func find(overlay, pkg, run string, seeds int) (found string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-overlay="+overlay, "-run", run, pkg)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=2", "WEIRLINE_FIRST=1", fmt.Sprint("WEIRLINE_SEEDS=", seeds))
	cmd.Stdout, cmd.Stderr = &out, &out
	ended := cmd.Run()
	if ended == nil {
		return "", nil
	}
	switch text := out.String(); {
	case strings.Contains(text, "[build failed]") || strings.Contains(text, "[setup failed]"):
		return "", fmt.Errorf("it doesn't compile: %s", text)
	case ctx.Err() != nil:
		return "the tests no longer end", nil
	case seedLine.MatchString(text):
		_, after, _ := strings.Cut(text, "-run TestSim\n")
		line, _, _ := strings.Cut(after, "\n")
		return seedLine.FindStringSubmatch(text)[1] + " (" + strings.TrimSpace(line) + ")", nil
	case strings.Contains(text, "--- FAIL: "):
		return failure(text), nil
	case strings.Contains(text, "panic: "), strings.Contains(text, "fatal error: "):
		return "the process dies", nil
	default:
		return "", fmt.Errorf("the tests end with %w: %s", ended, text)
	}
}

var reasonLine = regexp.MustCompile(`(?m)^ +\w+\.go:\d+: (.{1,160})`)

// failure is the first test that failed, the innermost, and the last it had to say.
func failure(text string) string {
	name, said := "", ""
	for _, part := range strings.Split(text, "--- FAIL: ")[1:] {
		test, rest, _ := strings.Cut(part, " ")
		if !strings.HasPrefix(test, name) {
			break
		}
		rest, _, _ = strings.Cut(rest, "\n--- ")
		name, said = test, rest
	}
	if all := reasonLine.FindAllStringSubmatch(said, -1); len(all) > 0 {
		return name + " (" + all[len(all)-1][1] + ")"
	}
	return name
}
