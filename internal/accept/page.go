package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

func pageChecks() []check { return []check{{"run/clean-clone-and-browser", browser}} }

const (
	fillWithin  = 60 * time.Second // from the end of the build until both charts are full
	newMinuteIn = 10 * time.Second
	fullChart   = 10 // minutes
)

// state is what the page asks the server for.
type state struct {
	Minutes []struct {
		T  int64 `json:"t"`
		PV int64 `json:"pv"`
		UV int64 `json:"uv"`
	} `json:"minutes"`
}

// browser clones the repository, has only Go there, and looks at the page of `make run`.
func browser(ctx context.Context, e *env) (string, error) {
	chromium, err := findChromium()
	if err != nil {
		return "", err
	}
	run, addr, built, err := e.cloneAndRun(ctx)
	if err != nil {
		return "", err
	}
	defer stopRun(run)
	url := "http://" + addr + "/"
	first, filled, err := e.charts(ctx, run, chromium, url, built)
	if err != nil {
		return "", err
	}
	began := time.Now()
	newer, err := awaitMinute(ctx, run, url, first)
	if err != nil {
		return "", err
	}
	waited := time.Since(began)
	shot := filepath.Join(e.kept, "page.png")
	size, err := e.screenshot(ctx, chromium, url, shot)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("both charts full %.1f s after the build (%d and %d points), minute %s new after %.1f s, picture %s in bin/accept",
		filled.Sub(built).Seconds(), first.pv, first.uv, time.UnixMilli(newer).UTC().Format("15:04"), waited.Seconds(), size), nil
}

func findChromium() (string, error) {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("there is no browser; run `make deps`")
}

// onlyGo are the programs that a machine with only Go has.
var onlyGo = []string{"go", "make", "bash", "sh", "env", "git", "sed", "expand", "cat", "rm", "mkdir", "uname"}

// cloneAndRun clones what is committed and starts `make run` in it. built is when the binary was there.
func (e *env) cloneAndRun(ctx context.Context) (run *process, addr string, built time.Time, err error) {
	dir, err := e.dir("clone")
	if err != nil {
		return nil, "", built, err
	}
	clone := filepath.Join(dir, "weirline")
	if out, err := exec.CommandContext(ctx, "git", "clone", "-q", "--no-hardlinks", e.root, clone).CombinedOutput(); err != nil {
		return nil, "", built, fmt.Errorf("clone: %w: %s", err, out)
	}
	path := filepath.Join(dir, "path")
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, "", built, err
	}
	for _, name := range onlyGo {
		if from, err := exec.LookPath(name); err != nil {
			return nil, "", built, err
		} else if err := os.Symlink(from, filepath.Join(path, name)); err != nil {
			return nil, "", built, err
		}
	}
	addr, err = freeAddr()
	if err != nil {
		return nil, "", built, err
	}
	run, err = e.start(ctx, func(c *exec.Cmd) {
		c.Dir = clone
		c.Env = append(os.Environ(), "PATH="+path, "KAFKA=", "REDIS=", "LOGS=")
	}, filepath.Join(path, "make"), "run", "ARGS=-addr "+addr)
	if err != nil {
		return nil, "", built, err
	}
	err = run.await(10*time.Minute, "end of the build", func() bool {
		_, w := os.Stat(filepath.Join(clone, "bin", "weblog"))
		_, b := os.Stat(filepath.Join(clone, "bin", "workloads"))
		return w == nil && b == nil
	})
	return run, addr, time.Now(), err
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// stopRun interrupts the demo, which has replaced make, and kills it if that doesn't help.
func stopRun(p *process) {
	p.cmd.Process.Signal(os.Interrupt) //nolint:errcheck // it may have ended
	p.wait(20 * time.Second)           //nolint:errcheck // it is killed then
}

// drawn is what a browser has drawn.
type drawn struct {
	pv, uv int   // points of the charts
	last   int64 // newest minute the server told of, ms
}

