package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/weirline/weirline/engine"
)

// planJSON is the plan as indented JSON, with a newline at its end.
func planJSON(pl engine.Plan) string {
	b, err := json.MarshalIndent(pl, "", "  ")
	if err != nil {
		panic("cli: encode plan: " + err.Error()) // strings, numbers and slices only
	}
	return string(b) + "\n"
}

// planDOT is the plan in Graphviz's language: a box for each task, a node for each operator.
func planDOT(pl engine.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "digraph %s {\n  rankdir=LR;\n  node [shape=box];\n", dotQuote(pl.Job))
	for i, task := range planTasks(pl) {
		fmt.Fprintf(&b, "  subgraph cluster_%d {\n    label=%s;\n", i,
			dotQuote(fmt.Sprintf("%s x %d", task[0].Name, task[0].Parallelism)))
		for _, op := range task {
			label := op.Name + "\n" + op.Kind
			if op.Guarantee != "" {
				label += ", " + op.Guarantee
			}
			if op.Input != "" {
				label += ", " + op.Input
			}
			fmt.Fprintf(&b, "    %s [label=%s];\n", dotQuote(op.Name), dotQuote(label))
		}
		b.WriteString("  }\n")
	}
	for _, l := range pl.Links {
		label := l.Kind
		if l.Port != "" {
			label = l.Port + ", " + label
		}
		fmt.Fprintf(&b, "  %s -> %s [label=%s];\n", dotQuote(l.From), dotQuote(l.To), dotQuote(label))
	}
	b.WriteString("}\n")
	return b.String()
}

// dotQuote makes any text one string of DOT.
func dotQuote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\n`).Replace(s) + `"`
}

// planText is the plan for people: a line for each task, and what is promised.
func planText(pl engine.Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "job %s: parallelism %d, bad records %s\n", pl.Job, pl.Parallelism, pl.Poison)
	for _, task := range planTasks(pl) {
		var chain []string
		for _, op := range task {
			chain = append(chain, fmt.Sprintf("%s (%s)", op.Name, op.Kind))
		}
		fmt.Fprintf(&b, "  task %s x %d: %s", task[0].Name, task[0].Parallelism, strings.Join(chain, ", "))
		for i, l := range planLinks(pl, task) {
			sep := ", "
			if i == 0 {
				sep = "; from "
			}
			fmt.Fprintf(&b, "%s%s by %s", sep, l.From, l.Kind)
		}
		b.WriteString("\n")
	}
	for _, g := range pl.Guarantees {
		fmt.Fprintf(&b, "  %s -> %s: %s (%s)\n", strings.Join(g.Sources, ", "), g.Sink, g.Promise, g.Why)
		if g.Limit != "" {
			fmt.Fprintf(&b, "    limited by %s; to lift it: %s\n", g.Limit, g.Fix)
		}
	}
	return b.String()
}

// planTasks groups the operators by the task they run in.
func planTasks(pl engine.Plan) [][]engine.PlanOperator {
	var out [][]engine.PlanOperator
	at := map[string]int{}
	for _, op := range pl.Operators {
		i, ok := at[op.Task]
		if !ok {
			i = len(out)
			at[op.Task] = i
			out = append(out, nil)
		}
		out[i] = append(out[i], op)
	}
	return out
}

// planLinks lists the exchanges that lead into a task.
func planLinks(pl engine.Plan, task []engine.PlanOperator) (out []engine.PlanLink) {
	for _, l := range pl.Links {
		if l.Kind != "fused" && slices.ContainsFunc(task, func(op engine.PlanOperator) bool { return op.Name == l.To }) {
			out = append(out, l)
		}
	}
	return out
}
