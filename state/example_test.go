package state_test

import (
	"fmt"

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