// charts waits until a browser draws two full charts.
func (e *env) charts(ctx context.Context, run *process, chromium, url string, built time.Time) (d drawn, at time.Time, err error) {
	for {
		d, err = e.draw(ctx, chromium, url)
		if err == nil && d.pv >= fullChart && d.uv >= fullChart {
			return d, time.Now(), nil
		}
		if !run.alive() {
			return d, at, fmt.Errorf("make run has ended; last said: %s", run.tail())
		}
		if time.Since(built) > fillWithin {
			return d, at, errors.Join(fmt.Errorf("after %v the charts have %d and %d points", fillWithin, d.pv, d.uv), err)
		}
		rest(300 * time.Millisecond)
	}
}

var (
	chartOf = regexp.MustCompile(`(?s)<svg[^>]*id="(pv|uv)"[^>]*>(.*?)</svg>`)
	points  = regexp.MustCompile(`\bdata-t="|<(?:rect|circle)\b`)
	paths   = regexp.MustCompile(`(?s)\b(?:d|points)="([^"]*)"`)
)

// draw has the browser load the page, run it for a while and print what it shows.
func (e *env) draw(ctx context.Context, chromium, url string) (drawn, error) {
	s, err := askState(ctx, url)
	if err != nil {
		return drawn{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, chromium, e.headless("--virtual-time-budget=4000", "--dump-dom", url)...).Output()
	if err != nil {
		return drawn{}, fmt.Errorf("run the browser: %w", err)
	}
	d := drawn{}
	for _, m := range chartOf.FindAllStringSubmatch(string(out), -1) {
		n := countPoints(m[2])
		if m[1] == "pv" {
			d.pv = n
		} else {
			d.uv = n
		}
	}
	if len(s.Minutes) > 0 {
		d.last = s.Minutes[len(s.Minutes)-1].T
	}
	return d, nil
}

// countPoints counts bars, dots, or corners of the longest line.
func countPoints(svg string) int {
	n := len(points.FindAllString(svg, -1))
	for _, m := range paths.FindAllStringSubmatch(svg, -1) {
		n = max(n, len(regexp.MustCompile(`-?\d+(?:\.\d+)?[ ,]-?\d+(?:\.\d+)?`).FindAllString(m[1], -1)))
	}
	return n
}

func (e *env) headless(args ...string) []string {
	return append([]string{
		"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage",
		"--user-data-dir=" + filepath.Join(e.tmp, "browser"),
	}, args...)
}

// screenshot keeps a picture of the page and says how large it is; a picture of one colour is none.
func (e *env) screenshot(ctx context.Context, chromium, url, file string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, chromium,
		e.headless("--virtual-time-budget=4000", "--window-size=1200,830", "--screenshot="+file, url)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("take a screenshot: %w: %s", err, out)
	}
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		return "", fmt.Errorf("read the screenshot: %w", err)
	}
	colours, b := map[[3]uint32]bool{}, img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y += 3 {
		for x := b.Min.X; x < b.Max.X; x += 3 {
			r, g, bl, _ := img.At(x, y).RGBA()
			colours[[3]uint32{r, g, bl}] = true
		}
	}
	return fmt.Sprintf("%d x %d", b.Dx(), b.Dy()), want(len(colours) > 8, "the screenshot has only %d colours", len(colours))
}

// awaitMinute waits until there is a minute that wasn't there.
func awaitMinute(ctx context.Context, run *process, url string, before drawn) (newer int64, err error) {
	err = run.await(newMinuteIn, "new minute", func() bool {
		s, err := askState(ctx, url)
		if err == nil && len(s.Minutes) > 0 {
			newer = s.Minutes[len(s.Minutes)-1].T
		}
		return newer > before.last
	})
	return newer, err
}

// askState asks what the page asks.
func askState(ctx context.Context, url string) (s state, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(url, "/")+"/api/state", nil)
	if err != nil {
		return s, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s, fmt.Errorf("ask the page's server: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("ask the page's server: %s", resp.Status)
	}
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(body, &s)
}
