package cli

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// options are the flags every binary has.
type options struct {
	state        string
	parallelism  int
	checkpoint   time.Duration
	mode         string
	unaligned    time.Duration
	backlog      time.Duration
	timeout      time.Duration
	atOnce       int
	memory       int64
	retain       int
	dropAtEnd    bool
	addr         string
	logLevel     slog.Level
	logFormat    string
	plan         string
	check        bool
	version      bool
	drain        bool
	fallback     bool
	allowDropped bool
	pprof        bool
	from         string
	rewind       bool
	takeOver     bool

	savepoint string // stop
	json      bool   // status, txn, dlq
	at        string // checkpoint
	entries   bool   // checkpoint diff
	operator  string // checkpoint export, dlq
	stateName string // checkpoint export
	all       byHand // txn commit, txn abort
	force     byHand // the same
	dead      deadFlags
}

func (o *options) declare(fs *flag.FlagSet, a App) {
	state := cmp.Or(a.State, a.Name+".state")
	if state == "none" {
		state = ""
	}
	fs.StringVar(&o.state, "state", state, "state `directory`; -state= stores nothing, so that each run begins anew")
	fs.IntVar(&o.parallelism, "parallelism", 0, "`tasks` of each operator; 0 = one a processor")
	fs.DurationVar(&o.checkpoint, "checkpoint", 10*time.Second, "`time` between checkpoints; negative = only at ends and stops")
	choice(fs, &o.mode, "checkpoint-mode", "exactly-once",
		"`mode`: exactly-once, unaligned (queued records may be stored with the checkpoint), "+
			"at-least-once (no channel waits for another; a restart counts some records twice)",
		"exactly-once", "unaligned", "at-least-once")
	fs.DurationVar(&o.unaligned, "unaligned-after", 0, "`time` after which barriers overtake queued records, with -checkpoint-mode=unaligned")
	fs.DurationVar(&o.backlog, "checkpoint-backlog", 0, "`time` between checkpoints while a source reads backlog; 0 = as -checkpoint, negative = none")
	fs.DurationVar(&o.timeout, "checkpoint-timeout", 0, "`time` a checkpoint may take; 0 = 10m")
	fs.IntVar(&o.atOnce, "checkpoints-at-once", 0, "`number` of checkpoints under way at once; 0 = 1")
	fs.IntVar(&o.retain, "retain", 0, "`number` of complete checkpoints that are kept; 0 = 3")
	fs.BoolVar(&o.dropAtEnd, "drop-at-end", false, "delete all checkpoints when the job has finished or was drained")
	fs.Int64Var(&o.memory, "memory", 0, "`MiB` that all queues together may hold; 0 = 1 MiB each")
	fs.StringVar(&o.addr, "addr", a.Addr, "`address` of HTTP (probes, metrics); without a host 127.0.0.1, empty = no HTTP")
	fs.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "`level`: debug, info, warn, error")
	choice(fs, &o.logFormat, "log-format", "text", "`format` of the log: text, json", "text", "json")
	choice(fs, &o.plan, "plan", "", "print the plan and exit; `format`: dot, json, text", "dot", "json", "text")
	fs.BoolVar(&o.check, "check", false, "check the pipeline and its connections, print its guarantees, and exit")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	fs.BoolVar(&o.drain, "drain", false, "resume, read nothing more, let all windows fire, and end")
	fs.BoolVar(&o.fallback, "fallback", false, "if the newest checkpoint is damaged, resume from the newest one that is whole")
	fs.BoolVar(&o.allowDropped, "allow-dropped", false, "leave behind state of operators that the pipeline no longer has")
	fs.StringVar(&o.from, "from", "", "begin from a savepoint's `place`, or epoch:N for a retained checkpoint; once, later runs go on from there")
	fs.BoolVar(&o.rewind, "rewind", false, "with -from: go back behind newer checkpoints; what was done since appears again")
	fs.BoolVar(&o.takeOver, "take-over", false, "with -from in an empty -state: clear what the job that wrote the savepoint left open; it must be gone for good")
	fs.BoolVar(&o.pprof, "pprof", false, "serve /debug/pprof/ on -addr")
}

