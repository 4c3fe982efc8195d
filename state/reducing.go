package state

// Reducing is one value per key that all values added to it are folded into, by a function of the user's. A copy of the
// handle is the same handle.
type Reducing[V any] struct {
	s      slot[V]
	reduce func(acc *V, v V)
}

// NewReducing declares a reducing state; call it in Open. Errors are collected in the Scope. reduce folds v into *acc, which
// is the first value added to the key, or what earlier calls made of it.
//
//	highest := state.NewReducing(setup, "highest", func(acc *int64, v int64) { *acc = max(*acc, v) })
func NewReducing[V any, K comparable](s Keyed[K], name string, reduce func(acc *V, v V), ttl ...TTL) Reducing[V] {
	sc := s.Scope()
	codec, err := CodecOf[V]()
	if err != nil {
		sc.refuse(named(name, err))
		return Reducing[V]{}
	}
	return Reducing[V]{s: newSlot(sc, name, kindReducing, codec, ttl), reduce: reduce}
}

// Add folds v into the current key's value. Maps, slices and pointers in v belong to the state from then on.
func (r Reducing[V]) Add(v V) {
	if p := r.s.find(); p != nil {
		r.reduce(p, v)
		return
	}
	*r.s.ref() = v
}

// Get is the current key's value; ok is false if nothing was added. What it points to may be changed until the next call of
// any handle; to keep it longer, copy it.
func (r Reducing[V]) Get() (v V, ok bool) {
	if p := r.s.peek(); p != nil {
		return *p, true
	}
	return v, false
}

// Clear removes the current key's value.
func (r Reducing[V]) Clear() { r.s.clear() }

// Aggregating is one accumulator per key that takes values of one type in and gives a result of another. A copy of the
// handle is the same handle.
type Aggregating[A, In, Out any] struct {
	s      slot[A]
	add    func(acc *A, v In)
	result func(acc *A) Out
}

// NewAggregating declares an aggregating state; call it in Open. Errors are collected in the Scope. add takes v into *acc,
// which is zero at first; result says what it comes to and must not keep it. Only the accumulator is stored.
//
//	mean := state.NewAggregating(setup, "mean",
//		func(acc *avg, v float64) { acc.Sum += v; acc.N++ },
//		func(acc *avg) float64 { return acc.Sum / acc.N })
func NewAggregating[A, In, Out any, K comparable](
	s Keyed[K], name string, add func(acc *A, v In), result func(acc *A) Out, ttl ...TTL,
) Aggregating[A, In, Out] {
	sc := s.Scope()
	codec, err := CodecOf[A]()
	if err != nil {
		sc.refuse(named(name, err))
		return Aggregating[A, In, Out]{}
	}
	return Aggregating[A, In, Out]{s: newSlot(sc, name, kindAggregating, codec, ttl), add: add, result: result}
}

// Add takes v into the current key's accumulator.
func (a Aggregating[A, In, Out]) Add(v In) { a.add(a.s.ref(), v) }

// Get is the result for the current key; ok is false if nothing was added.
func (a Aggregating[A, In, Out]) Get() (out Out, ok bool) {
	if p := a.s.find(); p != nil {
		return a.result(p), true
	}
	return out, false
}

// Clear removes the current key's accumulator.
func (a Aggregating[A, In, Out]) Clear() { a.s.clear() }
