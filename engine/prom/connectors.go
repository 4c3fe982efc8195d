package prom

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weirline/weirline/engine"
	"github.com/weirline/weirline/internal/meter"
)

const (
	connectorPrefix = "weirline_connector_"
	connectorHelp   = "Reported by a connector; see its documentation."
)

// coordinator is the label task of what an enumerator or a committer counts.
const coordinator = "coordinator"

// seriesKey tells the series of connectors apart.
type seriesKey struct{ name, operator, task string }

// collectConnectors sends what connectors count. Their names are theirs: two that become the same name in the same task are
// one series, the sum of counters or the last of gauges.
func collectConnectors(s scrape, out chan<- prometheus.Metric) {
	var order []seriesKey
	values := map[seriesKey]float64{}
	spread := map[seriesKey]distribution{}
	for _, m := range s.Connectors {
		k := seriesKey{connectorName(m.Name, m.Counter), m.Operator, coordinator}
		if m.Task >= 0 {
			k.task = strconv.Itoa(m.Task)
		}
		if m.Distribution != nil {
			spread[k] = spread[k].with(m)
			continue
		}
		old, twice := values[k]
		if !twice {
			order = append(order, k)
		}
		values[k] = m.Value
		if m.Counter {
			values[k] += old
		}
	}
	for _, k := range order {
		t := prometheus.GaugeValue
		if strings.HasSuffix(k.name, "_total") {
			t = prometheus.CounterValue
		}
		d := prometheus.NewDesc(k.name, connectorHelp, opLabels, nil)
		send(out, d, t, values[k], []string{s.Job, k.operator, k.task})
	}
	for k, h := range spread {
		if _, twice := values[k]; !twice {
			h.send(out, k, s.Job)
		}
	}
}

// distribution is what a connector has observed under a name.
type distribution struct {
	counts []uint64 // by bound, not cumulative; the last is everything above
	sum    float64
}

// with adds what one task counted under a name that has become this one.
func (h distribution) with(m engine.ConnectorMetric) distribution {
	if h.counts == nil {
		h.counts = make([]uint64, len(m.Distribution.Buckets))
	}
	for i, n := range m.Distribution.Buckets {
		h.counts[i] += n
	}
	h.sum += m.Value
	return h
}

func (h distribution) send(out chan<- prometheus.Metric, k seriesKey, job string) {
	d := prometheus.NewDesc(k.name, connectorHelp, opLabels, nil)
	sendHistogram(out, d, meter.Bounds[:], h.counts, h.sum, job, k.operator, k.task)
}

// connectorName makes a valid metric name of any text; counters, and nothing else, end in _total.
func connectorName(name string, counter bool) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '_'
	}, name)
	name = strings.Trim(name, "_")
	for strings.HasSuffix(name, "_total") {
		name = strings.TrimRight(strings.TrimSuffix(name, "_total"), "_")
	}
	if name == "" || name == "total" {
		name = "unnamed"
	}
	if counter {
		name += "_total"
	}
	return connectorPrefix + name
}