// clashes says which of the binary's own flags have names that its commands need, those of commands not given now too.
func (a App) clashes(own *flag.FlagSet) error {
	var names []string
	var o options
	look := func(declare func(fs *flag.FlagSet)) {
		common := flag.NewFlagSet(a.Name, flag.ContinueOnError)
		declare(common)
		common.VisitAll(func(f *flag.Flag) {
			if own.Lookup(f.Name) != nil && !slices.Contains(names, "-"+f.Name) {
				names = append(names, "-"+f.Name)
			}
		})
	}
	look(func(fs *flag.FlagSet) { o.declare(fs, a) })
	for _, v := range verbs {
		if v.flags != nil {
			look(func(fs *flag.FlagSet) { v.flags(&o, fs) })
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fault.New(fault.BadPipeline, "App.Flags declares %s, which every pipeline binary has already", strings.Join(names, ", ")).
		WithFix("give the binary's own flag another name; -help of a binary without App.Flags lists those that are taken")
}

// choiceFlag is one of a few words.
type choiceFlag struct {
	to    *string
	words []string
}

func choice(fs *flag.FlagSet, to *string, name, value, usage string, words ...string) {
	*to = value
	fs.Var(&choiceFlag{to: to, words: words}, name, usage)
}

func (c *choiceFlag) String() string {
	if c.to == nil {
		return ""
	}
	return *c.to
}

func (c *choiceFlag) Set(s string) error {
	if !slices.Contains(c.words, s) {
		return fmt.Errorf("choose one of %s", strings.Join(c.words, ", "))
	}
	*c.to = s
	return nil
}

// validate finds what single flags can't know.
func (o *options) validate() error {
	switch {
	case o.parallelism < 0:
		return fault.New(fault.Usage, "flag -parallelism is %d", o.parallelism).WithFix("give a number from 1, or 0 for one task a processor")
	case o.timeout < 0 || o.atOnce < 0 || o.retain < 0:
		return fault.New(fault.Usage, "flags -checkpoint-timeout, -checkpoints-at-once and -retain are %v, %d and %d", o.timeout, o.atOnce, o.retain).
			WithFix("give times and numbers above 0, or 0 for the default")
	case o.memory < 0 || o.memory > 1<<40:
		return fault.New(fault.Usage, "flag -memory is %d", o.memory).WithFix("give a number of MiB, or 0 for no bound of all queues together")
	case o.unaligned != 0 && o.mode != "unaligned":
		return fault.New(fault.Usage, "flag -unaligned-after is given, and -checkpoint-mode is %s", o.mode).WithFix("give -checkpoint-mode=unaligned as well")
	case o.checkpoint == 0:
		return fault.New(fault.Usage, "flag -checkpoint is 0").WithFix("give a time such as 10s, or -1s for no periodic checkpoints")
	case o.plan != "" && o.check:
		return fault.New(fault.Usage, "flags -plan and -check exclude each other").WithFix("give one of them")
	case o.from != "" && o.state == "":
		return fault.New(fault.Usage, "flag -from needs a state directory").WithFix("give -state as well")
	case o.from == "" && (o.rewind || o.takeOver):
		return fault.New(fault.Usage, "flags -rewind and -take-over need -from").WithFix("give -from as well")
	case o.pprof && o.addr == "":
		return fault.New(fault.Usage, "flag -pprof needs HTTP").WithFix("give -addr as well")
	}
	return nil
}

// parse sets the flags from the arguments, and from the environment those that aren't given. It returns the arguments that
// aren't flags, which may stand anywhere.
func (a App) parse(fs *flag.FlagSet, pr process, hide func(string)) (rest []string, err error) {
	fs.SetOutput(io.Discard)
	var secrets []*secretFlag
	fs.VisitAll(func(f *flag.Flag) {
		if v, ok := f.Value.(*secretFlag); ok {
			v.hide = hide
			secrets = append(secrets, v)
		}
	})
	for args := pr.args; ; args = fs.Args()[1:] {
		if err := fs.Parse(args); err != nil {
			for _, v := range secrets {
				if v.err != nil { // package flag's own error would show the value
					return nil, v.err
				}
			}
			return nil, usageError(fs, err)
		}
		if fs.NArg() == 0 {
			break
		}
		rest = append(rest, fs.Arg(0))
	}
	for _, v := range secrets {
		v.fromEnv = true
	}
	return rest, a.parseEnv(fs, pr.env)
}

// parseEnv sets the flags that weren't given from their twins. A binary's environment may well have a variable that ends
// in VERSION, so -version has no twin.
func (a App) parseEnv(fs *flag.FlagSet, env func(string) (string, bool)) error {
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var errs []error
	fs.VisitAll(func(f *flag.Flag) {
		name := a.twin(f.Name)
		value, ok := env(name)
		if given[f.Name] || !hasTwin(f) || !ok || value == "" {
			return
		}
		if err := fs.Set(f.Name, value); err != nil {
			if fault.CodeOf(err) == "" {
				err = fault.Wrap(fault.Usage, err, "invalid value %q", value)
			}
			errs = append(errs, fault.At(err, "environment variable "+name))
		}
	})
	return errors.Join(errs...)
}

// twin is the environment variable of a flag.
func (a App) twin(flagName string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, a.Name+"_"+flagName)
}

// hasTwin says whether a flag can be set by the environment.
func hasTwin(f *flag.Flag) bool {
	_, by := f.Value.(*byHand)
	return f.Name != "version" && !by
}

// byHand is a flag for the command line alone: what overrides a refusal must be meant each time.
type byHand bool

func (b *byHand) String() string   { return strconv.FormatBool(bool(*b)) }
func (b *byHand) IsBoolFlag() bool { return true }

func (b *byHand) Set(s string) error {
	v, err := strconv.ParseBool(s)
	*b = byHand(v)
	return err
}

// usageError gives an error of package flag its code, and an unknown flag the name that was perhaps meant.
func usageError(fs *flag.FlagSet, err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	out := fault.New(fault.Usage, "%s", err.Error())
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		out = fault.New(fault.Usage, "there is no flag -%s", name)
		if near := nearest(fs, name); near != "" {
			out = out.WithFix("did you mean -%s? See -help for all flags", near)
		}
	}
	return out
}

