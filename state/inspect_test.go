package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirline/weirline/internal/fault"
)

// id has a byte form of its own, which keys don't use.
type id [4]byte

func (i id) MarshalBinary() ([]byte, error) { return append([]byte("id"), i[:]...), nil }
func (i *id) UnmarshalBinary(b []byte) error {
	copy(i[:], strings.TrimPrefix(string(b), "id"))
	return nil
}

type shownKey struct {
	ID    id
	Name  string
	small int8
	On    bool
}

type shownFixed struct {
	I8  int8
	U16 uint16
	I   int
	U64 uint64
	B   bool
	F   [2]float32
	D   float64
	Raw [3]uint8
	Non [2]struct{}
}

type shownCBOR struct {
	Name  string `json:"the name"`
	Ptr   *int
	Nil   *int
	M     map[int8][]byte
	When  time.Time
	Big   big.Int
	Own   id
	Float float64
	Half  float32
	Neg   int64
	Under []string
}

// shown is a file with a state of every kind and form.
func shown(tb testing.TB) []byte {
	sc := NewScope(keyOf[shownKey](tb), 4, 0, 3)
	sc.Tick(noon)
	k := shownKey{ID: id{1, 2, 3, 4}, Name: `a<"ä`, small: -3, On: true}
	sc.SetKey(k, keyOf[shownKey](tb).Hash(k))
	one := 1
	NewValue[shownFixed](sc, "fixed").Set(shownFixed{
		-1, 65535, math.MinInt, math.MaxUint64, true,
		[2]float32{0.1, float32(math.Inf(-1))},
		math.NaN(),
		[3]uint8{1, 2, 3},
		[2]struct{}{},
	})
	NewValue[shownCBOR](sc, "cbor").Set(shownCBOR{
		"x", &one, nil,
		map[int8][]byte{-2: {1}, 1: nil},
		noon, *new(big.Int).Lsh(big.NewInt(-1), 70),
		id{9},
		1e300, 0.5, -7,
		[]string{"a", "\xff"},
	})
	NewValue[id](sc, "own").Set(id{5})
	NewList[int16](sc, "list").Add(1, -2)
	m := NewMap[id, []string](sc, "map")
	m.Put(id{1}, []string{"x"})
	m.Put(id{0}, nil)
	*NewPanes[uint8](sc, "panes").At(noon.UnixMicro()) = 200
	NewTimers(sc, "timers").Add(noon.UnixMicro() + 1)
	ttl := TTL{After: time.Hour}
	NewReducing(sc, "reducing", func(acc *float32, v float32) { *acc += v }, ttl).Add(0.25)
	NewList[string](sc, "mortal list", ttl).Add("a")
	NewAggregating(sc, "aggregating", func(acc *struct{ N int32 }, v int32) { acc.N += v }, func(acc *struct{ N int32 }) int32 { return acc.N }).Add(2)
	NewValue[int64](sc, "nothing")
	if sc.Err() != nil {
		tb.Fatal(sc.Err())
	}
	return fileOf(tb, sc)
}

func TestInspectShowsEveryForm(t *testing.T) {
	b := shown(t)
	f, err := Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, st := range f.States {
		got = append(got, fmt.Sprintf("%s %s %s %d", st.Name, st.Kind, st.Signature, st.Entries))
		for e, err := range f.Entries(st.Name) {
			if err != nil {
				t.Fatal(err)
			}
			if len(st.Groups) != 1 || st.Groups[0].Group != e.Group || st.Groups[0].Bytes != st.Bytes {
				t.Fatalf("%+v of %+v", e, st)
			}
			e.Group = 0
			line, err := json.Marshal(e)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Replace(string(line), `{"group":0,"key":{"ID":"AQIDBA==","Name":"a\u003c\"ä","small":-3,"On":true}`, "{KEY", 1))
		}
	}
	const key = "struct{ID [4]uint8,Name string,small int8,On bool}"
	want := []string{
		"fixed value " + key + " -> fixed:struct{I8 int8,U16 uint16,I int,U64 uint64,B bool,F [2]float32,D float64,Raw [3]uint8,Non [2]struct{}} 1",
		`{KEY,"value":{"I8":-1,"U16":65535,"I":-9223372036854775808,"U64":18446744073709551615,"B":true,"F":[0.1,"-Inf"],"D":"NaN","Raw":"AQID","Non":[]}}`,
		"cbor value " + key + ` -> cbor:struct{"the name" string,Ptr *int,Nil *int,M map[int8][]uint8,When time,Big own(big.Int),Own own(state.id),Float float64,Half float32,Neg int64,Under []string} 1`,
		`{KEY,"value":{"Big":-1180591620717411303424,"Float":1e+300,"Half":0.5,"M":{"-2":"AQ==","1":null},"Neg":-7,"Nil":null,"Own":"aWQJAAAA","Ptr":1,"Under":["a","\ufffd"],"When":"2024-05-01T12:00:00Z","the name":"x"}}`,
		"own value " + key + " -> binary:state.id 1",
		`{KEY,"value":"aWQFAAAA"}`,
		"list list " + key + " -> list:fixed:int16 1",
		`{KEY,"value":[1,-2]}`,
		"map map " + key + " -> map([4]uint8)cbor:[]string 1",
		`{KEY,"value":{"AAAAAA==":null,"AQAAAA==":["x"]}}`,
		"panes panes " + key + " -> fixed:uint8 1",
		`{KEY,"window":"2024-05-01T12:00:00Z","value":200}`,
		"timers timers " + key + "@int64 -> none 1",
		`{KEY,"at":"2024-05-01T12:00:00.000001Z"}`,
		"reducing reducing " + key + " -> fixed:float32 1",
		`{KEY,"value":0.25}`,
		"reducing.ends value " + key + " -> fixed:int64 1",
		`{KEY,"value":1714568400000000}`,
		"mortal list list " + key + " -> list:cbor:string 1",
		`{KEY,"value":["a"]}`,
		"mortal list.ends value " + key + " -> fixed:int64 1",
		`{KEY,"value":1714568400000000}`,
		"aggregating aggregating " + key + " -> fixed:struct{N int32} 1",
		`{KEY,"value":{"N":2}}`,
		"nothing value " + key + " -> fixed:int64 0",
	}
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("line %d:\ngot  %s\nwant %s", i, strings.Join(got[min(i, len(got)):], "\n     "), strings.Join(want[min(i, len(want)):], "\n     "))
		}
	}
	if f.KeyGroups != 4 || f.First != 0 || f.Last != 3 {
		t.Errorf("groups %d to %d of %d", f.First, f.Last, f.KeyGroups)
	}
}

