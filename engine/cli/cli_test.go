package cli

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/weirline/weirline/engine"
)

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want []string
	}{
		{"unknown flag", nil, []string{"-paralelism", "2"}, []string{"WL1501", "no flag -paralelism", "did you mean -parallelism?"}},
		{"unlike any", nil, []string{"-xyzzyq"}, []string{"WL1501", "no flag -xyzzyq", "see -help"}},
		{"prefix", nil, []string{"-par=2"}, []string{"did you mean -parallelism?"}},
		{"bad value", nil, []string{"-parallelism", "two"}, []string{"WL1501", `"two"`, "-parallelism"}},
		{"negative", nil, []string{"-parallelism", "-1"}, []string{"WL1501", "-parallelism is -1"}},
		{"too many", nil, []string{"-parallelism", "4000"}, []string{"WL1108", "4000"}},
		{"zero interval", nil, []string{"-checkpoint", "0"}, []string{"WL1501", "-checkpoint is 0", "-1s"}},
		{"bad level", nil, []string{"-log-level", "loud"}, []string{"WL1501", "loud"}},
		{"bad format", nil, []string{"-log-format", "xml"}, []string{"WL1501", "text, json"}},
		{"bad plan", nil, []string{"-plan", "png"}, []string{"WL1501", "dot, json, text"}},
		{"argument", nil, []string{"run", "x"}, []string{"WL1501", `unexpected argument "x"`}},
		{"command", nil, []string{"walk"}, []string{"WL1501", `no command "walk"`, "run, status, checkpoint, savepoint, stop, rescale"}},
		{"second word", nil, []string{"checkpoint", "burn"}, []string{"WL1501", `no command "checkpoint burn"`, "ls, show"}},
		{"too few", nil, []string{"savepoint"}, []string{"WL1501", "savepoint PATH"}},
		{"no number", nil, []string{"rescale", "many"}, []string{"WL1501", `"many" is no number`}},
		{"begin without state", nil, []string{"-from", "epoch:1"}, []string{"WL1501", "-from needs a state directory"}},
		{"rewind alone", nil, []string{"-rewind"}, []string{"WL1501", "need -from"}},
		{"pprof without http", nil, []string{"-pprof"}, []string{"WL1501", "-addr"}},
		{"bad twin", []string{"COUNTING_APP_LOG_FORMAT=xml"}, nil, []string{"WL1501", "COUNTING_APP_LOG_FORMAT", "text, json"}},
		{"bad address", nil, []string{"-addr", "a:b:c"}, []string{"WL1501", "-addr=a:b:c"}},
		{"bad job name", nil, []string{"-misbehave", "misname"}, []string{"WL1001", "not a name"}},
		{"no secret file", nil, []string{"-api-key", "@missing"}, []string{"WL1503", "-api-key", "missing"}},
		{"no secret file in env", []string{"COUNTING_APP_API_KEY=@missing"}, nil, []string{"WL1503", "COUNTING_APP_API_KEY", "missing"}},
		{"build error", nil, []string{"-misbehave", "build"}, []string{"WL1001", `no table <x>\u001b[2J`, "\n    error: forged"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			stdout, stderr := start(t, c.env, c.args...).end(exitUsage)
			for _, w := range c.want {
				if !strings.Contains(stderr, w) {
					t.Errorf("standard error lacks %q:\n%s", w, stderr)
				}
			}
			if stdout != "" || !strings.Contains(stderr, "fix: ") {
				t.Errorf("standard output %q, standard error without a fix or output not empty:\n%s", stdout, stderr)
			}
		})
	}
}

func TestPanicInBuildIsAFailure(t *testing.T) {
	if _, stderr := start(t, nil, "-misbehave", "panic").end(exitFailed); !strings.Contains(stderr, "WL1401") {
		t.Errorf("no code:\n%s", stderr)
	}
}

func TestRunToTheEndAndAgain(t *testing.T) {
	dir := t.TempDir()
	out, state := filepath.Join(dir, "out"), filepath.Join(dir, "state")
	_, stderr := start(t, []string{"COUNTING_APP_COUNT=500", "COUNTING_APP_LOG_FORMAT=json"}, "-out", out, "-state", state).end(exitDone)
	if n := numbers(t, out); n != 500 {
		t.Errorf("%d numbers, want 500", n)
	}
	closing := ""
	for line := range strings.Lines(stderr) {
		var rec struct {
			Msg         string
			Promise     string
			RecordsRead int `json:"records_read"`
		}
		if err := json.Unmarshal([]byte(line), &rec); err != nil {
			t.Fatalf("not JSON: %s", line)
		}
		if rec.Msg == "done: the input has ended" && rec.RecordsRead == 500 {
			closing = line
		}
		if rec.Msg == "guarantee" && rec.Promise != engine.PromiseAtLeastOnce {
			t.Errorf("wrong guarantee: %s", line)
		}
	}
	if closing == "" || !strings.Contains(stderr, `"msg":"guarantee"`) {
		t.Errorf("no closing line with what was read, or no guarantee:\n%s", stderr)
	}
	start(t, nil, "-count=500", "-out", out, "-state", state).end(exitDone)
	if n := numbers(t, out); n != 500 {
		t.Errorf("a finished job wrote more: %d numbers", n)
	}
}

