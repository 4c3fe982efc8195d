package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/weirline/weirline/internal/fault"
)

// file is a small file of three states.
func file(tb testing.TB) []byte {
	sc := NewScope(keyOf[string](tb), 4, 0, 3)
	v, l, tm := NewValue[int64](sc, "v"), NewList[string](sc, "l"), NewTimers(sc, "t")
	for _, k := range []string{"", "a", "b", "c"} {
		sc.SetKey(k, keyOf[string](tb).Hash(k))
		*v.Ref() = 1
		l.Add(k, k)
		tm.Add(5)
	}
	return fileOf(tb, sc)
}

func fileOf[K comparable](tb testing.TB, sc *Scope[K]) []byte {
	tb.Helper()
	var b bytes.Buffer
	sc.Capture()
	s := sc.Captured()
	defer s.Release()
	if _, err := s.WriteTo(&b); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// load restores a file and declares its states; it returns the first error.
func load(tb testing.TB, b []byte) error {
	sc := NewScope(keyOf[string](tb), 4, 0, 3)
	if err := sc.Restore(bytes.NewReader(b), int64(len(b))); err != nil {
		return err
	}
	NewValue[int64](sc, "v")
	NewList[string](sc, "l")
	NewTimers(sc, "t")
	return sc.Err()
}

func TestDamageIsFound(t *testing.T) {
	whole := file(t)
	if err := load(t, whole); err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		if err := load(t, whole[:n]); fault.CodeOf(err) != fault.DamagedEpoch.ID {
			t.Fatalf("cut to %d of %d bytes: %v", n, len(whole), err)
		}
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(whole)
			b[n] ^= bit
			err := load(t, b)
			if code := fault.CodeOf(err); code != fault.DamagedEpoch.ID && !(n >= 8 && n < 12 && code == fault.NewerFormat.ID) {
				t.Fatalf("byte %d of %d changed: %v", n, len(whole), err)
			}
		}
	}
	newer := bytes.Clone(whole)
	binary.LittleEndian.PutUint32(newer[8:], fileVersion+1)
	if err := load(t, newer); fault.CodeOf(err) != fault.NewerFormat.ID {
		t.Errorf("newer version: %v", err)
	}
}

func TestWrongTypeIsRefused(t *testing.T) {
	b := file(t)
	for want, declare := range map[string]func(sc *Scope[string]){
		`state "v" is declared as value string -> fixed:int32 but was stored as value string -> fixed:int64`: func(sc *Scope[string]) { NewValue[int32](sc, "v") },
		`declared as panes string -> fixed:int64 but was stored as value`:                                    func(sc *Scope[string]) { NewPanes[int64](sc, "v") },
		`declared as value string -> cbor:string but was stored as list string -> list:cbor:string`:          func(sc *Scope[string]) { NewValue[string](sc, "l") },
	} {
		sc := NewScope(keyOf[string](t), 4, 0, 3)
		if err := sc.Restore(bytes.NewReader(b), int64(len(b))); err != nil {
			t.Fatal(err)
		}
		declare(sc)
		err := sc.Err()
		if !strings.Contains(err.Error(), want) || !errors.Is(err, fault.New(fault.BadState, "")) {
			t.Errorf("error %v, want %q", err, want)
		}
		if got := strings.Join(sc.Unclaimed(), " "); len(got) != 3 {
			t.Errorf("unclaimed %q", got)
		}
	}
	sc := NewScope(keyOf[string](t), 8, 0, 7)
	if err := sc.Restore(bytes.NewReader(b), int64(len(b))); fault.CodeOf(err) != fault.BadState.ID {
		t.Errorf("other number of groups: %v", err)
	}
	keyed := NewScope(keyOf[int64](t), 4, 0, 3)
	if err := keyed.Restore(bytes.NewReader(b), int64(len(b))); err != nil {
		t.Fatal(err)
	}
	if NewValue[int64](keyed, "v"); fault.CodeOf(keyed.Err()) == "" && keyed.Err() == nil {
		t.Error("another key type was taken")
	}
	twice := NewScope(keyOf[string](t), 4, 0, 3)
	_ = twice.Restore(bytes.NewReader(b), int64(len(b)))
	if err := twice.Restore(bytes.NewReader(b), int64(len(b))); fault.CodeOf(err) != fault.DamagedEpoch.ID {
		t.Errorf("the same file twice: %v", err)
	}
}

type (
	cborBefore struct {
		Name string
		Gone []int
	}
	cborAfter struct {
		New  map[string]int
		Name string
	}
	fixedBefore struct {
		Gone bool
		N    int
		In   [2]struct {
			A, B int16
			C    float64
		}
	}
	fixedAfter struct {
		In [2]struct {
			New bool
			B   int16
			C   float64
		}
		N int
	}
	fixedToCBOR struct {
		New string
		N   int
	}
)

func TestFieldsMayComeAndGo(t *testing.T) {
	var was fixedBefore
	var is fixedAfter
	was.N, was.Gone, is.N = 5, true, 5
	for i := range 2 {
		was.In[i].A, was.In[i].B, was.In[i].C = 1, int16(i)-3, 1.5
		is.In[i].B, is.In[i].C = int16(i)-3, 1.5
	}
	comeAndGo(t, cborBefore{"seven", []int{1}}, cborAfter{Name: "seven"})
	comeAndGo(t, was, is)
	comeAndGo(t, was, fixedToCBOR{N: 5})
	comeAndGo(t, fixedToCBOR{"gone", 5}, fixedAfter{N: 5})
}

