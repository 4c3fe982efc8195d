package state_test

import (
	"bytes"
	"fmt"
	"time"

	"github.com/weirline/weirline/state"
)

// In a pipeline the engine's Setup is the Lister.
func ExampleNewBroadcast() {
	setup := new(state.Lists)
	rates := state.NewBroadcast[string, float64](setup, "rates")
	rates.Put("EUR", 1.08)
	rates.Put("EUR", 1.09)
	rate, ok := rates.Get("EUR")
	fmt.Println(rate, ok, rates.Len(), setup.Err())
	// Output: 1.09 true 1 <nil>
}

func ExampleNewUnionList() {
	setup := new(state.Lists)
	seen := state.NewUnionList[string](setup, "files")
	seen.Add("a.log")
	seen.Add("b.log")
	fmt.Println(seen.All())
	// Output: [a.log b.log]
}

// scope stands for the engine's Setup, which is where a Processor declares its states.
func scope() *state.Scope[string] {
	key, err := state.KeyOf[string]()
	if err != nil {
		panic(err)
	}
	return state.NewScope(key, 128, 0, 127)
}

// current makes k the current key, as the engine does before each record.
func current(s *state.Scope[string], k string) {
	key, _ := state.KeyOf[string]()
	s.SetKey(k, key.Hash(k))
}

func ExampleNewReducing() {
	setup := scope()
	highest := state.NewReducing(setup, "highest", func(acc *int64, v int64) { *acc = max(*acc, v) })
	current(setup, "a")
	highest.Add(3)
	highest.Add(7)
	highest.Add(5)
	fmt.Println(highest.Get())
	// Output: 7 true
}

func ExampleNewAggregating() {
	type avg struct{ Sum, N float64 }
	setup := scope()
	mean := state.NewAggregating(setup, "mean",
		func(acc *avg, v float64) { acc.Sum += v; acc.N++ },
		func(acc *avg) float64 { return acc.Sum / acc.N })
	current(setup, "a")
	mean.Add(1)
	mean.Add(2)
	fmt.Println(mean.Get())
	// Output: 1.5 true
}

func ExampleTTL() {
	setup := scope()
	setup.Tick(time.Unix(0, 0)) // the engine does this before each batch
	seen := state.NewValue[bool](setup, "seen", state.TTL{After: time.Hour})
	current(setup, "a")
	seen.Set(true)
	fmt.Println(seen.Get())
	setup.Tick(time.Unix(3600, 0))
	fmt.Println(seen.Get())
	// Output:
	// true true
	// false false
}

func ExampleInspect() {
	setup := scope()
	sum := state.NewValue[int64](setup, "sum")
	current(setup, "a")
	sum.Set(5)
	var file bytes.Buffer
	setup.Capture()
	snap := setup.Captured()
	if _, err := snap.WriteTo(&file); err != nil {
		fmt.Println(err)
	}
	snap.Release()

	in, err := state.Inspect(bytes.NewReader(file.Bytes()), int64(file.Len()))
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, st := range in.States {
		fmt.Println(st.Name, st.Kind, st.Signature, st.Entries)
		for e, err := range in.Entries(st.Name) {
			fmt.Printf("%s %s %v\n", e.Key, e.Value, err)
		}
	}
	// Output:
	// sum value string -> fixed:int64 1
	// "a" 5 <nil>
}