func TestSignalSuspendsAndTheNextRunGoesOn(t *testing.T) {
	dir := t.TempDir()
	out, state := filepath.Join(dir, "out"), filepath.Join(dir, "state")
	args := []string{"-out", out, "-state", state, "-rate", "2000", "-checkpoint", "20ms"}
	seen := 0
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		c := start(t, nil, args...)
		c.await("first record written")
		c.signal(sig)
		c.await("stopping after a last checkpoint")
		_, stderr := c.end(exitDone)
		m := regexp.MustCompile(`msg="suspended; run again to go on" epoch=[1-9]\d* records_read=([1-9]\d*) uncommitted=0`).FindStringSubmatch(stderr)
		if m == nil {
			t.Fatalf("no closing line:\n%s", stderr)
		}
		n := numbers(t, out)
		if n <= seen {
			t.Errorf("%v: %d numbers after %d: nothing went on", sig, n, seen)
		}
		seen = n
	}
	_, stderr := start(t, nil, append(args, "-drain")...).end(exitDone)
	if !strings.Contains(stderr, "drained: windows have fired") {
		t.Errorf("no closing line of a drain:\n%s", stderr)
	}
	if n := numbers(t, out); n < seen {
		t.Errorf("the drain lost records: %d after %d", n, seen)
	}
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	dir := t.TempDir()
	c := start(t, nil, "-out", filepath.Join(dir, "out"), "-state", filepath.Join(dir, "state"), "-misbehave", "hang", "-rate", "1000", "-checkpoint", "-1s")
	c.await("first record written")
	c.signal(syscall.SIGTERM)
	c.await("stopping after a last checkpoint")
	c.signal(os.Interrupt)
	if _, stderr := c.end(exitSignal); !strings.Contains(stderr, "second signal") {
		t.Errorf("not said:\n%s", stderr)
	}
}

func TestSecondCopyIsRefused(t *testing.T) {
	dir := t.TempDir()
	out, state := filepath.Join(dir, "out"), filepath.Join(dir, "state")
	first := start(t, nil, "-out", out, "-state", state, "-rate", "1000", "-addr", "0")
	addr := httpAddr(first)
	first.await("first record written")
	for _, args := range [][]string{
		{"-out", out, "-state", state, "-rate", "1000"},
		{"-out", out, "-state", state, "-rate", "1000", "-addr", addr}, // the address is taken by that very copy
	} {
		if _, stderr := start(t, nil, args...).end(exitHeld); !strings.Contains(stderr, "WL1101") || !strings.Contains(stderr, "process ") {
			t.Errorf("%v: not the claim's error:\n%s", args, stderr)
		}
	}
	first.signal(os.Interrupt)
	first.end(exitDone)
	numbers(t, out)
}

