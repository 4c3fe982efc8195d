package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/weirline/weirline/engine/store"
	"github.com/weirline/weirline/internal/fault"
)

const manyArgs = 1 << 20

// finishes are the second words of the command txn.
var finishes = []verb{
	{name: "txn list", args: "[NAME...] [-json]", most: manyArgs, do: (*command).txnList},
	{name: "txn explain", args: "[NAME...] [-json]", most: manyArgs, do: (*command).txnExplain},
	{name: "txn commit", args: "NAME...|-all [-force]", most: manyArgs, do: (*command).txnCommit},
	{name: "txn abort", args: "NAME...|-all [-force]", most: manyArgs, do: (*command).txnAbort},
}

func txnFlags(o *options, fs *flag.FlagSet) {
	fs.BoolVar(&o.json, "json", false, "txn list, txn explain: print JSON")
	fs.Var(&o.all, "all", "txn commit, txn abort: each transaction for which that is right")
	fs.Var(&o.force, "force", "txn commit, txn abort: also what loses records or writes some twice, and while the state is held")
}

// txn looks at what a dead job left, and finishes it.
func (c *command) txn(ctx context.Context, args []string) error {
	v, err := sub(finishes, args)
	if err != nil {
		return err
	}
	return v.do(c, ctx, args[1:])
}

// look finds what is left. Destinations that don't answer are an error beside what the checkpoints say.
func (c *command) look(ctx context.Context, names []string) (left []leftover, job string, err error) {
	p, err := c.build(ctx)
	if err != nil {
		return nil, "", err
	}
	st, err := c.openWhole()
	if err != nil {
		return nil, "", err
	}
	defer st.Close()
	s, err := c.survey(p, st)
	if err != nil {
		return nil, "", err
	}
	defer s.close()
	unasked := s.find(ctx)
	if by := c.runs(ctx, st); by != "" {
		for i := range s.left {
			s.left[i].Action, s.left[i].Why = leave, by+": it finishes this itself"
		}
	}
	left, err = pick(s.left, names)
	return left, s.job, errors.Join(err, unasked)
}

// runs says how it is known that the job lives, "" if nothing says so. It asks the command socket and not the lock, which a job
// that is just starting would then find taken.
func (c *command) runs(ctx context.Context, st store.Store) string {
	if dir := c.env.Config.Dir; dir != "" {
		conn, err := dialFor(ctx, dir, 0)
		if err != nil {
			return ""
		}
		conn.Close()
		return "the job is running"
	}
	if who := holder(st); who != "" {
		return "the job is perhaps running (" + who + ")"
	}
	return ""
}

// holder is who has the claim of a store without locks, and may have died with it.
func holder(st store.Store) string {
	if h, ok := st.(interface{ Holder() string }); ok {
		return h.Holder()
	}
	return ""
}

// pick is those with the names, all if there is none.
func pick(left []leftover, names []string) (out []leftover, err error) {
	if len(names) == 0 {
		return left, nil
	}
	for _, name := range names {
		i := slices.IndexFunc(left, func(l leftover) bool { return l.Name == name })
		if i < 0 {
			return nil, fault.New(fault.Usage, "nothing is left of a transaction %q", name).WithFix("see txn list")
		}
		out = append(out, left[i])
	}
	return out, nil
}

func (c *command) txnList(ctx context.Context, args []string) error {
	return c.showLeft(ctx, args, listText)
}

func (c *command) txnExplain(ctx context.Context, args []string) error {
	return c.showLeft(ctx, args, explainText)
}

// showLeft prints what is left; what couldn't be asked is an error beside it.
func (c *command) showLeft(ctx context.Context, names []string, text func([]leftover) string) error {
	left, job, err := c.look(ctx, names)
	switch {
	case len(left) == 0 && err != nil:
		return err
	case c.opts.json:
		return errors.Join(c.sayJSON(left), err)
	case len(left) == 0:
		return c.say("nothing is left of job %s: all that its checkpoints hold is committed, and its destinations hold nothing else", job)
	}
	return errors.Join(c.say("%s", strings.TrimSuffix(text(left), "\n")), err)
}

