package sourcetest_test

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/hybrid"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// full has every power there is, and notes which were used.
type full struct{ used *[]string }

type part string

func (p part) ID() string { return string(p) }

func (f full) use(power string) { *f.used = append(*f.used, power) }

func (f full) Enumerator(context.Context, source.Task) (source.Enumerator[part], error) {
	return fullEnum{f}, nil
}

func (f full) Reader(context.Context, source.Task) (source.Reader[int, part], error) {
	return fullReader{f}, nil
}

func (f full) Bounded() bool                   { f.use("Bounded"); return true }
func (f full) Borrowed() bool                  { f.use("Borrower"); return true }
func (f full) Replayable() bool                { f.use("Replayable"); return true }
func (f full) Preflight(context.Context) error { f.use("Preflight"); return nil }

type fullEnum struct{ full }

func (f fullEnum) Discover(context.Context) ([]part, bool, error)       { return []part{"p"}, true, nil }
func (f fullEnum) Assign(source.Event[part], *source.Assignments[part]) {}
func (f fullEnum) Snapshot() ([]byte, error)                            { f.use("Stateful"); return []byte("{}"), nil }
func (f fullEnum) Restore([]byte) error                                 { return nil }
func (f fullEnum) Ordered() bool                                        { f.use("Ordered"); return true }

func (f fullEnum) Backlog() bool { f.use("Backlog"); return true }

func (f fullEnum) Last() bool { f.use("Staged"); return true }

func (f fullEnum) Next(context.Context, []part) (bool, error) { return false, nil }

type fullReader struct{ full }

func (f fullReader) Add(context.Context, ...part) error { return nil }
func (f fullReader) Close() error                       { return nil }
func (f fullReader) Pause(...string)                    { f.use("Pauser") }
func (f fullReader) Resume(...string)                   {}

func (f fullReader) Ack(context.Context, []part) error { f.use("Acker"); return nil }

func (f fullReader) Read(context.Context, *source.Batch[int]) (part, error) { return "p", nil }

// declared lists the companions in source/companions.go, so that a new one makes this test fail until it is tried here.
func declared(t *testing.T) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "../companions.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if _, ok := spec.Type.(*ast.InterfaceType); ok && spec.Name.Name != "Unwrapper" {
				out = append(out, spec.Name.Name)
			}
		}
		return true
	})
	slices.Sort(out)
	return out
}

// try uses every power that As finds on a source and its halves, and answers which of the innermost one's were reached.
func try[S source.Split](t *testing.T, src source.Source[int, S], used *[]string) []string {
	t.Helper()
	*used = nil
	if p, ok := source.As[source.Bounded](src); ok {
		p.Bounded()
	}
	if p, ok := source.As[source.Borrower](src); ok {
		p.Borrowed()
	}
	if p, ok := source.As[source.Replayable](src); ok {
		p.Replayable()
	}
	if p, ok := source.As[source.Preflight](src); ok {
		must(t, p.Preflight(t.Context()))
	}
	e, err := src.Enumerator(t.Context(), source.Task{})
	must(t, err)
	splits, _, err := e.Discover(t.Context())
	must(t, err)
	if p, ok := source.As[source.Stateful](e); ok {
		_, err := p.Snapshot()
		must(t, err)
	}
	if p, ok := source.As[source.Staged[S]](e); ok {
		p.Last()
	}
	if p, ok := source.As[source.Ordered](e); ok && p.Ordered() {
		*used = append(*used, "Ordered")
	}
	if p, ok := source.As[source.Backlog](e); ok {
		p.Backlog()
	}
	r, err := src.Reader(t.Context(), source.Task{})
	must(t, err)
	must(t, r.Add(t.Context(), splits...))
	if p, ok := source.As[source.Pauser](r); ok {
		p.Pause(splits[0].ID())
	}
	if p, ok := source.As[source.Acker[S]](r); ok {
		must(t, p.Ack(t.Context(), splits))
	}
	must(t, r.Close())
	slices.Sort(*used)
	return slices.Compact(*used)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestWrappersHideNoPower: whatever wraps a source, every companion of source/companions.go is found and reaches it.
func TestWrappersHideNoPower(t *testing.T) {
	want := declared(t)
	var used []string
	inner := full{&used}
	pausable := source.Of(inner.Enumerator, func(ctx context.Context, t source.Task) (source.Reader[int, part], error) {
		r, err := inner.Reader(ctx, t)
		return reader.Pausable(r), err
	})
	halves := []string{"Acker", "Backlog", "Ordered", "Pauser", "Staged", "Stateful"} // source.Of takes functions, which have no powers
	for name, c := range map[string]struct {
		src  source.Source[int, part]
		want []string
	}{
		"nothing":        {inner, want},
		"RateLimit":      {reader.RateLimit[int, part](inner, 10), want},
		"two of them":    {reader.RateLimit(reader.RateLimit[int, part](inner, 10), 5), want},
		"Unbounded":      {source.Unbounded[int, part](inner), without(want, "Bounded")}, // which it answers itself
		"Pausable":       {pausable, halves},
		"With":           {source.Of(enumerator.With(enumerator.Options{}, inner.Enumerator), inner.Reader), halves},
		"With, declared": {source.Of(enumerator.With(enumerator.Options{Ordered: true}, inner.Enumerator), inner.Reader), halves},
	} {
		if got := try(t, c.src, &used); !slices.Equal(got, c.want) {
			t.Errorf("%s: reached %v, want %v", name, got, c.want)
		}
	}
	chain := hybrid.Source[int]{Stages: []hybrid.Stage[int]{hybrid.First[int, part](inner)}, Ordered: true}
	if got := try(t, chain, &used); !slices.Equal(got, want) {
		t.Errorf("hybrid: reached %v, want %v", got, want)
	}
}

func without(list []string, what string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == what })
}

// TestWrappersKeepTheContract runs the whole kit over the wrappers.
func TestWrappersKeepTheContract(t *testing.T) {
	numbers := source.Of(enumerator.With(enumerator.Options{Policy: enumerator.Spread}, enumerator.Static(counter{"a", 0}, counter{"b", 5})), reader.Poll(count))
	held := source.Of(enumerator.Static(counter{"a", 0}, counter{"b", 5}), func(ctx context.Context, t source.Task) (source.Reader[int, counter], error) {
		r, err := reader.Poll(count)(ctx, t)
		return reader.Pausable[int, counter](struct{ source.Reader[int, counter] }{r}), err
	})
	watched := source.Unbounded(source.Of(
		enumerator.Watch(func(context.Context) ([]counter, error) { return []counter{{"a", 0}, {"b", 5}}, nil }, time.Hour), reader.Poll(count)))
	for name, src := range map[string]source.Source[int, counter]{
		"spread": numbers, "limited": reader.RateLimit(numbers, 20_000), "held": held, "watched": watched,
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			Run(t, Case{Source: src, Want: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 5, 6, 7, 8, 9}, Restarts: 10})
		})
	}
}
