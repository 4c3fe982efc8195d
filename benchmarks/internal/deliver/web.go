package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	httpsink "github.com/weirline/weirline/connector/http"
	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/sink"
	"github.com/weirline/weirline/sink/async"
)

// Web is a web service in this process that takes rows as lines of JSON, written by jobs and by bare requests. What it takes it counts,
// and adds up the ids.
type Web struct {
	URL     string
	Records int64

	srv        *http.Server
	lines, sum atomic.Int64
}

// OpenWeb starts the service. The caller closes it.
func OpenWeb(records int64) (*Web, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	w := &Web{URL: "http://" + l.Addr().String(), Records: records}
	w.srv = &http.Server{Handler: http.HandlerFunc(w.take), ReadHeaderTimeout: time.Minute}
	go func() { _ = w.srv.Serve(l) }() // until Close
	return w, nil
}

// Close ends the service.
func (w *Web) Close() { _ = w.srv.Close() }

// idField is what a line begins with.
const idField = `{"ID":`

func (w *Web) take(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(rw, err.Error(), http.StatusBadRequest)
		return
	}
	var lines, sum int64
	for line := range bytes.Lines(body) {
		digits, _, _ := bytes.Cut(line[min(len(idField), len(line)):], []byte(","))
		id, err := strconv.ParseInt(string(digits), 10, 64)
		if err != nil {
			http.Error(rw, err.Error(), http.StatusUnprocessableEntity)
			return
		}
		lines, sum = lines+1, sum+id
	}
	w.lines.Add(lines)
	w.sum.Add(sum)
}

// Sink is the sink to write with.
func (w *Web) Sink() sink.Sink[Row] {
	return httpsink.Sink[Row]{URL: w.URL, Form: httpsink.JSONLines, Batching: async.Sink[Row]{MaxBatch: asyncBatch}}
}

// Job writes by a job.
func (w *Web) Job(ctx context.Context, cfg engine.Config) (Outcome, error) {
	w.lines.Store(0)
	w.sum.Store(0)
	o, err := rowsInto(ctx, cfg, w.Records, w.Sink())
	if err != nil {
		return o, err
	}
	return o, w.right()
}

// Bare is what the same requests take by net/http in loops, each of which builds a batch, posts it and looks at the status.
func (w *Web) Bare(ctx context.Context, cfg engine.Config) (time.Duration, error) {
	w.lines.Store(0)
	w.sum.Store(0)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: cfg.Parallelism * asyncRequests}}
	defer client.CloseIdleConnections()
	took, err := bareLoops(ctx, cfg, w.Records, func(ctx context.Context, rows []Row) error {
		var body bytes.Buffer
		for _, r := range rows {
			line, err := json.Marshal(r)
			if err != nil {
				return err
			}
			body.Write(line)
			body.WriteByte('\n')
		}
		_, err := post(ctx, client, w.URL, body.Bytes())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("bare client: %w", err)
	}
	return took, w.right()
}

// post makes a request of lines and returns the answer, which must be 200.
func post(ctx context.Context, client *http.Client, url string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-ndjson")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("post to %s: %s: %.200s", url, resp.Status, answer)
	}
	return answer, err
}

// right compares what arrived with what should have.
func (w *Web) right() error {
	want := sums(w.Records, lineKeys)
	if n, sum := w.lines.Load(), w.sum.Load(); n != want[0] || sum != want[1] {
		return fmt.Errorf("%d rows with a sum of %d arrived; want %d and %d", n, sum, want[0], want[1])
	}
	return nil
}