func listText(left []leftover) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "state\tepoch\tage\toperator\tto do\ttransaction")
	for _, l := range left {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", l.State, epochText(l.Epoch), ageText(l.age), l.Operator, l.Action, l.Name)
	}
	w.Flush() //nolint:errcheck // into memory
	return b.String()
}

func explainText(left []leftover) string {
	var b strings.Builder
	for _, l := range left {
		fmt.Fprintf(&b, "%s\n  made by operator %s in slot %s", l.Name, l.Operator, l.Slot)
		if l.Epoch > 0 {
			fmt.Fprintf(&b, " for epoch %d", l.Epoch)
		}
		if l.age > 0 {
			fmt.Fprintf(&b, ", %s ago", ageText(l.age))
		}
		fmt.Fprintf(&b, "\n  %s: %s\n", l.Action, l.Why)
	}
	return b.String()
}

func (c *command) sayJSON(left []leftover) error {
	if left == nil {
		left = []leftover{}
	}
	b, err := json.MarshalIndent(left, "", "  ")
	if err != nil {
		return err
	}
	return c.say("%s", b)
}

func epochText(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func ageText(d time.Duration) string {
	switch {
	case d <= 0:
		return "-"
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (c *command) txnCommit(ctx context.Context, args []string) error {
	return c.finish(ctx, args, commit)
}

func (c *command) txnAbort(ctx context.Context, args []string) error {
	return c.finish(ctx, args, abort)
}

// finish commits or aborts what is named, or all for which that is right, with the state's claim in hand.
func (c *command) finish(ctx context.Context, names []string, do string) error {
	if bool(c.opts.all) == (len(names) > 0) {
		return fault.New(fault.Usage, "txn %s: give names of transactions or -all", do).WithFix("see txn list")
	}
	p, err := c.build(ctx)
	if err != nil {
		return err
	}
	st, owned, err := c.claim(p.Plan().Job)
	if err != nil {
		return err
	}
	defer st.Close()
	s, err := c.survey(p, st)
	if err != nil {
		return err
	}
	defer s.close()
	unasked := s.find(ctx)
	todo, err := pick(s.left, names)
	if err != nil {
		return errors.Join(err, unasked)
	}
	if c.opts.all {
		todo = slices.DeleteFunc(todo, func(l leftover) bool { return l.Action != do })
	}
	for _, l := range todo {
		if err := l.refuses(do, bool(c.opts.force)); err != nil {
			return err
		}
	}
	for _, l := range todo {
		if err := c.finishOne(ctx, s, l, do, owned); err != nil {
			return errors.Join(err, unasked)
		}
	}
	if len(todo) == 0 && unasked == nil {
		return c.say("nothing to %s", do)
	}
	return unasked
}

// claim opens the state as the job's own, so that none can start meanwhile. If it is held and that is to be overridden, it is only
// looked at: owned is false.
func (c *command) claim(job string) (st store.Store, owned bool, err error) {
	if st, err = c.openWhole(); err != nil { // there is one, and this is no reason to make it
		return nil, false, err
	}
	if who := holder(st); who != "" && !c.opts.force {
		return nil, false, errors.Join(st.Close(), fault.New(fault.ClaimHeld, "the state was never given back: %s", who).
			WithFix("make sure that this process is dead, then give -force, which takes the state over; or start the job, which does what is right"))
	}
	if err := st.Close(); err != nil {
		return nil, false, err
	}
	st, err = c.openStored(store.Options{Job: job, Retain: -1, Log: c.log, Salvage: c.opts.fallback})
	if fault.CodeOf(err) != fault.ClaimHeld.ID {
		return st, true, err
	}
	if !c.opts.force {
		return nil, false, err
	}
	c.log.Warn("the state is held by a process that lives; what is done now isn't recorded there", "error", err)
	st, err = c.openWhole()
	return st, false, err
}
