package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirline/weirline/deadletter"
	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/sink"
)

// deadVerbs are the second words of the command dlq.
var deadVerbs = []verb{
	{name: "dlq ls", args: "[-operator NAME] [-cause REGEXP] [-since TIME] [-until TIME] [-json]", do: (*command).dlqList},
	{name: "dlq show", args: "[N] [-operator NAME] [-cause REGEXP] [-since TIME] [-until TIME] [-json]", most: 1, do: (*command).dlqShow},
	{name: "dlq replay", args: "-operator NAME -refused FILE [-cause REGEXP] [-since TIME] [-until TIME] [-dry-run]", do: (*command).dlqReplay},
}

// deadFlags are the flags of the command dlq.
type deadFlags struct {
	letters, cause, since, until, refused string
	dryRun                                bool
}

func dlqFlags(o *options, fs *flag.FlagSet) {
	d := &o.dead
	fs.StringVar(&d.letters, "letters", "", "dlq: a `path`, directory or file, with dead letters as JSON lines; empty = where this binary says")
	fs.StringVar(&o.operator, "operator", "", "dlq: only letters of the operator of this `name`")
	fs.StringVar(&d.cause, "cause", "", "dlq: only letters whose cause this `regexp` matches")
	fs.StringVar(&d.since, "since", "", "dlq: only letters found at this `time` or later, as 2026-01-31T15:04:05Z, or so long ago, as 2h")
	fs.StringVar(&d.until, "until", "", "dlq: only letters found before this `time`, given as -since")
	fs.StringVar(&d.refused, "refused", "", "dlq replay: the `file` that takes letters of records that are refused again")
	fs.BoolVar(&d.dryRun, "dry-run", false, "dlq replay: only count")
	fs.BoolVar(&o.json, "json", false, "dlq ls, dlq show: print JSON")
}

// dlq looks at dead letters, or writes them again.
func (c *command) dlq(ctx context.Context, args []string) error {
	v, err := sub(deadVerbs, args)
	if err != nil {
		return err
	}
	return v.do(c, ctx, args[1:])
}

// letters are where the flag or the binary says, and what to choose of them.
func (c *command) letters(ctx context.Context) (from deadletter.Log, f deadletter.Filter, err error) {
	f.Operator = c.opts.operator
	d := c.opts.dead
	if d.cause != "" {
		if f.Cause, err = regexp.Compile(d.cause); err != nil {
			return nil, f, fault.Wrap(fault.Usage, err, "flag -cause")
		}
	}
	if f.Since, err = moment("since", d.since, time.Now()); err == nil {
		f.Until, err = moment("until", d.until, time.Now())
	}
	switch {
	case err != nil:
		return nil, f, err
	case d.letters != "":
		return deadletter.Files{Path: d.letters}, f, nil
	case c.app.DeadLetters == nil:
		return nil, f, fault.New(fault.Usage, "this binary doesn't know where its dead letters lie").
			WithFix("give -letters and the directory they are written to, or set App.DeadLetters")
	}
	from, err = c.app.DeadLetters(ctx, c.env)
	return from, f, err
}

// moment reads a time, or how long ago it was.
func moment(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, fault.Wrap(fault.Usage, err, "flag -%s", name).WithFix("give a time as 2026-01-31T15:04:05Z, or a duration as 2h for so long ago")
	}
	return at, nil
}

// deadGroup is the letters of one operator that have one cause.
type deadGroup struct {
	Operator string    `json:"operator"`
	Cause    string    `json:"cause"`
	Letters  int       `json:"letters"`
	Replayed int       `json:"replayed"` // of these, written again
	First    time.Time `json:"first"`
	Last     time.Time `json:"last"`
}

// deadGroups counts letters by operator and cause.
type deadGroups struct {
	from     deadletter.Log
	groups   map[[2]string]*deadGroup
	replayed map[string]func(deadletter.Place) bool // by operator
}