// nearest is the flag whose name is most like name; "" if none is.
func nearest(fs *flag.FlagSet, name string) string {
	best, least := "", max(2, len(name)/3)+1
	fs.VisitAll(func(f *flag.Flag) {
		d := distance(strings.ToLower(name), f.Name)
		if strings.HasPrefix(f.Name, name) && len(name) > 1 {
			d = 1
		}
		if d < least {
			best, least = f.Name, d
		}
	})
	return best
}

// distance is the number of letters to insert, delete or replace.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// help is the text of -help.
func (a App) help(fs *flag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [command] [flags]\n", a.Name)
	if a.About != "" {
		fmt.Fprintf(&b, "\n%s\n", a.About)
	}
	b.WriteString(usageOfVerbs())
	b.WriteString("\nFlags, with their environment variables:\n")
	fs.VisitAll(func(f *flag.Flag) {
		arg, usage := flag.UnquoteUsage(f)
		if _, ok := f.Value.(*secretFlag); ok {
			arg, usage = "@file", usage+" (secret)"
		}
		fmt.Fprintf(&b, "  %s\n    \t%s", strings.TrimSpace("-"+f.Name+" "+arg), usage)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			fmt.Fprintf(&b, " (default %s)", f.DefValue)
		}
		if hasTwin(f) {
			fmt.Fprintf(&b, " [%s]", a.twin(f.Name))
		}
		b.WriteString("\n")
	})
	b.WriteString("\nExit codes: 0 done or suspended, 1 failed, 2 usage or configuration, 3 the state is held or was taken over by\n" +
		"another copy, 130 second signal.\n")
	return b.String()
}
