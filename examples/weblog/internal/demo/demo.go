// Package demo makes up the access log of a busy site: always the same lines for the same Log.
//
//	l := demo.Log{Seed: 1, Start: start}
//	for _, line := range l.Second(0) { ... }
//
// Lines come second by second of the site's own time. Within a second's lines the times go back by up to Disorder, as
// with slow requests, which a server logs when they end. Pages and visitors follow Zipf's law, traffic goes up and down.
// Everything is a pure function; all goroutines may call it at once.
package demo

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/weirline/weirline/examples/weblog/internal/accesslog"
)

// Disorder is the most by which a line is older than the newest one before it.
const Disorder = 20 * time.Second

// Log is an access log without end.
type Log struct {
	Seed  uint64
	Start time.Time // of second 0
}

const (
	meanRate = 7.0  // lines a second
	visitors = 6000 // who come at all
	skew     = 0.9  // Zipf's exponent for pages
)

// Second is the lines logged in one second, without line ends.
func (l Log) Second(s int64) [][]byte {
	r := l.rand(s)
	lines := make([][]byte, count(s, r))
	now := l.Start.Add(time.Duration(s) * time.Second).UTC()
	for i := range lines {
		lines[i] = line(r, now)
	}
	return lines
}

// Count is how many lines Second has.
func (l Log) Count(s int64) int { return count(s, l.rand(s)) }

func (l Log) rand(s int64) *rand.Rand {
	return rand.New(rand.NewPCG(l.Seed, uint64(s))) //nolint:gosec // repeatable on purpose
}

// count draws the number of lines of a second: two waves, and a rush now and then.
func count(s int64, r *rand.Rand) int {
	x := float64(s)
	rate := meanRate * (1 + 0.45*math.Sin(x/3600*math.Pi) + 0.25*math.Sin(x/610))
	if s%5400 > 4800 && s%5400 < 5040 {
		rate *= 2.2
	}
	n := int(rate)
	if r.Float64() < rate-float64(n) {
		n++
	}
	return max(0, n+r.IntN(3)-1)
}

func line(r *rand.Rand, now time.Time) []byte {
	at := now
	if r.IntN(4) == 0 { // a slow one
		at = now.Add(-time.Duration(r.Int64N(int64(Disorder/time.Second)+1)) * time.Second)
	}
	page := pages[pick(r)]
	status, size := 200, 800+r.IntN(40_000)
	switch r.IntN(40) {
	case 0:
		status, size = 404, 312
	case 1:
		status, size = 304, 0
	}
	if r.IntN(6) == 0 {
		page += "?ref=" + strconv.Itoa(r.IntN(9))
	}
	u := r.Float64()
	return accesslog.Append(nil, at, address(int(u*u*u*visitors)), page, status, size, agents[r.IntN(len(agents))])
}

// address is the client address of a visitor.
func address(visitor int) string {
	z := (uint64(visitor) + 1) * 0x9E3779B97F4A7C15
	z ^= z >> 29
	b := make([]byte, 0, 15)
	for i, part := range [4]uint64{z%200 + 11, z >> 8 & 255, z >> 16 & 255, z>>24%254 + 1} {
		if i > 0 {
			b = append(b, '.')
		}
		b = strconv.AppendUint(b, part, 10)
	}
	return string(b)
}

// pick draws the place of a page.
func pick(r *rand.Rand) int {
	x := r.Float64() * weights[len(weights)-1]
	for i, w := range weights {
		if x < w {
			return i
		}
	}
	return len(weights) - 1
}

// weights are the summed shares of the pages.
var weights = func() []float64 {
	out := make([]float64, len(pages))
	sum := 0.0
	for i := range out {
		sum += math.Pow(float64(i+1), -skew)
		out[i] = sum
	}
	return out
}()

var pages = []string{
	"/", "/products", "/search", "/login", "/cart", "/products/kettle", "/products/lamp", "/blog", "/checkout",
	"/products/chair", "/about", "/blog/spring-sale", "/help", "/products/desk", "/account", "/products/mug", "/contact",
	"/blog/how-we-ship", "/products/rug", "/products/clock", "/account/orders", "/help/returns", "/jobs", "/products/shelf",
	"/blog/new-warehouse", "/help/delivery", "/terms", "/privacy", "/products/vase", "/products/bench", "/stores",
	"/stores/hamburg", "/stores/lyon", "/stores/porto", "/gift-cards", "/newsletter", "/press", "/sitemap.xml", "/robots.txt",
	"/favicon.ico",
}

var agents = []string{
	"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
	"curl/8.14.1",
}
