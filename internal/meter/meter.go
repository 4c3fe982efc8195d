// Package meter holds what connectors count and measure, by operator, task and name.
//
//	m := meter.New()
//	m.Of("in", 0).Count("fetches", 1)
//	m.List()
//
// Everything may be called from any goroutine. A name is looked up once for each View; after that an update is one atomic
// operation.
package meter

import (
	"cmp"
	"math"
	"slices"
	"sync"
	"sync/atomic"
)

// Value is something that is counted.
type Value struct {
	Operator string
	Task     int // -1: none
	Name     string
	Value    float64 // of a distribution the sum
	Counter  bool

	Distribution *Distribution // nil: not a distribution
}

// Bounds are the upper ends of a distribution's buckets, each included: of times in seconds.
var Bounds = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// Distribution is how often which values were observed.
type Distribution struct {
	Buckets [len(Bounds) + 1]uint64 // how many up to each of Bounds and above the one before; the last: above all
	Count   uint64
}

// Set is all of it. Make it with New.
type Set struct {
	mu sync.Mutex
	m  map[metricKey]*metric
}

type metricKey struct {
	op   string
	task int
	name string
}

type metric struct {
	bits    atomic.Uint64
	kind    kind
	buckets *[len(Bounds) + 1]atomic.Uint64 // of a distribution
}

type kind int

const (
	counter kind = iota
	gauge
	distribution
)

// add adds to the value.
func (m *metric) add(x float64) {
	for {
		old := m.bits.Load()
		if m.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+x)) {
			return
		}
	}
}

// New makes an empty set.
func New() *Set { return &Set{m: map[metricKey]*metric{}} }

// Of is the view of one operator in one task; it is both a source.Metrics and a sink.Metrics.
func (c *Set) Of(op string, task int) *View {
	return &View{all: c, op: op, task: task}
}

// View counts for one operator in one task.
type View struct {
	all  *Set
	op   string
	task int
	mine sync.Map // name -> *metric
}

func (v *View) find(name string, k kind) *metric {
	if m, ok := v.mine.Load(name); ok {
		return m.(*metric)
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	key := metricKey{v.op, v.task, name}
	m := v.all.m[key]
	if m == nil {
		m = &metric{kind: k}
		if k == distribution {
			m.buckets = new([len(Bounds) + 1]atomic.Uint64)
		}
		v.all.m[key] = m
	}
	v.mine.Store(name, m)
	return m
}

// Count adds to a counter.
func (v *View) Count(name string, n int64) { v.find(name, counter).add(float64(n)) }

// Gauge sets a value.
func (v *View) Gauge(name string, x float64) {
	v.find(name, gauge).bits.Store(math.Float64bits(x))
}

// Observe adds to a distribution.
func (v *View) Observe(name string, x float64) {
	m := v.find(name, distribution)
	m.add(x)
	if m.buckets == nil {
		return // the name has been used for something else
	}
	i, _ := slices.BinarySearch(Bounds[:], x)
	m.buckets[i].Add(1)
}

// List is all values, sorted by operator, task and name.
func (c *Set) List() []Value {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Value, 0, len(c.m))
	for k, m := range c.m {
		out = append(out, Value{
			Operator: k.op, Task: k.task, Name: k.name, Value: math.Float64frombits(m.bits.Load()), Counter: m.kind == counter,
			Distribution: m.distribution(),
		})
	}
	slices.SortFunc(out, func(a, b Value) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.Task, b.Task), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (m *metric) distribution() *Distribution {
	if m.buckets == nil {
		return nil
	}
	d := &Distribution{}
	for i := range m.buckets {
		d.Buckets[i] = m.buckets[i].Load()
		d.Count += d.Buckets[i]
	}
	return d
}