func TestInspectLists(t *testing.T) {
	for want, b := range map[string][]byte{
		`list fixed:int16 [{"group":0,"value":7} {"group":0,"value":-7}]`: encoded(t, func(l *Lists) {
			NewOperatorList[int16](l, "l").Set([]int16{7, -7})
		}),
		`union union:cbor:string [{"group":0,"value":"x"}]`: encoded(t, func(l *Lists) { NewUnionList[string](l, "l").Add("x") }),
		`list cbor:string []`:                               encoded(t, func(l *Lists) { NewOperatorList[string](l, "l") }),
		`broadcast broadcast:int8 -> cbor:[]int [{"group":0,"key":1,"value":[5]} {"group":0,"key":-1,"value":null}]`: encoded(t, func(l *Lists) {
			b := NewBroadcast[int8, []int](l, "l")
			b.Put(-1, nil)
			b.Put(1, []int{5})
		}),
	} {
		l, err := InspectList(b)
		if err != nil {
			t.Fatal(err)
		}
		var items []string
		for e, err := range l.Items() {
			if err != nil {
				t.Fatal(err)
			}
			line, _ := json.Marshal(e)
			items = append(items, string(line))
		}
		if got := fmt.Sprintf("%s %s %v", l.Kind, l.Signature, items); got != want || l.Entries != len(items) {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
}

func TestInspectRefusesDamage(t *testing.T) {
	b := shown(t)
	for at := range b {
		c := bytes.Clone(b)
		c[at] ^= 4
		if err := showAll(c); err == nil {
			t.Fatalf("byte %d of %d changed and nothing was noticed", at, len(b))
		}
	}
	for _, deep := range []string{strings.Repeat("[]", 1<<20), strings.Repeat("struct{a ", 1<<20), strings.Repeat("list:", 1<<20), strings.Repeat("map(int8)", 1<<20), strings.Repeat("own(", 1<<20)} {
		l := &ListInspection{Signature: deep, items: [][]byte{{0}}}
		for _, err := range l.Items() {
			if fault.CodeOf(err) != fault.BadState.ID {
				t.Errorf("%.20s...: %v", deep, err)
			}
		}
		if compatible("cbor:"+deep+"int8", "cbor:"+deep+"int16") {
			t.Errorf("%.20s... fits", deep)
		}
	}
	huge := &ListInspection{Signature: "fixed:[2000000000][2000000000]struct{}", items: [][]byte{{}}}
	for e, err := range huge.Items() {
		if string(e.Value) != "[]" || err != nil {
			t.Errorf("an array of nothing is %.20s, %v", e.Value, err)
		}
	}
	long := strings.Repeat("a", 1<<20)
	wide := &ListInspection{Signature: "fixed:[1000000]struct{" + long + " uint8}", items: [][]byte{make([]byte, 1e6)}}
	for _, err := range wide.Items() {
		if fault.CodeOf(err) != fault.BadState.ID {
			t.Errorf("1 TB of JSON: %v", err)
		}
	}
}

// showAll reads all of a file.
func showAll(b []byte) error {
	f, err := Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	for _, st := range f.States {
		for e, err := range f.Entries(st.Name) {
			if err != nil {
				return err
			}
			if _, err := json.Marshal(e); err != nil {
				return fmt.Errorf("entry %q is no JSON: %w", e.Value, err)
			}
		}
	}
	return nil
}

// Any bytes are refused or shown as JSON, in memory in proportion to what was read.
func FuzzInspect(f *testing.F) {
	f.Add(shown(f), uint16(0), uint16(0))
	f.Add(file(f), uint16(9), uint16(200))
	f.Fuzz(func(t *testing.T, b []byte, at, to uint16) {
		for _, in := range [][]byte{b, resealed(b, int(at), byte(to))} {
			if err := showAll(in); err != nil && strings.Contains(err.Error(), "is no JSON") {
				t.Error(err)
			}
		}
	})
}

// Values under a signature, both of them hostile.
func FuzzInspectForm(f *testing.F) {
	b := shown(f)
	in, err := Inspect(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range in.index.sections {
		_, val, _ := cutKey(s.sig)
		f.Add(val, b[s.off+12:s.off+int64(s.size)])
	}
	f.Add("cbor:int8", []byte{9, 0x9f, 0xbf, 0x7f, 0x61, 'a', 0xff, 0xf9, 0x3c, 0, 0xff})
	f.Fuzz(func(t *testing.T, sig string, item []byte) {
		for _, form := range []string{sig, broadcastForm + "string -> " + sig} {
			l := &ListInspection{Signature: form, items: [][]byte{item, slices.Concat([]byte{0}, item)}}
			for e, err := range l.Items() {
				if err == nil && len(e.Value) > 0 && !json.Valid(e.Value) {
					t.Errorf("%q under %q is shown as %q", item, form, e.Value)
				}
			}
		}
	})
}
