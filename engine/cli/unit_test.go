package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/fault"
)

func TestSecretNeverShowsItself(t *testing.T) {
	type holder struct {
		name string
		Open Secret
		hid  Secret
		Ptr  *Secret
		M    map[string]Secret
	}
	s, err := readSecret("hunter2", func(string) {})
	if err != nil || s.Reveal() != "hunter2" || !s.IsSet() {
		t.Fatalf("secret %q, %v", s.Reveal(), err)
	}
	h := holder{"n", s, s, &s, map[string]Secret{"k": s}}
	var text bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&text, verb+verb+verb+"\n", s, &s, h)
	}
	for _, l := range []slog.Handler{slog.NewTextHandler(&text, nil), slog.NewJSONHandler(&text, nil)} {
		slog.New(l).Info("secret", "s", s, "p", &s, "h", h)
	}
	b, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	text.Write(b)
	if strings.Contains(text.String(), "hunter2") || strings.Contains(text.String(), fmt.Sprintf("%x", "hunter2")) || !strings.Contains(text.String(), redacted) {
		t.Errorf("shown:\n%s", text.String())
	}
	if (Secret{}).IsSet() || (Secret{}).Reveal() != "" {
		t.Error("the zero secret is set")
	}
}

func TestReadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	for _, c := range []struct{ content, in, want, code string }{
		{"", "plain", "plain", ""},
		{"", "@@at", "@at", ""},
		{"line\n", "@" + file, "line", ""},
		{"line\r\n", "@" + file, "line", ""},
		{"two\nlines\n\n", "@" + file, "two\nlines\n", ""},
		{"\n", "@" + file, "", fault.NoSecret.ID},
		{"", "@" + file + "x", "", fault.NoSecret.ID},
	} {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		hidden := ""
		s, err := readSecret(c.in, func(v string) { hidden = v })
		if s.Reveal() != c.want || fault.CodeOf(err) != c.code || hidden != c.want {
			t.Errorf("%q of %q: %q, %v, hid %q", c.in, c.content, s.Reveal(), err, hidden)
		}
	}
}

