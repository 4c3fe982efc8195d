// Package cli gives every pipeline binary its face: flags with environment twins, signals, exit codes, logs, a plan on
// paper, checks before a start, and HTTP for probes and metrics.
//
//	func main() {
//		cli.Main("hits", func(_ context.Context, e *cli.Env) (*engine.Pipeline, error) {
//			p := engine.New(e.Config)
//			lines := engine.From(p, "log", files.Source[string]{Paths: []string{"logs"}, Decode: files.Text})
//			...
//			return p, nil
//		})
//	}
//
// A binary with flags, secrets or pages of its own fills an App instead.
//
// # Order of calls
//
// Main parses the flags and then, for those not given, the environment: flag -log-level of "hits" is HITS_LOG_LEVEL. Empty
// variables count as absent. Then App.Before, App.Build, the check of the pipeline, App.Handlers if HTTP is wanted,
// Pipeline.Run, App.After. With -plan and -check neither Before nor After is called, and Build should do no I/O.
// Main doesn't return: it ends the process with an exit code.
//
// The other commands speak to the running job over a socket in its state directory (status, savepoint, stop, rescale), or look at
// what is stored without running anything: checkpoint, and txn, which also asks the sinks' committers what a dead job left in
// their destinations. For txn, Build is called as for -check. dlq looks at dead letters, where -letters or App.DeadLetters says, and
// writes those of a sink through it again; for dlq replay Build is called too.
//
// # Signals and exit codes
//
// The first SIGINT or SIGTERM suspends the job: what is in flight is processed, one last checkpoint is taken, and the same
// command goes on from there. The second ends the process at once.
//
//	0    the input has ended, or the job was suspended or drained
//	1    the job failed
//	2    the command line or the configuration is wrong; nothing was started
//	3    another copy holds the state directory, or has taken over the state
//	130  a second signal came
//
// What went wrong is printed once, to standard error, as "error: WL1501: ...; fix: ...".
//
// # Secrets
//
// A secret comes from the environment or from a file, never from the command line, which everybody on the machine can
// read. Secret prints as "[redacted]" in every format, and its value is cut out of all the package writes: logs, errors,
// plans, pages of its own. Values shorter than four bytes are too common in text to be cut out.
//
// # HTTP
//
// -addr turns it on: /healthz while the process lives, /readyz (503 unless the job is running) with a reason in JSON,
// /status for people and /status.json for programs, both with the last failures, /debug/pprof/ with -pprof, and what
// App.Handlers adds, such as prom.Handler. An address without a host means 127.0.0.1. There is no authentication.
package cli