func TestTakenPortNamesTheFlag(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	dir := t.TempDir()
	for _, addr := range []string{ln.Addr().String(), ":" + portOf(t, ln.Addr().String()), portOf(t, ln.Addr().String())} {
		_, stderr := start(t, []string{"COUNTING_APP_ADDR=" + addr}, "-count=5", "-state", filepath.Join(dir, "state"), "-out", filepath.Join(dir, "out")).end(exitUsage)
		if !strings.Contains(stderr, "WL1502") || !strings.Contains(stderr, "-addr") {
			t.Errorf("%s: not the port's error:\n%s", addr, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("the job ran all the same")
	}
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// httpAddr waits for the child's HTTP and returns its address.
func httpAddr(c *child) string {
	c.t.Helper()
	_, addr, _ := strings.Cut(c.await("msg=http "), "addr=")
	return addr
}

func TestPages(t *testing.T) {
	dir := t.TempDir()
	c := start(t, nil, "-out", filepath.Join(dir, "out"), "-state", filepath.Join(dir, "state"), "-rate", "1000", "-addr", ":0", "-pprof", "-checkpoint", "10ms")
	base := "http://" + httpAddr(c)
	if !strings.HasPrefix(base, "http://127.0.0.1:") {
		t.Errorf("an address without a host became %s", base)
	}
	c.await("first record written")
	get := func(path, host string) (int, string, http.Header) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b), resp.Header
	}
	for path, want := range map[string]int{"/healthz": 200, "/own": 418, "/debug/pprof/heap": 200, "/debug/pprof/cmdline": 404, "/": 404} {
		if code, body, _ := get(path, ""); code != want {
			t.Errorf("%s: %d, want %d: %.200s", path, code, want, body)
		}
	}
	code, body, _ := get("/readyz", "")
	var r readiness
	if err := json.Unmarshal([]byte(body), &r); err != nil || code != 200 || !r.Ready || r.Phase != "running" || r.Job != "counting-app" {
		t.Errorf("/readyz: %d %s %v", code, body, err)
	}
	code, body, head := get("/status", "")
	if code != 200 || !strings.Contains(body, "numbers/0") || strings.Contains(body, "src=") || strings.Contains(body, "href=") ||
		!strings.HasPrefix(head.Get("Content-Security-Policy"), "default-src 'none'") {
		t.Errorf("/status: %d %v\n%s", code, head, body)
	}
	code, body, head = get("/status.json", "")
	var st engine.Status
	if err := json.Unmarshal([]byte(body), &st); err != nil || code != 200 || st.Phase != "running" || len(st.Regions) != 1 ||
		head.Get("Content-Type") != "application/json" {
		t.Errorf("/status.json: %d %v %s %v", code, head, body, err)
	}
	if code, _, _ := get("/status", "evil.example:80"); code != http.StatusMisdirectedRequest {
		t.Errorf("a foreign host name got %d", code)
	}
	http.DefaultClient.CloseIdleConnections()
	c.signal(syscall.SIGTERM)
	c.end(exitDone)
}

func TestSecretsAreCutOut(t *testing.T) {
	const value = `hunter2 & "friends"`
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(value+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		env  []string
		args []string
		code int
	}{
		{nil, []string{"-api-key", "@" + file, "-misbehave", "leak"}, exitUsage},
		{nil, []string{"-api-key", "@" + file, "-misbehave", "leak", "-log-format", "json"}, exitUsage},
		{[]string{"COUNTING_APP_API_KEY=" + value}, []string{"-misbehave", "leak"}, exitUsage},
		{[]string{"COUNTING_APP_API_KEY=@" + file}, []string{"-misbehave", "leak"}, exitUsage},
		{nil, []string{"-api-key", value}, exitUsage}, // refused, and not shown either
		{[]string{"COUNTING_APP_API_KEY=" + value}, []string{"-plan", "json"}, exitDone},
		{[]string{"COUNTING_APP_API_KEY=" + value}, []string{"-help"}, exitDone},
	} {
		stdout, stderr := start(t, c.env, c.args...).end(c.code)
		if strings.Contains(stdout+stderr, "hunter2") {
			t.Errorf("%v %v shows the secret:\n%s%s", c.env, c.args, stdout, stderr)
		}
		if len(c.args) > 1 && strings.Contains(strings.Join(c.args, " "), "leak") && strings.Count(stderr, redacted) < 5 {
			t.Errorf("%v %v: not all places are redacted:\n%s", c.env, c.args, stderr)
		}
	}
}

func TestPlanCheckVersionHelp(t *testing.T) {
	stdout, stderr := start(t, nil, "-plan", "json", "-state", "s", "-parallelism", "3").end(exitDone)
	var pl engine.Plan
	if err := json.Unmarshal([]byte(stdout), &pl); err != nil || pl.Job != "counting-app" || pl.Parallelism != 3 || !pl.Stored || stderr != "" {
		t.Errorf("-plan json: %v\n%s%s", err, stdout, stderr)
	}
	if stdout, _ = start(t, nil, "-plan=dot").end(exitDone); !strings.HasPrefix(stdout, `digraph "counting-app" {`) {
		t.Errorf("-plan dot:\n%s", stdout)
	}
	stdout, _ = start(t, nil, "-check", "-state", "s").end(exitDone)
	if !strings.Contains(stdout, "numbers -> file: at least once (") || !strings.HasSuffix(stdout, "\nok\n") {
		t.Errorf("-check:\n%s", stdout)
	}
	if stdout, _ = start(t, []string{"COUNTING_APP_VERSION=v7"}, "-version").end(exitDone); !strings.HasPrefix(stdout, "counting-app ") || !strings.Contains(stdout, "go1.") {
		t.Errorf("-version: %s", stdout)
	}
	stdout, _ = start(t, nil, "-help").end(exitDone)
	for _, name := range []string{
		"state", "parallelism", "checkpoint", "addr", "log-level", "log-format", "plan", "check", "drain", "fallback", "allow-dropped", "pprof", "count",
	} {
		if twin := "[COUNTING_APP_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "]"; !strings.Contains(stdout, "  -"+name) || !strings.Contains(stdout, twin) {
			t.Errorf("-help lacks -%s or %s:\n%s", name, twin, stdout)
		}
	}
}
