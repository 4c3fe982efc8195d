package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/engine/cli"
	"github.com/weirline/weirline/examples/weblog/internal/app"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/internal/testsvc"
)

// shown is what the page is told.
type shown struct {
	Minutes []struct{ T, PV, UV int64 }
	Pages   []struct {
		Page string
		PV   int64
	}
	Job    struct{ Late, Records int64 }
	Inputs []struct {
		From                          string
		Lines, Next, Missing, Doubled int64
		Skipped                       int64
	}
}

// live is a run without end.
type live struct {
	t    *testing.T
	web  *httptest.Server
	stop context.CancelFunc
	done chan error
	log  *lockedBuffer
}

func startLive(t *testing.T, flags ...string) *live {
	t.Helper()
	l, err := tryLive(t, flags...)
	if err != nil {
		t.Fatalf("%v\n%s", err, l.log)
	}
	return l
}

func tryLive(t *testing.T, flags ...string) (*live, error) {
	t.Helper()
	l := &live{t: t, done: make(chan error, 1), log: &lockedBuffer{}}
	a := app.New()
	fs := flag.NewFlagSet("weblog", flag.ContinueOnError)
	state := fs.String("state", "", "")
	fs.String("addr", "", "")
	a.CLI().Flags(fs)
	if err := fs.Parse(flags); err != nil {
		return l, err
	}
	log := slog.New(slog.NewTextHandler(l.log, nil))
	e := &cli.Env{
		Config: engine.Config{Name: "weblog", Dir: *state, Parallelism: 2, CheckpointEvery: often, Log: log},
		Flags:  fs, Log: log, Out: io.Discard,
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.stop = cancel
	if err := a.Before(ctx, e); err != nil {
		return l, err
	}
	p, err := a.Build(ctx, e)
	if err != nil {
		return l, a.After(e, err)
	}
	mux := http.NewServeMux()
	a.Handlers(mux, p)
	l.web = httptest.NewServer(mux)
	go func() { l.done <- a.After(e, p.Run(ctx)) }()
	return l, nil
}

// suspend stops it as Ctrl-C does.
func (l *live) suspend() {
	l.t.Helper()
	l.stop()
	if err := <-l.done; err != nil {
		l.t.Fatalf("%v\n%s", err, l.log)
	}
	l.web.Close()
}

func (l *live) get(path string) (*http.Response, string) {
	l.t.Helper()
	r, err := http.Get(l.web.URL + path)
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return r, string(b)
}

// until looks until what the page shows is as wanted.
func (l *live) until(what string, good func(shown) bool) shown {
	l.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(20 * time.Second)
	var s shown
	for {
		_, body := l.get("/api/state")
		s = shown{}
		if err := json.Unmarshal([]byte(body), &s); err != nil {
			l.t.Fatalf("%v: %s", err, body)
		}
		if good(s) {
			return s
		}
		select {
		case err := <-l.done:
			l.t.Fatalf("ended: %v\n%s", err, l.log)
		case <-end:
			l.t.Fatalf("%s: not within 20 s: %+v\n%s", what, s, l.log)
		case <-tick.C:
		}
	}
}

func newest(s shown) int64 {
	if len(s.Minutes) == 0 {
		return 0
	}
	return s.Minutes[len(s.Minutes)-1].T
}

// The made-up log goes on where it was after a stop: no minute is missing, no line lost or doubled.
func TestLiveGoesOn(t *testing.T) {
	dir := t.TempDir()
	at := int64(0)
	for range 3 {
		l := startLive(t, "-state", dir, "-speed", "300")
		s := l.until("new minutes", func(s shown) bool { return s.Job.Records > 0 && newest(s) >= at+5*60_000 && len(s.Inputs) == 5 })
		at = newest(s)
		for i := 1; i < len(s.Minutes); i++ {
			if s.Minutes[i].T != s.Minutes[i-1].T+60_000 {
				t.Errorf("minute %d is followed by %d", s.Minutes[i-1].T, s.Minutes[i].T)
			}
		}
		for _, in := range s.Inputs {
			if in.Missing+in.Doubled+s.Job.Late != 0 {
				t.Errorf("%+v, %d late", in, s.Job.Late)
			}
		}
		l.suspend()
	}
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	r := &run{t: t, dir: dir}
	hostile := "/<script>alert(1)</script>"
	lines := []string{"nonsense"}
	for range 400 {
		lines = append(lines, fmt.Sprintf(`1.2.3.4 - - [28/Feb/2024:23:00:00 +0000] "GET %s HTTP/1.1" 200 1`, hostile))
	}
	r.write("logs/a.log", lines)
	l := startLive(t, "-state", r.path("state"), "-logs", r.path("logs"), "-speed", "300")
	s := l.until("the page of the log", func(s shown) bool { return len(s.Pages) > 0 && len(s.Inputs) == 5 })
	if p := s.Pages[0]; p.Page != hostile || p.PV != 400 {
		t.Errorf("the busiest page is %+v", p)
	}
	if in := s.Inputs[0]; in.From != "files" || in.Lines != 401 || in.Skipped != 1 {
		t.Errorf("files: %+v", in)
	}
	if resp, body := l.get("/api/state"); strings.Contains(body, "<script") || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: %s", resp.Header.Get("Content-Type"), body)
	}
	for _, path := range []string{"/", "/app.js", "/style.css", "/favicon.svg"} {
		resp, body := l.get(path)
		csp := resp.Header.Get("Content-Security-Policy")
		if resp.StatusCode != http.StatusOK || !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: %d, policy %q", path, resp.StatusCode, csp)
		}
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacent", "document.write", "https://"} {
			if strings.Contains(body, bad) {
				t.Errorf("%s contains %q", path, bad)
			}
		}
	}
	if resp, body := l.get("/metrics"); resp.StatusCode != http.StatusOK || !strings.Contains(body, "weirline_") {
		t.Errorf("/metrics: %d %.200s", resp.StatusCode, body)
	}
	l.suspend()
}