func (d *deadGroups) add(ctx context.Context, at deadletter.Place, l deadletter.Letter) (err error) {
	if d.replayed[l.Operator] == nil {
		if d.replayed[l.Operator], err = deadletter.Replayed(ctx, d.from, l.Operator); err != nil {
			return err
		}
	}
	key := [2]string{l.Operator, l.Cause}
	g := d.groups[key]
	if g == nil {
		g = &deadGroup{Operator: l.Operator, Cause: l.Cause, First: l.Found, Last: l.Found}
		d.groups[key] = g
	}
	g.Letters++
	if d.replayed[l.Operator](at) {
		g.Replayed++
	}
	if l.Found.Before(g.First) {
		g.First = l.Found
	}
	if l.Found.After(g.Last) {
		g.Last = l.Found
	}
	return nil
}

// list has the operators in order, and of each what is most frequent first.
func (d *deadGroups) list() []deadGroup {
	out := []deadGroup{}
	for _, g := range d.groups {
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b deadGroup) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(b.Letters, a.Letters), cmp.Compare(a.Cause, b.Cause))
	})
	return out
}

func (c *command) dlqList(ctx context.Context, _ []string) error {
	from, filter, err := c.letters(ctx)
	if err != nil {
		return err
	}
	d := &deadGroups{from: from, groups: map[[2]string]*deadGroup{}, replayed: map[string]func(deadletter.Place) bool{}}
	err = from.Scan(ctx, func(at deadletter.Place, l deadletter.Letter) error {
		if !filter.Takes(l) {
			return nil
		}
		return d.add(ctx, at, l)
	})
	if err != nil {
		return err
	}
	return c.sayGroups(from, d.list())
}

func (c *command) sayGroups(from deadletter.Log, list []deadGroup) error {
	if c.opts.json {
		data, err := json.MarshalIndent(list, "", "  ")
		if err != nil {
			return err
		}
		return c.say("%s", data)
	}
	if len(list) == 0 {
		return c.say("no dead letters are chosen in %s", from)
	}
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "operator\tletters\treplayed\tfirst\tlast\tcause")
	for _, g := range list {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", g.Operator, g.Letters, g.Replayed, g.First.Format(time.RFC3339), g.Last.Format(time.RFC3339), printable(g.Cause))
	}
	w.Flush() //nolint:errcheck // into memory
	return c.say("%s", strings.TrimSuffix(b.String(), "\n"))
}

// errEnough ends a scan.
var errEnough = errors.New("enough letters")

// dlqShow prints the first letters that are chosen, with all that is known of them.
func (c *command) dlqShow(ctx context.Context, args []string) error {
	most := 10
	if len(args) > 0 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 1 {
			return fault.New(fault.Usage, "dlq show %s: this is no number of letters", args[0]).WithFix("give a number from 1")
		}
		most = n
	}
	from, filter, err := c.letters(ctx)
	if err != nil {
		return err
	}
	shown := 0
	err = from.Scan(ctx, func(at deadletter.Place, l deadletter.Letter) error {
		switch {
		case !filter.Takes(l):
			return nil
		case shown == most:
			return errEnough
		}
		shown++
		data, err := json.Marshal(l)
		if err != nil {
			return err
		}
		if c.opts.json {
			return c.say("%s", data)
		}
		return c.say("%s", letterText(at, data))
	})
	switch {
	case errors.Is(err, errEnough):
		return nil
	case err == nil && shown == 0 && !c.opts.json:
		return c.say("no dead letters are chosen in %s", from)
	}
	return err
}

