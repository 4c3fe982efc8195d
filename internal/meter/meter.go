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
	Value    float64
	Counter  bool
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
	counter bool
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

func (v *View) find(name string, counter bool) *metric {
	if m, ok := v.mine.Load(name); ok {
		return m.(*metric)
	}
	v.all.mu.Lock()
	defer v.all.mu.Unlock()
	k := metricKey{v.op, v.task, name}
	m := v.all.m[k]
	if m == nil {
		m = &metric{counter: counter}
		v.all.m[k] = m
	}
	v.mine.Store(name, m)
	return m
}

// Count adds to a counter.
func (v *View) Count(name string, n int64) {
	m := v.find(name, true)
	for {
		old := m.bits.Load()
		if m.bits.CompareAndSwap(old, math.Float64bits(math.Float64frombits(old)+float64(n))) {
			return
		}
	}
}

// Gauge sets a value.
func (v *View) Gauge(name string, x float64) {
	v.find(name, false).bits.Store(math.Float64bits(x))
}

// List is all values, sorted by operator, task and name.
func (c *Set) List() []Value {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]Value, 0, len(c.m))
	for k, m := range c.m {
		out = append(out, Value{
			Operator: k.op, Task: k.task, Name: k.name, Value: math.Float64frombits(m.bits.Load()), Counter: m.counter,
		})
	}
	slices.SortFunc(out, func(a, b Value) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.Task, b.Task), cmp.Compare(a.Name, b.Name))
	})
	return out
}
