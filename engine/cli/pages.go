package cli

import (
	"encoding/json"
	"html/template"
	"io"
	"net/http"
	"time"

	"github.com/weirline/weirline/engine"
)

func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "ok\n") //nolint:errcheck // the client has gone
}

// readiness is what /readyz answers.
type readiness struct {
	Ready             bool       `json:"ready"`
	Reason            string     `json:"reason"`
	Job               string     `json:"job"`
	Phase             string     `json:"phase"`
	Restarts          int64      `json:"restarts"`
	LastCheckpoint    *time.Time `json:"last_checkpoint"`
	LastCheckpointAge *float64   `json:"last_checkpoint_age_seconds"`
	LastError         string     `json:"last_error,omitempty"`
}

// ready judges a status: a job that runs is ready, however old its last checkpoint is; that is for alerts to decide.
func ready(job string, st engine.Status, now time.Time) readiness {
	r := readiness{Job: job, Phase: st.Phase, Restarts: st.Restarts, LastError: st.LastError}
	if st.Phase == "" {
		r.Phase = "starting"
	}
	if at := st.Epochs.LastAt; !at.IsZero() {
		age := max(0, now.Sub(at).Seconds())
		r.LastCheckpoint, r.LastCheckpointAge = &at, &age
	}
	switch r.Phase {
	case "running":
		r.Ready, r.Reason = true, "the job is running"
	case "starting":
		r.Reason = "the job is being started"
	case "restarting":
		r.Reason = "a task failed and the job is about to be restarted"
	case "stopping":
		r.Reason = "the job is stopping"
	default:
		r.Reason = "the job has ended"
	}
	return r
}

// statusOf is the job's status without secrets: errors are the only text in it that isn't a name.
func (c *command) statusOf(p *engine.Pipeline) engine.Status {
	st := p.Status()
	st.LastError = c.red.text(st.LastError)
	for i := range st.Failures {
		st.Failures[i].Error = c.red.text(st.Failures[i].Error)
	}
	for i := range st.Regions {
		st.Regions[i].LastFailure.Error = c.red.text(st.Regions[i].LastFailure.Error)
	}
	return st
}

func (c *command) readyz(p *engine.Pipeline) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		r := ready(c.app.Name, c.statusOf(p), time.Now())
		code := http.StatusServiceUnavailable
		if r.Ready {
			code = http.StatusOK
		}
		writeJSON(w, code, r)
	}
}

// statusPage is whole in itself: no script, no image, nothing from elsewhere.
var statusPage = template.Must(template.New("status").Parse(`<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{{.Ready.Job}}</title>
<style>body{font:15px sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #bbb;padding:.3em .7em;text-align:left}td.n{text-align:right}</style>
</head><body>
<h1>{{.Ready.Job}}: {{.Ready.Phase}}</h1>
<p>Started {{.Status.Began.Format "2006-01-02 15:04:05 MST"}}, {{.Status.Restarts}} restarts, parallelism {{.Status.Parallelism}}.
{{with .Ready.LastError}}Last error: <code>{{.}}</code>{{end}}</p>
<p>Checkpoints: {{.Status.Epochs.Completed}} complete, {{.Status.Epochs.Failed}} failed, the last is {{.Status.Epochs.Last}}{{with .Ready.LastCheckpointAge}}, {{printf "%.1f" .}} s ago{{end}}, {{.Status.Uncommitted}} transactions uncommitted.</p>
<table><tr><th>Task</th><th>Operator</th><th>Records</th><th>Watermark</th><th>Queued</th><th>Blocked</th><th>Late</th><th>Bad</th></tr>
{{range .Status.Tasks}}{{$t := .}}{{range .Operators}}<tr><td>{{$t.Name}}/{{$t.Index}}</td><td>{{.Name}}</td><td class="n">{{.In}}</td>
<td>{{if not $t.Watermark.IsZero}}{{$t.Watermark.Format "2006-01-02 15:04:05.000"}}{{end}}</td><td class="n">{{$t.Queued}}</td><td class="n">{{$t.Blocked}}</td><td class="n">{{$t.Late}}</td><td class="n">{{$t.Poison}}</td></tr>
{{end}}{{end}}</table>
<table><tr><th>Task</th><th>Does</th><th>Operator</th><th>For</th><th>Waits for</th></tr>
{{range .Status.Tasks}}<tr><td>{{.Name}}/{{.Index}}</td><td>{{.State}}</td><td>{{.Running}}</td><td class="n">{{.Still}}</td><td>{{.WaitsFor}}</td></tr>
{{end}}</table>
{{with .Status.Failures}}<table><tr><th>Failed</th><th>Region</th><th>Task</th><th>Operator</th><th>Down</th><th>Again from checkpoint</th><th>Error</th></tr>
{{range .}}<tr><td>{{.At.Format "2006-01-02 15:04:05.000"}}</td><td>{{.Region}}</td><td>{{.Task}}</td><td>{{.Operator}}</td><td class="n">{{.Down}}</td><td class="n">{{.Epoch}}</td><td><code>{{.Error}}</code></td></tr>
{{end}}</table>{{end}}
<table><tr><th>From</th><th>To</th><th>Guarantee</th><th>Why</th><th>Limited by</th></tr>
{{range .Plan.Guarantees}}<tr><td>{{range .Sources}}{{.}} {{end}}</td><td>{{.Sink}}</td><td>{{.Promise}}</td><td>{{.Why}}</td><td>{{.Limit}}</td></tr>
{{end}}</table>
</body></html>
`))

// statusJSON is engine.Status as it is, for programs.
func (c *command) statusJSON(p *engine.Pipeline) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, c.statusOf(p)) }
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, "encode", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	io.WriteString(w, string(b)+"\n") //nolint:errcheck // the client has gone
}

func (c *command) status(p *engine.Pipeline, pl engine.Plan) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		st := c.statusOf(p)
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		w.Header().Set("Cache-Control", "no-store")
		err := statusPage.Execute(w, struct {
			Ready  readiness
			Status engine.Status
			Plan   engine.Plan
		}{ready(c.app.Name, st, time.Now()), st, pl})
		if err != nil {
			c.log.Debug("write status page", "error", err)
		}
	}
}