// comeAndGo writes one type as value, list and map and reads another. It's about codecs alone: tables of so many types take
// long to compile.
func comeAndGo[V, W any](t *testing.T, was V, is W) {
	c, err := CodecOf[V]()
	d, err2 := CodecOf[W]()
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	key := keyOf[int8](t)
	reread(t, c, d, was, is)
	reread[[]V, []W](t, listForm[V]{c}, listForm[W]{d}, []V{was, was}, []W{is, is})
	reread[map[int8]V, map[int8]W](t, mapForm[int8, V]{key, c}, mapForm[int8, W]{key, d}, map[int8]V{3: was}, map[int8]W{3: is})
}

func reread[V, W any](t *testing.T, c Codec[V], d Codec[W], was V, is W) {
	if why := mismatch(c.Signature(), d.Signature()); why != "" {
		t.Errorf("%T to %T: %s", was, is, why)
	}
	b, err := c.Append(nil, &was)
	if err != nil {
		t.Fatal(err)
	}
	r, ok := d.reading(c.Signature())
	if !ok {
		t.Fatalf("%T to %T can't be read", was, is)
	}
	var got W
	if rest, err := r.Decode(b, &got); err != nil || len(rest) > 0 || !reflect.DeepEqual(got, is) {
		t.Errorf("%T to %T: %+v, %v; want %+v", was, is, got, err, is)
	}
}

func TestDeclarationErrors(t *testing.T) {
	sc := NewScope(keyOf[string](t), 4, 0, 3)
	NewValue[int64](sc, "a")
	NewList[int64](sc, "a")
	NewValue[int64](sc, "")
	NewValue[func()](sc, "f")
	NewMap[any, int](sc, "m")
	NewList[struct{}](sc, "e")
	got := sc.Err().Error()
	for _, want := range []string{`two states are named "a"`, "no name", "state f: func() is a func", "state m", "state e"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q isn't in %q", want, got)
		}
	}
}

type failing struct{ N int }

func (f failing) MarshalBinary() ([]byte, error)  { return nil, errors.New("no form") }
func (f *failing) UnmarshalBinary(b []byte) error { return nil }

func TestCodecFailureFailsTheSnapshot(t *testing.T) {
	sc := NewScope(keyOf[string](t), 4, 0, 3)
	flat, deep := NewValue[failing](sc, "flat"), NewList[failing](sc, "deep")
	for i, use := range []func(){func() { flat.Set(failing{1}) }, func() { flat.Clear(); deep.Add(failing{2}) }} {
		sc.SetKey("k", keyOf[string](t).Hash("k"))
		use()
		sc.Capture()
		s := sc.Captured()
		if _, err := s.WriteTo(io.Discard); err == nil || !strings.Contains(err.Error(), "no form") {
			t.Errorf("%d: %v", i, err)
		}
		s.Release()
	}
	deep.Clear()
	if err := load(t, fileOf(t, sc)); err != nil {
		t.Errorf("an earlier error stuck: %v", err)
	}
}

// Any bytes are refused or restored, never a panic; what passes the checksums may still be wrong inside.
func FuzzRestore(f *testing.F) {
	f.Add(file(f), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, at, to uint16) {
		_ = load(t, b)
		if err := load(t, resealed(b, int(at), byte(to))); err != nil && fault.CodeOf(err) == "" && errors.Unwrap(err) != nil {
			t.Errorf("an error without a code: %v", err)
		}
	})
}

// resealed changes a byte of the index and makes its checksum right again, so that what is behind the check is reached.
func resealed(b []byte, at int, to byte) []byte {
	b = bytes.Clone(b)
	if len(b) < headerSize+footerSize {
		return b
	}
	foot := b[len(b)-footerSize:]
	off := binary.LittleEndian.Uint64(foot)
	if off < headerSize || off >= uint64(len(b)-footerSize) {
		return b
	}
	index := b[off : len(b)-footerSize]
	index[at%len(index)] = to
	binary.LittleEndian.PutUint64(foot[16:], indexSum(b[:headerSize], index, foot[:16]))
	return b
}

func TestOperatorLists(t *testing.T) {
	var parts [][]byte
	for task := range 3 {
		var l Lists
		o := NewOperatorList[string](&l, "offsets")
		for i := range task * 2 {
			o.Add(strings.Repeat("x", task*10+i))
		}
		b, err := l.Encode("offsets")
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, b)
	}
	total := 0
	for task := range 4 {
		var l Lists
		l.Restore("offsets", parts, task, 4)
		l.Restore("other", nil, task, 4)
		o := NewOperatorList[string](&l, "offsets")
		if l.Err() != nil || len(o.All()) < 1 || len(o.All()) > 2 || strings.Join(l.Unclaimed(), "") != "other" {
			t.Fatalf("items %v, error %v", o.All(), l.Err())
		}
		total += len(o.All())
	}
	if total != 6 {
		t.Errorf("%d items, want 6", total)
	}
	var l Lists
	l.Restore("offsets", parts, 0, 1)
	NewOperatorList[int64](&l, "offsets")
	if !errors.Is(l.Err(), fault.New(fault.BadState, "")) {
		t.Errorf("wrong type: %v", l.Err())
	}
	for n := range parts[2] {
		if _, err := deal([][]byte{parts[2][:n]}, 1); err == nil {
			t.Errorf("%d of %d bytes were taken", n, len(parts[2]))
		}
	}
}