// letterText is a letter's JSON, a field a line in its order.
func letterText(at deadletter.Place, data []byte) string {
	var b strings.Builder
	fmt.Fprintf(&b, "letter %d of %s\n", at.N, at.Part)
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.UseNumber()
	dec.Token() //nolint:errcheck // the brace of what was marshalled just now
	for dec.More() {
		name, _ := dec.Token()
		value, _ := dec.Token()
		fmt.Fprintf(&b, "  %-9v %s\n", name, printable(fmt.Sprint(value)))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// dlqReplay writes the letters of a sink's operator through that sink again.
func (c *command) dlqReplay(ctx context.Context, _ []string) error {
	op := c.opts.operator
	if op == "" || c.opts.dead.refused == "" && !c.opts.dead.dryRun {
		return fault.New(fault.Usage, "dlq replay: -operator or -refused is missing").
			WithFix("say whose letters to write again, and the file that takes those that are refused again")
	}
	from, filter, err := c.letters(ctx)
	if err != nil {
		return err
	}
	p, err := c.build(ctx)
	if err != nil {
		return err
	}
	now, out := p.Outlet(op)
	if out == nil {
		return fault.New(fault.DeadLetters, "the pipeline has no sink %q", op).
			WithFix("give the name of a sink: letters of other operators can be looked at, and their records must be read once more from the source")
	}
	job := p.Plan().Job
	refused := &refusedFile{name: c.opts.dead.refused}
	if !c.opts.dead.dryRun {
		if err := refused.open(from); err != nil {
			return err
		}
	}
	res, err := deadletter.Replay{
		From: from, Operator: op, Filter: filter, To: out, DryRun: c.opts.dead.dryRun, Refused: refused.keep,
		Task: sink.Task{Job: job, Operator: now, Parallelism: 1, Log: c.log.With("operator", now), Metrics: new(losses), Request: func() {}},
		Slot: cmp.Or(store.PrefixOf(job), job) + "-" + now + "-dlq",
	}.Run(ctx)
	err = errors.Join(err, refused.close())
	if said := c.sayReplayed(res); err == nil {
		return said
	}
	return err
}

func (c *command) sayReplayed(res deadletter.Result) error {
	var b strings.Builder
	if res.Finished > 0 {
		fmt.Fprintf(&b, "committed first what an earlier replay had left: %d letters\n", res.Finished)
	}
	verb := "written again"
	if c.opts.dead.dryRun {
		verb = "would be written again"
	}
	fmt.Fprintf(&b, "%d letters chosen: %d %s, %d refused again, %d were written before, %d can't be written", res.Chosen, res.Sent, verb,
		res.Refused, res.Before, res.Unreadable)
	if res.Refused > 0 {
		fmt.Fprintf(&b, "\nrefused again: their letters are in %s, and count as written", c.opts.dead.refused)
	}
	if res.Why != nil {
		fmt.Fprintf(&b, "\nthe first that can't be written: %s", printable(res.Why.Error()))
	}
	return c.say("%s", b.String())
}

// refusedFile takes letters as JSON lines. It is made when the first one comes.
type refusedFile struct {
	name string
	f    *os.File
	made bool
	any  bool
}

// open makes sure that the file can be written, and isn't read as letters at the same time.
func (r *refusedFile) open(from deadletter.Log) (err error) {
	if files, ok := from.(deadletter.Files); ok {
		at, err1 := filepath.Abs(files.Path)
		to, err2 := filepath.Abs(r.name)
		rel, err3 := filepath.Rel(at, to)
		if errors.Join(err1, err2, err3) == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return fault.New(fault.Usage, "the file -refused=%s lies among the letters that are written again", r.name).WithFix("give a file elsewhere")
		}
	}
	_, err = os.Stat(r.name)
	r.made = errors.Is(err, os.ErrNotExist)
	if r.f, err = os.OpenFile(r.name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return fault.Wrap(fault.Usage, err, "flag -refused").WithFix("give a file in a directory that exists and that this user may write to")
	}
	return nil
}

// keep returns when the letters are on the disk.
func (r *refusedFile) keep(ls []deadletter.Letter) error {
	r.any = true
	for _, l := range ls {
		data, err := json.Marshal(l)
		if err != nil {
			return err
		}
		if _, err := r.f.Write(append(data, '\n')); err != nil {
			return err
		}
	}
	return r.f.Sync()
}

// close removes a file that was made for nothing.
func (r *refusedFile) close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	if r.made && !r.any {
		err = errors.Join(err, os.Remove(r.name))
	}
	return err
}
