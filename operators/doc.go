// Package operators has what can be made of the engine's own operators: joins of two streams, one processor for two keyed
// streams, and records of either of two types.
//
//	seen := operators.WindowJoin("seen", operators.By(views, viewID), operators.By(clicks, clickedID), engine.Tumbling{Size: time.Minute},
//		func(g operators.Group[string, View, Click], emit func(Seen)) {
//			for v, c := range g.Inner() {
//				emit(Seen{*v, *c})
//			}
//		})
//
// Everything here is a few engine operators under names of their own, which begin with the one given and a dot or are the one
// given: they show in the plan, and their state is found again under these names. There is nothing here that a pipeline couldn't
// write itself, and no goroutine: the functions given are called by all tasks at once, as those of the engine are.
//
// Two streams in one operator are one stream of [Either] for the engine: its event time is the lower one of the two, so both
// need EventTime where windows and intervals are to end.
package operators
