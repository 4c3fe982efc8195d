package operators

import "github.com/weirline/weirline/engine"

// Either is a record of one of two types. The zero value is the zero value of A.
type Either[A, B any] struct {
	Left    A
	Right   B
	IsRight bool // Right is set, Left isn't
}

// Both is the records of two streams in one, in no order between the two.
func Both[A, B any](name string, a engine.Stream[A], b engine.Stream[B]) engine.Stream[Either[A, B]] {
	return engine.Union(
		engine.Map(a, name+".left", func(v A) Either[A, B] { return Either[A, B]{Left: v} }),
		engine.Map(b, name+".right", func(v B) Either[A, B] { return Either[A, B]{Right: v, IsRight: true} }))
}

// Split takes a stream of two types apart. It is also how a function has a second output: let it emit Either, and split what it
// emits.
func Split[A, B any](name string, s engine.Stream[Either[A, B]]) (engine.Stream[A], engine.Stream[B]) {
	left := engine.Map(s.Filter(name+".is-left", func(e Either[A, B]) bool { return !e.IsRight }), name+".left",
		func(e Either[A, B]) A { return e.Left })
	right := engine.Map(s.Filter(name+".is-right", func(e Either[A, B]) bool { return e.IsRight }), name+".right",
		func(e Either[A, B]) B { return e.Right })
	return left, right
}

// Input is one input of an operator of two: a stream and its key, as for engine.KeyBy. Make it with By.
type Input[K comparable, T any] struct {
	stream engine.Stream[T]
	key    func(T) K
}

// By says what a stream is joined by. key is called by all tasks at once and must be a pure function of the record.
func By[K comparable, T any](s engine.Stream[T], key func(T) K) Input[K, T] {
	return Input[K, T]{stream: s, key: key}
}

// keyed is two inputs as one keyed stream.
func keyed[K comparable, A, B any](name string, a Input[K, A], b Input[K, B]) engine.Keyed[K, Either[A, B]] {
	return engine.KeyBy(Both(name, a.stream, b.stream), func(e Either[A, B]) K {
		if e.IsRight {
			return b.key(e.Right)
		}
		return a.key(e.Left)
	})
}
