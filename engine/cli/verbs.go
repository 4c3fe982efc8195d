package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/weirline/weirline/internal/fault"
)

// verb is a command: the word that stands first on the command line.
type verb struct {
	name  string
	args  string // for its usage
	about string
	least int // arguments
	most  int
	subs  []verb                             // what its second word may be
	flags func(o *options, fs *flag.FlagSet) // its own, beside those of every binary; nil = none
	do    func(c *command, ctx context.Context, args []string) error
}

// verbs is the table of commands. The first is meant when there is none.
var verbs = []verb{
	{name: "run", about: "run the pipeline; meant when no command is given", do: (*command).run},
	{name: "status", about: "tell what the running job does", flags: jsonFlag, do: (*command).askStatus},
	{
		name: "checkpoint", args: "[ls|show|verify|diff|export ...]", most: 3, subs: looks, flags: lookFlags, do: (*command).checkpoint,
		about: "take a checkpoint of the running job now; with a second word look at what is stored, whether the job runs or not",
	},
	{name: "savepoint", args: "PATH", about: "have the running job write a savepoint", least: 1, most: 1, do: (*command).askSavepoint},
	{
		name: "stop", args: "[-drain] [-savepoint PATH]", about: "suspend the running job; with -drain end its input and let windows fire",
		flags: func(o *options, fs *flag.FlagSet) {
			fs.StringVar(&o.savepoint, "savepoint", "", "stop: write a savepoint to this `path` after the last checkpoint")
		},
		do: (*command).askStop,
	},
	{name: "rescale", args: "N", about: "have the running job go on with N tasks for each operator", least: 1, most: 1, do: (*command).askRescale},
	{
		name: "txn", args: "list|explain|commit|abort ...", least: 1, most: manyArgs, subs: finishes, flags: txnFlags, do: (*command).txn,
		about: "look at the transactions that a dead job left in its destinations, and finish them",
	},
	{
		name: "dlq", args: "ls|show|replay ...", least: 1, most: 2, subs: deadVerbs, flags: dlqFlags, do: (*command).dlq,
		about: "look at dead letters, and write those of a sink again",
	},
}

// sub is the verb of the second word.
func sub(of []verb, args []string) (*verb, error) {
	var names []string
	first, _, _ := strings.Cut(of[0].name, " ")
	for i := range of {
		if of[i].name == first+" "+args[0] {
			return &of[i], of[i].check(args[1:])
		}
		names = append(names, strings.TrimPrefix(of[i].name, first+" "))
	}
	return nil, fault.New(fault.Usage, "there is no command %q", first+" "+args[0]).WithFix("use one of %s; see -help", strings.Join(names, ", "))
}

func jsonFlag(o *options, fs *flag.FlagSet) {
	fs.BoolVar(&o.json, "json", false, "status: print JSON")
}

func lookFlags(o *options, fs *flag.FlagSet) {
	fs.StringVar(&o.at, "at", "", "checkpoint: look at the savepoint at this `path` instead of the state directory")
	fs.BoolVar(&o.entries, "entries", false, "checkpoint diff: print each entry that differs, not only how many")
	fs.StringVar(&o.operator, "operator", "", "checkpoint export: only the state of the operator of this `name`")
	fs.StringVar(&o.stateName, "state-name", "", "checkpoint export: only states of this `name`")
}

// verbOf takes the command off the arguments.
func verbOf(args []string) (*verb, []string, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return &verbs[0], args, nil
	}
	for i := range verbs {
		if verbs[i].name == args[0] {
			return &verbs[i], args[1:], nil
		}
	}
	var names []string
	for _, v := range verbs {
		names = append(names, v.name)
	}
	return nil, nil, fault.New(fault.Usage, "there is no command %q", args[0]).WithFix("use one of %s; see -help", strings.Join(names, ", "))
}

// check counts the arguments.
func (v *verb) check(args []string) error {
	if len(args) >= v.least && len(args) <= v.most {
		return nil
	}
	what := fmt.Sprintf("%d arguments", len(args))
	if len(args) > v.most {
		what = fmt.Sprintf("unexpected argument %q", args[v.most])
	}
	return fault.New(fault.Usage, "command %s: %s", v.name, what).WithFix("use it as: %s", v.usage())
}

func (v *verb) usage() string { return strings.TrimSpace(v.name + " " + v.args) }

// usageOfVerbs is their part of -help.
func usageOfVerbs() string {
	var b strings.Builder
	b.WriteString("\nCommands, each with the flags below:\n")
	for _, v := range verbs {
		fmt.Fprintf(&b, "  %s\n    \t%s\n", v.usage(), v.about)
		for _, s := range v.subs {
			fmt.Fprintf(&b, "    \t  %s\n", s.usage())
		}
	}
	return b.String()
}
