package state

import (
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

const benchBatch = 256

// benchKeys are random keys below n, as many as a benchmark cycles through.
func benchKeys(n int) []int64 {
	r := rand.New(rand.NewPCG(1, 2))
	ks := make([]int64, 1<<20)
	for i := range ks {
		ks[i] = int64(r.IntN(n)) + 1
	}
	return ks
}

func benchScope[K comparable](b *testing.B) (*Scope[K], *Key[K]) {
	key, err := KeyOf[K]()
	if err != nil {
		b.Fatal(err)
	}
	return NewScope(key, 128, 0, 127), key
}

func BenchmarkRMW(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		for _, warm := range []bool{false, true} {
			b.Run(fmt.Sprintf("int64/keys=%d/warm=%t", n, warm), func(b *testing.B) {
				benchRMW(b, n, warm, benchKeys(n))
			})
		}
	}
	for _, n := range []int{10_000, 1_000_000} {
		for _, warm := range []bool{false, true} {
			b.Run(fmt.Sprintf("string/keys=%d/warm=%t", n, warm), func(b *testing.B) {
				names := make([]string, n+1)
				for i := range names {
					names[i] = fmt.Sprintf("user-%08d", i)
				}
				nums := benchKeys(n)
				ks := make([]string, len(nums))
				for i, k := range nums {
					ks[i] = names[k]
				}
				benchRMW(b, n, warm, ks)
			})
		}
	}
}

func benchRMW[K comparable](b *testing.B, n int, warm bool, ks []K) {
	sc, key := benchScope[K](b)
	v := NewValue[int64](sc, "sum")
	for _, k := range ks {
		sc.SetKey(k, key.Hash(k))
		*v.Ref() = 1
	}
	hs := make([]uint64, benchBatch)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += benchBatch {
		at := i & (len(ks) - 1)
		batch := ks[at : at+benchBatch]
		hs = key.HashAll(batch, hs)
		if warm {
			sc.Warm(hs)
		}
		for j, k := range batch {
			sc.SetKey(k, hs[j])
			*v.Ref() += 3
		}
	}
}

func BenchmarkHashAll(b *testing.B) {
	_, key := benchScope[int64](b)
	ks := benchKeys(1000)[:benchBatch]
	hs := make([]uint64, benchBatch)
	for i := 0; i < b.N; i += benchBatch {
		hs = key.HashAll(ks, hs)
	}
}

type benchAcc struct{ Sum, N int64 }

// Out-of-order input alternates between 17 windows; every 64 batches the oldest one fires.
func BenchmarkPanes(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d/live=17", n), func(b *testing.B) { benchPanes(b, n, 17, 17, 64) })
	}
	b.Run("keys=1000000/live=2", func(b *testing.B) { benchPanes(b, 1_000_000, 2, 1, 4096) })
	b.Run("keys=10000/live=17/nofire", func(b *testing.B) { benchPanes(b, 10_000, 17, 17, 1<<40) })
}

func benchPanes(b *testing.B, n, live, spread, every int) {
	sc, key := benchScope[int64](b)
	p := NewPanes[benchAcc](sc, "w")
	ks := benchKeys(n)
	hs := make([]uint64, benchBatch)
	const size = 1000
	oldest, fired := int64(0), 0
	fire := func() {
		for g := range 128 {
			_ = p.FireGroup(oldest*size, g, func(int64, *benchAcc) error { fired++; return nil })
		}
		p.Drop(oldest * size)
		oldest++
	}
	step := func(i int) {
		at := i * benchBatch & (len(ks) - 1)
		batch := ks[at : at+benchBatch]
		hs = key.HashAll(batch, hs)
		sc.Warm(hs)
		w := 0
		for j, k := range batch {
			sc.SetKey(k, hs[j])
			if w++; w == spread {
				w = 0
			}
			a := p.At((oldest + int64(w)) * size)
			a.Sum += k
			a.N++
		}
		if i%every == every-1 {
			fire()
		}
	}
	for i := range min(every*live*2, 1<<14) {
		step(i)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for i := range (b.N + benchBatch - 1) / benchBatch {
		step(i)
	}
}

// A capture is always running: swept with 32 KiB after each batch, then written and released.
func BenchmarkSweep(b *testing.B) {
	sc, key := benchScope[int64](b)
	v := NewValue[int64](sc, "sum")
	ks := benchKeys(1_000_000)
	for _, k := range ks {
		sc.SetKey(k, key.Hash(k))
		*v.Ref() = 1
	}
	hs := make([]uint64, benchBatch)
	b.ReportAllocs()
	b.ResetTimer()
	captures := 0
	for i := 0; i < b.N; i += benchBatch {
		at := i & (len(ks) - 1)
		batch := ks[at : at+benchBatch]
		hs = key.HashAll(batch, hs)
		sc.Warm(hs)
		for j, k := range batch {
			sc.SetKey(k, hs[j])
			*v.Ref() += 3
		}
		if !sc.Capturing() {
			sc.Capture()
			captures++
		} else if sc.Sweep(32 << 10) {
			sc.Captured().Release()
		}
	}
	b.ReportMetric(float64(captures), "captures")
}

func BenchmarkCapture(b *testing.B) {
	sc, key := benchScope[int64](b)
	v := NewValue[int64](sc, "sum")
	for k := range int64(1_000_000) {
		sc.SetKey(k, key.Hash(k))
		*v.Ref() = 1
	}
	b.Run("barrier", func(b *testing.B) {
		for range b.N {
			sc.Capture()
			sc.AbortCapture()
		}
	})
	b.Run("sweepall", func(b *testing.B) {
		for range b.N {
			sc.Capture()
			sc.Captured().Release()
		}
	})
	b.Run("write", func(b *testing.B) {
		sc.Capture()
		s := sc.Captured()
		for range b.N {
			n, err := s.WriteTo(io.Discard)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(n)
		}
		s.Release()
	})
}
