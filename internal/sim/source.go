package sim

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/weirline/weirline/enumerator"
	"github.com/weirline/weirline/hybrid"
	"github.com/weirline/weirline/reader"
	"github.com/weirline/weirline/source"
)

// Pos is a split of a simulated source, and the next record in it.
type Pos struct {
	Name string
	Next int
	End  int
}

// ID is the split's name.
func (p Pos) ID() string { return p.Name }

// start is where the second stage of a hybrid begins, by split.
type start map[string]int

// input makes the engine's source.
func (s *sourceSpec) input(p *Plan, inc *incarnation) source.Source[Rec, Pos] {
	return s.stage(p, inc, 0, func(x *part) Pos { return Pos{Name: x.name, End: x.cut} })
}

// chained makes the hybrid: first a part of each split's records, then the rest, from where the first stage ended.
func (s *sourceSpec) chained(p *Plan, inc *incarnation) hybrid.Source[Rec] {
	derive := func(ctx context.Context, done []Pos) (start, error) {
		if err := inc.at(ctx, atDerive); err != nil {
			return nil, err
		}
		from := start{}
		for _, d := range done {
			from[d.Name] = d.Next
		}
		return from, nil
	}
	return hybrid.Of(hybrid.First(s.input(p, inc)), hybrid.ThenFrom(derive, func(from start) (source.Source[Rec, Pos], error) {
		return s.stage(p, inc, 1, func(x *part) Pos { return Pos{Name: x.name, Next: from[x.name], End: len(x.recs)} }), nil
	}))
}

func (s *sourceSpec) stage(p *Plan, inc *incarnation, n int, at func(*part) Pos) source.Source[Rec, Pos] {
	o := enumerator.Options{}
	if s.spread {
		o.Policy = enumerator.Spread
	}
	found := func(_ context.Context, _ source.Task) (source.Enumerator[Pos], error) {
		return &finder{s: s, inc: inc, stage: n, at: at}, nil
	}
	read := reader.Each(func(ctx context.Context, from Pos) (source.Cursor[Rec, Pos], error) {
		if err := inc.at(ctx, atOpen); err != nil {
			return nil, err
		}
		c := &cursor{s: s, inc: inc, at: from, poison: p.poison, hold: fmt.Sprintf("%d/%s", n, from.Name)}
		for _, x := range s.parts {
			if x.name == from.Name {
				c.part = x
			}
		}
		inc.w.opened(s.name, c.hold, from.Next)
		inc.hold(c.hold, 1)
		return c, nil
	})
	mk := func(ctx context.Context, t source.Task) (source.Reader[Rec, Pos], error) {
		r, err := read(ctx, t)
		return &acker{Reader: r, s: s, inc: inc, stage: n}, err
	}
	return source.Of(enumerator.With(o, found), mk)
}

// finder reports the splits in as many rounds as the plan says.
type finder struct {
	s     *sourceSpec
	inc   *incarnation
	stage int
	at    func(*part) Pos
	round int
}

func (f *finder) Discover(ctx context.Context) (found []Pos, done bool, err error) {
	if err := f.inc.at(ctx, atDiscover); err != nil {
		return nil, false, err
	}
	if f.round > 0 {
		if err := f.inc.wait(ctx, 5e6); err != nil {
			return nil, false, err
		}
	}
	if f.stage > 0 && !f.inc.isDead() {
		f.inc.w.switched(f.s)
	}
	f.round++
	for i, x := range f.s.parts {
		if i%f.s.rounds < f.round {
			found = append(found, f.at(x))
		}
	}
	return found, f.round >= f.s.rounds, nil
}

func (f *finder) Assign(source.Event[Pos], *source.Assignments[Pos]) {}

// acker is told what is durable.
type acker struct {
	source.Reader[Rec, Pos]
	s     *sourceSpec
	inc   *incarnation
	stage int
}

func (a *acker) Unwrap() any { return a.Reader }

func (a *acker) Ack(ctx context.Context, at []Pos) error {
	if err := a.inc.at(ctx, atAck); err != nil {
		return err
	}
	for _, p := range at {
		a.inc.w.acked(a.s.name, fmt.Sprintf("%d/%s", a.stage, p.Name), p.Next)
	}
	return nil
}

// cursor reads one split.
type cursor struct {
	s      *sourceSpec
	inc    *incarnation
	part   *part
	at     Pos
	hold   string
	poison bool
	ready  time.Time // when the next records arrive; zero = not known yet
	close  sync.Once
}

func (c *cursor) Read(ctx context.Context, out *source.Batch[Rec]) (Pos, error) {
	if c.at.Next >= c.at.End {
		return c.at, io.EOF
	}
	if err := c.arrive(ctx); err != nil {
		return c.at, err
	}
	n := 1 + c.inc.draw(c.s.burst)
	for ; n > 0 && c.at.Next < c.at.End; n-- {
		r := c.part.recs[c.at.Next]
		c.at.Next++
		if c.poison && unreadable(r) {
			out.Reject([]byte(r.String()), "here", errPoison)
			continue
		}
		out.AddAt(r, r.time())
	}
	if c.at.Next == c.at.End && c.inc.draw(2) == 0 {
		return c.at, io.EOF
	}
	return c.at, nil
}

// arrive waits for the next records. A read that is cancelled meanwhile doesn't delay them.
func (c *cursor) arrive(ctx context.Context) error {
	if c.ready.IsZero() {
		if err := c.inc.at(ctx, atRead); err != nil {
			return err
		}
		pace := c.s.pace
		if c.at.Next == c.part.quiet {
			pace += 4 * c.s.marks.Idle
		}
		c.ready = time.Now().Add(pace)
	}
	if left := time.Until(c.ready); left > 0 {
		if err := c.inc.wait(ctx, left); err != nil {
			return err
		}
	}
	c.ready = time.Time{}
	return nil
}

// unreadable says whether a record can't be decoded, in a plan with poison.
func unreadable(r Rec) bool { return r.ID%19 == 4 }

func (c *cursor) Close() error {
	c.close.Do(func() { c.inc.hold(c.hold, -1) })
	return nil
}
