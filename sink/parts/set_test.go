package parts

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/sink"
)

// shelf is where a test's files are made.
type shelf struct {
	made []*paper
	log  []string
	err  error
}

type paper struct {
	bytes.Buffer
	bucket string
}

func (s *shelf) Create(bucket string) (*paper, error) {
	p := &paper{bucket: bucket}
	s.made = append(s.made, p)
	return p, s.err
}

func (s *shelf) Finish(p *paper, records int64) error {
	s.log = append(s.log, fmt.Sprintf("%s:%d:%s", p.bucket, records, strings.ReplaceAll(p.String(), "\n", " ")))
	return s.err
}

// first puts records into buckets by what is before a colon.
func first(dst []byte, v string) []byte {
	bucket, _, _ := strings.Cut(v, ":")
	return append(dst, bucket...)
}

func newSet(t *testing.T, o Options[string]) (*Set[string, *paper], *shelf) {
	t.Helper()
	if o.Format == nil {
		o.Format = Text[string]{}
	}
	s := &shelf{}
	set, err := NewSet(o, s)
	if err != nil {
		t.Fatal(err)
	}
	return set, s
}

func TestSetFillsBuckets(t *testing.T) {
	set, s := newSet(t, Options[string]{Bucket: first})
	if err := errors.Join(set.Write([]string{"a:1", "b:1", "a:2", ":1"}), set.Write([]string{"b:2"}), set.End()); err != nil {
		t.Fatal(err)
	}
	slices.Sort(s.log)
	if want := []string{":1::1 ", "a:2:a:1 a:2 ", "b:2:b:1 b:2 "}; !reflect.DeepEqual(s.log, want) {
		t.Errorf("got %q, want %q", s.log, want)
	}
	s.log = nil
	if err := errors.Join(set.End(), set.Write([]string{"a:3"}), set.End()); err != nil || !reflect.DeepEqual(s.log, []string{"a:1:a:3 "}) {
		t.Errorf("next: %q, %v", s.log, err)
	}
}

func TestSetRolls(t *testing.T) {
	set, s := newSet(t, Options[string]{Rolling: Rolling{Size: 4}})
	if err := errors.Join(set.Write([]string{"1", "2", "3", "45678", "9"}), set.End()); err != nil {
		t.Fatal(err)
	}
	if want := []string{":2:1 2 ", ":2:3 45678 ", ":1:9 "}; !reflect.DeepEqual(s.log, want) {
		t.Errorf("by size: %q, want %q", s.log, want)
	}
	set, s = newSet(t, Options[string]{Rolling: Rolling{Age: time.Nanosecond}})
	if err := set.Write([]string{"1", "2"}); err != nil || len(s.log) > 0 {
		t.Errorf("in the batch that began it: %q, %v", s.log, err)
	}
	before := time.Now()
	for !time.Now().After(before) {
		continue // a coarse clock
	}
	if err := errors.Join(set.Write([]string{"3", "4"}), set.End()); err != nil {
		t.Fatal(err)
	}
	if want := []string{":3:1 2 3 ", ":1:4 "}; !reflect.DeepEqual(s.log, want) {
		t.Errorf("by age: %q, want %q", s.log, want)
	}
}

func TestSetEvicts(t *testing.T) {
	set, s := newSet(t, Options[string]{Bucket: first, MaxOpen: 2})
	if err := set.Write([]string{"a:1", "b:1", "a:2", "c:1", "b:2"}); err != nil {
		t.Fatal(err)
	}
	if want := []string{"b:1:b:1 ", "a:2:a:1 a:2 "}; !reflect.DeepEqual(s.log, want) || set.Evicted() != 2 {
		t.Errorf("%d evicted: %q, want %q", set.Evicted(), s.log, want)
	}
	set, s = newSet(t, Options[string]{Bucket: first, MaxOpen: -1})
	for i := range 2 * DefaultOpen {
		if err := set.Write([]string{fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if len(s.made) != 2*DefaultOpen || len(s.log) > 0 {
		t.Errorf("%d made, %d ended", len(s.made), len(s.log))
	}
}

func TestSetRejects(t *testing.T) {
	set, s := newSet(t, Options[string]{Bucket: first, Format: CSV[string]{Row: func(r *Row, v string) error {
		if strings.HasSuffix(v, "bad") {
			return errors.New("no")
		}
		r.Text(v)
		return nil
	}}})
	err := set.Write([]string{"a:1", "../x:1", "a:bad", "a:2", ".b:1"})
	r, ok := errors.AsType[*sink.Rejected](err)
	if !ok || len(r.Errs) != 3 || r.Errs[1] == nil || r.Errs[2] == nil || r.Errs[4] == nil {
		t.Fatalf("got %v", err)
	}
	if err := set.End(); err != nil || !reflect.DeepEqual(s.log, []string{"a:2:a:1 a:2 "}) {
		t.Errorf("%q, %v", s.log, err)
	}
	if len(s.made) != 1 {
		t.Errorf("%d files were made", len(s.made))
	}
}

func TestSetFails(t *testing.T) {
	if _, err := NewSet(Options[string]{Format: CSV[string]{}}, &shelf{}); err == nil {
		t.Error("a wrong format was taken")
	}
	set, s := newSet(t, Options[string]{Bucket: first})
	if err := set.Write([]string{"a"}); err != nil {
		t.Fatal(err)
	}
	s.err = errors.New("full")
	if err := set.Write([]string{"b"}); !errors.Is(err, s.err) {
		t.Errorf("create: %v", err)
	}
	if err := set.End(); !errors.Is(err, s.err) {
		t.Errorf("finish: %v", err)
	}
	s.err = nil
	if err := set.Write([]string{"c"}); err != nil {
		t.Fatal(err)
	}
	s.log = nil
	if open := set.Drop(); len(open) != 1 || open[0].bucket != "c" || open[0].Len() > 0 {
		t.Errorf("dropped %v", open)
	}
	if err := errors.Join(set.Write([]string{"d"}), set.End()); err != nil || !reflect.DeepEqual(s.log, []string{"d:1:d "}) {
		t.Errorf("after it: %q, %v", s.log, err)
	}
}