func TestRedactorCutsAllForms(t *testing.T) {
	r := &redactor{}
	r.hide("pass")
	r.hide("pass/wo\"rd ü")
	r.hide("abc") // too short
	var out bytes.Buffer
	w := r.writer(&out)
	in := `pass/wo"rd ü pass%2Fwo%22rd+%C3%BC pass/wo\"rd ü abc passed`
	if n, err := io.WriteString(w, in); n != len(in) || err != nil {
		t.Errorf("wrote %d of %d, %v", n, len(in), err)
	}
	if got, want := out.String(), strings.Repeat(redacted+" ", 3)+"abc "+redacted+"ed"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func testProcess(env map[string]string, args ...string) process {
	return process{args: args, env: func(k string) (string, bool) { v, ok := env[k]; return v, ok }}
}

func TestFlagsBeatTheEnvironment(t *testing.T) {
	a := App{Name: "a.b-c"}
	for _, c := range []struct {
		env  map[string]string
		args []string
		want options
	}{
		{nil, nil, options{state: "a.b-c.state", checkpoint: 10 * time.Second, logFormat: "text", mode: "exactly-once"}},
		{map[string]string{"A_B_C_STATE": "e", "A_B_C_PARALLELISM": "3"}, []string{"-state=f"}, options{state: "f", parallelism: 3, checkpoint: 10 * time.Second, logFormat: "text", mode: "exactly-once"}},
		{map[string]string{"A_B_C_STATE": "", "A_B_C_DRAIN": "true"}, nil, options{state: "a.b-c.state", drain: true, checkpoint: 10 * time.Second, logFormat: "text", mode: "exactly-once"}},
		{map[string]string{"A_B_C_STATE": "e"}, []string{"-state="}, options{checkpoint: 10 * time.Second, logFormat: "text", mode: "exactly-once"}},
	} {
		fs := flag.NewFlagSet("", flag.ContinueOnError)
		var o options
		o.declare(fs, a)
		if _, err := a.parse(fs, testProcess(c.env, c.args...), nil); err != nil {
			t.Error(err)
		}
		if o != c.want {
			t.Errorf("%v %v: %+v, want %+v", c.env, c.args, o, c.want)
		}
	}
}

func TestAllBadVariablesAreNamed(t *testing.T) {
	a := App{Name: "x"}
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	(&options{}).declare(fs, a)
	_, err := a.parse(fs, testProcess(map[string]string{"X_DRAIN": "perhaps", "X_CHECKPOINT": "often"}), nil)
	if err == nil || !strings.Contains(err.Error(), "X_DRAIN") || !strings.Contains(err.Error(), "X_CHECKPOINT") {
		t.Errorf("err = %v", err)
	}
}

func TestEnvSecret(t *testing.T) {
	c := &command{app: App{Name: "x"}, red: &redactor{}, pr: testProcess(map[string]string{"X_DB_KEY": "hunter2"})}
	c.pr.err = io.Discard
	c.makeEnv(nil)
	if s, err := c.env.Secret("db-key"); err != nil || s.Reveal() != "hunter2" || c.red.text("hunter2") != redacted {
		t.Errorf("%q %v", s.Reveal(), err)
	}
	if _, err := c.env.Secret("other"); fault.CodeOf(err) != fault.NoSecret.ID || !strings.Contains(err.Error(), "X_OTHER") {
		t.Errorf("a missing secret: %v", err)
	}
}

func TestReady(t *testing.T) {
	now := time.Unix(1000, 0)
	for phase, want := range map[string]bool{"": false, "starting": false, "running": true, "restarting": false, "stopping": false, "ended": false} {
		r := ready("j", engine.Status{Phase: phase}, now)
		if r.Ready != want || r.Reason == "" || r.Phase == "" || r.LastCheckpointAge != nil {
			t.Errorf("phase %q: %+v", phase, r)
		}
	}
	r := ready("j", engine.Status{Phase: "running", Epochs: engine.EpochStatus{LastAt: now.Add(-3 * time.Second)}}, now)
	if r.LastCheckpointAge == nil || *r.LastCheckpointAge != 3 {
		t.Errorf("age: %+v", r)
	}
}

func TestReadyzWhileNotRunning(t *testing.T) {
	c := &command{app: App{Name: "j"}, red: &redactor{}}
	rec := httptest.NewRecorder()
	c.readyz(engine.New(engine.Config{Name: "j"}))(rec, httptest.NewRequest(http.MethodGet, "/readyz", nil))
	if rec.Code != http.StatusServiceUnavailable || !strings.Contains(rec.Body.String(), `"reason":"the job is being started"`) {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

func TestStatusPageTreatsDataAsHostile(t *testing.T) {
	var b bytes.Buffer
	evil := `<script>alert(1)</script>`
	st := engine.Status{Tasks: []engine.TaskStatus{{Name: evil, State: evil, Running: evil, WaitsFor: evil, Operators: []engine.OperatorStatus{{Name: evil}}}}}
	st.Failures = []engine.Failure{{Region: evil, Task: evil, Operator: evil, Error: evil}}
	err := statusPage.Execute(&b, struct {
		Ready  readiness
		Status engine.Status
		Plan   engine.Plan
	}{readiness{Job: evil, LastError: evil}, st, engine.Plan{Guarantees: []engine.PlanGuarantee{{Sink: evil, Sources: []string{evil}}}}})
	if err != nil || strings.Contains(b.String(), "<script") || strings.Count(b.String(), "&lt;script&gt;") != 15 {
		t.Errorf("%v, %d escaped:\n%s", err, strings.Count(b.String(), "&lt;script&gt;"), b.String())
	}
}

func TestIsLocalName(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "localhost:80": true, "127.0.0.1:1": true, "[::1]:1": true, "[::1]": true, "": true,
		"evil.example": false, "localhost.evil.example:80": false, "127.0.0.1.evil.example": false,
	} {
		if got := isLocalName(host); got != want {
			t.Errorf("%q: %v", host, got)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "ab", 2}, {"abc", "", 3}, {"kitten", "sitting", 3}, {"state", "sate", 1}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

// TestNothingIsLeftBehind runs a pipeline with HTTP in this process and stops it as a signal does; TestMain looks for
// goroutines that remain.
func TestNothingIsLeftBehind(t *testing.T) {
	dir := t.TempDir()
	var signals chan<- os.Signal
	a := childApp()
	a.Handlers = func(*http.ServeMux, *engine.Pipeline) { signals <- os.Interrupt }
	forgotten := false
	var stderr bytes.Buffer
	pr := testProcess(nil, "-out", filepath.Join(dir, "out"), "-state", filepath.Join(dir, "state"), "-addr=0", "-rate=100", "-pprof")
	pr.out, pr.err, pr.exit = io.Discard, &stderr, func(code int) { t.Errorf("exit %d", code) }
	pr.notify = func(c chan<- os.Signal) { signals = c }
	pr.forget = func(chan<- os.Signal) { forgotten = true }
	if code := a.run(pr); code != exitDone || !forgotten {
		t.Errorf("code %d, signals forgotten %v\n%s", code, forgotten, stderr.String())
	}
}

func TestFlagsReachTheConfig(t *testing.T) {
	c := &command{app: App{Name: "x"}, red: &redactor{}, pr: testProcess(nil)}
	c.pr.err = io.Discard
	c.opts = options{state: "s", parallelism: 2, checkpoint: time.Minute, fallback: true, allowDropped: true}
	c.makeEnv(nil)
	got := c.env.Config
	want := engine.Config{Name: "x", Dir: "s", Parallelism: 2, CheckpointEvery: time.Minute, Fallback: true, AllowDropped: true, Log: c.log}
	if !reflect.DeepEqual(got, want) || got.Log == nil {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestHooks shows the order of Before, Build and After, and that After decides about the error.
func TestHooks(t *testing.T) {
	var order []string
	a := App{
		Name: "hooks", State: "none",
		Before: func(_ context.Context, _ *Env) error { order = append(order, "before"); return nil },
		Build: func(_ context.Context, e *Env) (*engine.Pipeline, error) {
			order = append(order, "build")
			return nil, fault.New(fault.NoInput, "nothing there")
		},
		After: func(_ *Env, err error) error {
			order = append(order, "after "+fault.CodeOf(err))
			return nil
		},
	}
	var stderr bytes.Buffer
	pr := testProcess(nil)
	pr.out, pr.err, pr.exit = io.Discard, &stderr, func(int) {}
	pr.notify, pr.forget = func(chan<- os.Signal) {}, func(chan<- os.Signal) {}
	if code := a.run(pr); code != exitDone || strings.Join(order, ",") != "before,build,after WL1201" {
		t.Errorf("code %d, order %v, %s", code, order, stderr.String())
	}
	order = nil
	pr.args = []string{"-check"}
	if code := a.run(pr); code != exitFailed || strings.Join(order, ",") != "build" {
		t.Errorf("-check: code %d, order %v", code, order)
	}
}

// TestFlagsThatClash has a flag of the binary's own that every binary has, and one that only a command not given has.
func TestFlagsThatClash(t *testing.T) {
	for want, declare := range map[string]func(fs *flag.FlagSet){
		"": func(fs *flag.FlagSet) { fs.Bool("states", false, "another name") },
		"-state, which": func(fs *flag.FlagSet) {
			fs.String("state", "", "of the weather")
		},
		"-state, -json, -all, which": func(fs *flag.FlagSet) {
			for _, name := range []string{"state", "all", "json"} {
				fs.Bool(name, false, "mine")
			}
		},
	} {
		a := App{Name: "clash", State: "none", Flags: declare, Build: func(context.Context, *Env) (*engine.Pipeline, error) {
			return nil, fault.New(fault.NoInput, "built")
		}}
		var stderr bytes.Buffer
		pr := testProcess(nil)
		pr.out, pr.err, pr.args = io.Discard, &stderr, []string{"-check"}
		pr.notify, pr.forget = func(chan<- os.Signal) {}, func(chan<- os.Signal) {}
		code, said := a.run(pr), stderr.String()
		if want == "" {
			if !strings.Contains(said, "built") {
				t.Errorf("a flag with a name of its own: %s", said)
			}
			continue
		}
		if code != exitUsage || !strings.Contains(said, "WL1001: App.Flags declares "+want) || !strings.Contains(said, "fix: give the binary's own flag another name") {
			t.Errorf("code %d, said %s", code, said)
		}
	}
}