// Nothing is written into a topic of the user's own unless asked for.
func TestOwnTopicIsLeftAlone(t *testing.T) {
	const name = "weblog-own"
	flags := append(realServices(t, name, 2), "-state", t.TempDir(), "-speed", "300")
	in := halves(madeUp(t, 8000).files)
	r := &run{t: t, dir: t.TempDir()}
	r.write("logs/a.log", in.files)
	k := testsvc.Kafka(t)
	if err := k.Produce(t.Context(), name, 0, in.live...); err != nil { // the other partition is idle
		t.Fatal(err)
	}
	l := startLive(t, append(flags, "-logs", r.path("logs"), "-idle", "1s")...)
	l.until("the topic's lines", func(s shown) bool { return len(s.Inputs) == 2 && newest(s) > 0 })
	l.suspend()
	all, err := k.ReadAll(t.Context(), name)
	if err != nil || len(all) != len(in.live) {
		t.Errorf("%d records in the topic, want the %d that were there; %v", len(all), len(in.live), err)
	}
	l = startLive(t, append(flags, "-generate")...)
	l.until("made-up lines", func(s shown) bool { return len(s.Inputs) == 3 })
	l.suspend()
}

func TestBadSettings(t *testing.T) {
	k, dir := testsvc.Kafka(t), t.TempDir()
	for name, c := range map[string]struct {
		flags []string
		code  fault.Code
	}{
		"no topic":     {[]string{"-state", dir, "-kafka", k.Addr, "-topic", "weblog-absent"}, fault.NoTopic},
		"no broker":    {[]string{"-state", dir, "-kafka", "127.0.0.1:1"}, fault.Unreachable},
		"no redis":     {[]string{"-state", dir, "-redis", "127.0.0.1:1"}, fault.Unreachable},
		"no state":     {nil, fault.Usage},
		"live forever": {[]string{"-state", dir, "-live", dir}, fault.Usage},
		"out nowhere":  {[]string{"-state", dir, "-once", "-logs", dir, "-out", dir + "/none/out.csv"}, fault.Usage},
		"speed":        {[]string{"-state", dir, "-speed", "0"}, fault.Usage},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := tryLive(t, c.flags...); fault.CodeOf(err) != c.code.ID {
				t.Errorf("%v; want %s", err, c.code.ID)
			}
		})
	}
}

// A run whose results were taken over or have gone says so instead of writing half a file.
func TestResultsAreNotWhole(t *testing.T) {
	in := oneInput(t)
	name := "weblog-whole"
	first := newRun(t, in, realServices(t, name, 2)...)
	first.finish(2, often)

	rdb := testsvc.Redis(t).Client()
	defer rdb.Close()
	minutes, err := rdb.ZRange(t.Context(), name+":minutes", 0, 0).Result()
	if err != nil || len(minutes) != 1 {
		t.Fatal(minutes, err)
	}
	if err := rdb.Del(t.Context(), name+":minute:"+minutes[0]).Err(); err != nil {
		t.Fatal(err)
	}
	if err := first.start(t.Context(), 2, often); fault.CodeOf(err) != fault.SinkFailed.ID {
		t.Errorf("a minute is gone: %v", err)
	}

	second := newRun(t, in, first.flags...)
	second.finish(2, often) // a fresh run begins anew under the prefix
	if err := first.start(t.Context(), 2, often); fault.CodeOf(err) != fault.OtherJob.ID {
		t.Errorf("the keys are another run's: %v", err)
	}
}

// A signal while the services are still being asked is a stop, not a failure of theirs.
func TestStoppedBeforeTheStart(t *testing.T) {
	l := startLive(t, "-state", t.TempDir())
	l.stop()
	if err := <-l.done; err != nil && fault.CodeOf(err) != "" {
		t.Errorf("%v\n%s", err, l.log)
	}
	l.web.Close()
}
