package hybrid_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirline/weirline/connector/files"
	"github.com/weirline/weirline/connector/gen"
	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/hybrid"
	"github.com/weirline/weirline/internal/fault"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
	"github.com/weirline/weirline/source/sourcetest"
)

// span is a split of numbers that brings its own codec.
type span struct {
	name     string
	next, to uint32
}

func (s span) ID() string { return s.name }

func (s span) MarshalBinary() ([]byte, error) {
	return append(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, s.next), s.to), s.name...), nil
}

func (s *span) UnmarshalBinary(b []byte) error {
	if len(b) < 8 {
		return errors.New("too short")
	}
	*s = span{next: binary.BigEndian.Uint32(b), to: binary.BigEndian.Uint32(b[4:]), name: string(b[8:])}
	return nil
}

func spans(splits ...span) source.Source[string, span] {
	return source.Of(enumerator.Static(splits...), reader.Poll(readSpan))
}

func readSpan(_ context.Context, at span, out *source.Batch[string]) (span, error) {
	for !out.Full() && at.next < at.to {
		out.Add(fmt.Sprint("n", at.next))
		at.next++
	}
	if at.next == at.to {
		return at, io.EOF
	}
	return at, nil
}

func count(seq int64) string { return fmt.Sprint("g", seq) }

// chain is files, then numbers from where the files end, then a generator; want is what they yield.
func chain(t *testing.T, derived *int) (src hybrid.Source[string], want []string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		if err := os.WriteFile(dir+"/"+name, []byte(name+"1\n"+name+"2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	type start struct{ At uint32 }
	src = hybrid.Of(
		hybrid.First(files.Source[string]{Paths: []string{dir}}),
		hybrid.ThenFrom(func(_ context.Context, done []files.Split) (start, error) {
			mu.Lock()
			defer mu.Unlock()
			*derived++
			return start{At: uint32(10 * len(done))}, nil
		}, func(p start) (source.Source[string, span], error) {
			return spans(span{"x", p.At, p.At + 4}, span{"y", p.At + 4, p.At + 5}, span{"z", p.At + 5, p.At + 5}), nil
		}),
		hybrid.Then(gen.Source[string]{Make: count, Count: 5}),
	)
	return src, []string{"a1", "a2", "b1", "b2", "n20", "n21", "n22", "n23", "n24", "g0", "g1", "g2", "g3", "g4"}
}

func TestContract(t *testing.T) {
	derived := 0
	src, want := chain(t, &derived)
	bad := []hybrid.Split{{Stage: 7, Name: "x"}, {Stage: 1, Name: "x"}, {Stage: 0, Name: "x"}}
	t.Run("three stages", func(t *testing.T) {
		sourcetest.Run(t, sourcetest.Case[string, hybrid.Split]{Source: src, Want: want, Bad: bad, Restarts: 100})
	})
	t.Run("one stage", func(t *testing.T) {
		sourcetest.Run(t, sourcetest.Case[string, hybrid.Split]{
			Source: hybrid.Of(hybrid.First(spans(span{"x", 1, 4}))), Want: []string{"n1", "n2", "n3"},
		})
	})
	t.Run("chain in a chain", func(t *testing.T) {
		outer := hybrid.Of(hybrid.First(spans(span{"x", 1, 2})), hybrid.Then(src), hybrid.Then(spans(span{"x", 2, 3})))
		sourcetest.Run(t, sourcetest.Case[string, hybrid.Split]{
			Source: outer, Want: append(slices.Clone(want), "n1", "n2"), Restarts: 100,
		})
	})
}

func TestHundredsOfStages(t *testing.T) {
	var stages []hybrid.Stage[string]
	var want []string
	for i := range uint32(300) {
		stages = append(stages, hybrid.Then(spans(span{"x", i, i + 1})))
		want = append(want, fmt.Sprint("n", i))
	}
	d := newDriver(t, hybrid.Of(stages...), nil)
	for d.stage() {
	}
	if !slices.Equal(d.got, want) {
		t.Errorf("%d values: %.200s", len(d.got), fmt.Sprint(d.got))
	}
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// driver walks through a chain with one reader, by hand.
type driver struct {
	t        *testing.T
	enum     source.Enumerator[hybrid.Split]
	staged   source.Staged[hybrid.Split]
	reader   source.Reader[string, hybrid.Split]
	finished []hybrid.Split
	got      []string
}

func newDriver(t *testing.T, src source.Source[string, hybrid.Split], state []byte) *driver {
	t.Helper()
	task := source.Task{Parallelism: 1}
	e, err := src.Enumerator(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	staged, ok := source.As[source.Staged[hybrid.Split]](e)
	if !ok {
		t.Fatal("the enumerator isn't Staged")
	}
	if state != nil {
		if err := staged.Restore(state); err != nil {
			t.Fatal(err)
		}
	}
	r, err := src.Reader(t.Context(), task)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return &driver{t: t, enum: e, staged: staged, reader: r}
}

// discover gives all splits of the present stage.
func (d *driver) discover() []hybrid.Split {
	d.t.Helper()
	found, done, err := d.enum.Discover(d.t.Context())
	if err != nil || !done {
		d.t.Fatalf("Discover: %v, %v", done, err)
	}
	return found
}

func (d *driver) read(splits ...hybrid.Split) {
	d.t.Helper()
	if err := d.reader.Add(d.t.Context(), splits...); err != nil {
		d.t.Fatal(err)
	}
	var b source.Batch[string]
	for left := len(splits); left > 0; {
		b.Reset()
		b.Limit(2)
		next, err := d.reader.Read(d.t.Context(), &b)
		d.got = append(d.got, b.Values...)
		if err == io.EOF { //nolint:errorlint // only io.EOF itself finishes a split
			left--
			d.finished = append(d.finished, next)
		} else if err != nil {
			d.t.Fatal(err)
		}
	}
}

// stage reads the present stage to its end and switches.
func (d *driver) stage() (more bool) {
	d.t.Helper()
	d.read(d.discover()...)
	more, err := d.staged.Next(d.t.Context(), d.finished)
	if err != nil {
		d.t.Fatal(err)
	}
	return more
}

func (d *driver) snapshot() []byte {
	d.t.Helper()
	b, err := d.staged.Snapshot()
	if err != nil {
		d.t.Fatal(err)
	}
	return b
}

func TestStartIsDerivedOnce(t *testing.T) {
	derived := 0
	src, want := chain(t, &derived)
	d := newDriver(t, src, nil)
	before := d.snapshot()
	if d.staged.Last() {
		t.Error("the first stage is the last one")
	}
	d.stage()
	after := d.snapshot()
	for i := range 3 { // restored again and again from the checkpoint that made the switch
		again := newDriver(t, src, after)
		again.got = slices.Clone(d.got)
		for again.stage() {
		}
		if !again.staged.Last() || !sameSet(again.got, want) {
			t.Errorf("restore %d after the switch: %v", i, again.got)
		}
	}
	if derived != 1 {
		t.Errorf("the start was derived %d times", derived)
	}
	again := newDriver(t, src, before) // before the switch: all of it once more
	for again.stage() {
	}
	if derived != 2 || !sameSet(again.got, want) {
		t.Errorf("restored before the switch: derived %d times, %v", derived, again.got)
	}
}

// TestEarlierStageAfterTheSwitch: a reader that has splits of two stages reads the earlier one first.
func TestEarlierStageAfterTheSwitch(t *testing.T) {
	src := hybrid.Of(hybrid.First(spans(span{"x", 1, 4})), hybrid.Then(spans(span{"x", 11, 14})))
	d := newDriver(t, src, nil)
	first := d.discover()
	if _, err := d.staged.Next(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := d.discover()
	d.read(second[0], first[0])
	if want := []string{"n1", "n2", "n3", "n11", "n12", "n13"}; !slices.Equal(d.got, want) {
		t.Errorf("got %v, want %v", d.got, want)
	}
	if first[0].ID() != "0/x" || second[0].ID() != "1/x" {
		t.Errorf("IDs %s and %s", first[0].ID(), second[0].ID())
	}
}

// wantsOnly is an enumerator that knows nothing but the event Wanted.
type wantsOnly struct{ source.Enumerator[span] }

func (wantsOnly) Assign(ev source.Event[span], to *source.Assignments[span]) {
	if ev.Kind == source.Wanted && len(to.Unassigned()) > 0 {
		to.Give(ev.Reader, to.Unassigned()[0])
	}
}

// TestReadersThatRanDryBeforeTheSwitch: the events they caused are over when the new stage begins.
func TestReadersThatRanDryBeforeTheSwitch(t *testing.T) {
	second := spans(span{"a", 1, 2}, span{"b", 2, 3})
	src := hybrid.Of(hybrid.First(spans(span{"x", 0, 1})), hybrid.Then(source.Of(
		func(ctx context.Context, t source.Task) (source.Enumerator[span], error) {
			e, err := second.Enumerator(ctx, t)
			return wantsOnly{e}, err
		}, reader.Poll(readSpan))))
	d := newDriver(t, src, nil)
	d.stage()
	found := d.discover()
	view := source.NewAssignments(found, map[int]int{0: 0, 3: 0, 4: 2})
	d.enum.Assign(source.Event[hybrid.Split]{Kind: source.Found, Splits: found}, view)
	var got []string
	for _, g := range view.Given() {
		got = append(got, fmt.Sprint(g.Reader, "<-", g.Split.ID()))
	}
	if !slices.Equal(got, []string{"0<-1/a", "3<-1/b"}) {
		t.Errorf("given: %v", got)
	}
}

func TestRefusesWhatCannotWork(t *testing.T) {
	endless := source.Unbounded(spans())
	fromFiles := func(mk func(int) (source.Source[string, span], error)) hybrid.Stage[string] {
		return hybrid.ThenFrom(func(context.Context, []files.Split) (int, error) { return 1, nil }, mk)
	}
	fromSpans := func(mk func(int) (source.Source[string, span], error)) hybrid.Stage[string] {
		return hybrid.ThenFrom(func(context.Context, []span) (int, error) { return 1, nil }, mk)
	}
	plain := func(int) (source.Source[string, span], error) { return spans(), nil }
	for name, c := range map[string]struct {
		src  hybrid.Source[string]
		says string
	}{
		"nothing":               {hybrid.Of[string](), "no stages"},
		"zero stage":            {hybrid.Of(hybrid.Stage[string]{}), "stage 0"},
		"endless in the middle": {hybrid.Of(hybrid.First(spans()), hybrid.Then(endless), hybrid.Then(spans())), "stage 1 of 3"},
		"nothing before":        {hybrid.Of(fromSpans(plain)), "begin with First"},
		"other split type":      {hybrid.Of(hybrid.First(spans()), fromFiles(plain)), "files.Split"},
		"stage's own check":     {hybrid.Of(hybrid.First(spans()), hybrid.Then(gen.Source[string]{})), "stage 1"},
	} {
		err := c.src.Preflight(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "fix: ") {
			t.Errorf("%s: Preflight = %v", name, err)
		}
		if name == "stage's own check" {
			continue
		}
		if _, err := c.src.Enumerator(t.Context(), source.Task{}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: Enumerator = %v", name, err)
		}
	}
	late := hybrid.Of(hybrid.First(spans()), fromSpans(func(int) (source.Source[string, span], error) { return endless, nil }), hybrid.Then(spans()))
	d := newDriver(t, late, nil)
	d.stage()
	if _, _, err := d.enum.Discover(t.Context()); fault.CodeOf(err) != fault.BadPipeline.ID || !strings.Contains(err.Error(), "stage 1 of 3") {
		t.Errorf("an endless source that is made late: %v", err)
	}
}

func TestDeriveFails(t *testing.T) {
	fail := errors.New("no answer")
	src := hybrid.Of(hybrid.First(spans(span{"x", 1, 2})), hybrid.ThenFrom(
		func(context.Context, []span) (int, error) { return 0, fail },
		func(int) (source.Source[string, span], error) { return spans(), nil }))
	d := newDriver(t, src, nil)
	before := d.snapshot()
	d.read(d.discover()...)
	if _, err := d.staged.Next(t.Context(), d.finished); !errors.Is(err, fail) || !strings.Contains(err.Error(), "stage 1") {
		t.Errorf("Next = %v", err)
	}
	if d.staged.Last() || !strings.Contains(string(d.snapshot()), `"stage":0`) {
		t.Errorf("a start that wasn't derived changed %s to %s", before, d.snapshot())
	}
}

// acker is a reader that notes what it is acknowledged and whether it was closed.
type acker struct {
	source.Reader[string, span]
	log *[]string
}

func (a acker) Ack(_ context.Context, at []span) error {
	for _, s := range at {
		*a.log = append(*a.log, fmt.Sprintf("ack %s@%d", s.name, s.next))
	}
	return nil
}

func (a acker) Close() error {
	*a.log = append(*a.log, "close")
	return a.Reader.Close()
}

func (a acker) Unwrap() any { return a.Reader }

func TestAckReachesAFinishedStage(t *testing.T) {
	var log []string
	acking := source.Of(enumerator.Static(span{"x", 1, 3}), func(ctx context.Context, t source.Task) (source.Reader[string, span], error) {
		r, err := reader.Poll(readSpan)(ctx, t)
		return acker{r, &log}, err
	})
	d := newDriver(t, hybrid.Of(hybrid.First(acking), hybrid.Then(spans(span{"y", 5, 6}))), nil)
	d.stage()
	d.stage()
	a, ok := source.As[source.Acker[hybrid.Split]](d.reader)
	if !ok {
		t.Fatal("no Acker")
	}
	if err := a.Ack(t.Context(), d.finished); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(log, ", "); got != "ack x@3, close" {
		t.Errorf("log: %s", got)
	}
}

// TestPauseOfOneStage: a reader that can't pause is held as a whole, and resumed from another goroutine.
func TestPauseOfOneStage(t *testing.T) {
	type bare struct{ source.Reader[string, span] } // hides the Pauser
	src := hybrid.Of(hybrid.First(source.Of(enumerator.Static(span{"x", 1, 3}),
		func(ctx context.Context, t source.Task) (source.Reader[string, span], error) {
			r, err := reader.Poll(readSpan)(ctx, t)
			return bare{r}, err
		})))
	d := newDriver(t, src, nil)
	if err := d.reader.Add(t.Context(), d.discover()...); err != nil {
		t.Fatal(err)
	}
	p, _ := source.As[source.Pauser](d.reader)
	p.Pause("0/x", "1/x", "x", "")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	var b source.Batch[string]
	b.Limit(1)
	if _, err := d.reader.Read(ctx, &b); !errors.Is(err, context.DeadlineExceeded) || len(b.Values) != 0 {
		t.Errorf("paused: %v, %v", b.Values, err)
	}
	time.AfterFunc(5*time.Millisecond, func() { p.Resume("0/x") })
	if s, err := d.reader.Read(t.Context(), &b); err != nil || len(b.Values) != 1 || s.ID() != "0/x" {
		t.Errorf("resumed: %v, %v, %v", s, b.Values, err)
	}
}

func TestPowersOfTheChain(t *testing.T) {
	lent := files.Source[[]byte]{Paths: []string{"x"}}
	text := hybrid.First(spans())
	last := hybrid.ThenFrom(func(context.Context, []span) (int, error) { return 0, nil },
		func(int) (source.Source[string, span], error) { return spans(), nil })
	if !hybrid.Of(text).Bounded() || hybrid.Of(text, hybrid.Then(source.Unbounded(spans()))).Bounded() || hybrid.Of(text, last).Bounded() {
		t.Error("Bounded must be what the last stage is known to be")
	}
	if hybrid.Of(text).Borrowed() || !hybrid.Of(hybrid.First(lent)).Borrowed() {
		t.Error("Borrowed must be what any stage is")
	}
	for _, ordered := range []bool{false, true} {
		e, err := hybrid.Source[string]{Stages: []hybrid.Stage[string]{text}, Ordered: ordered}.Enumerator(t.Context(), source.Task{})
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := source.As[source.Ordered](e); !ok || o.Ordered() != ordered {
			t.Errorf("Ordered is %v, want %v", o.Ordered(), ordered)
		}
	}
}
