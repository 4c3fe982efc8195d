package prom

import (
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

const connectorPrefix = "weirline_connector_"

// coordinator is the label task of what an enumerator or a committer counts.
const coordinator = "coordinator"

// seriesKey tells the series of connectors apart.
type seriesKey struct{ name, operator, task string }

// collectConnectors sends what connectors count. Their names are theirs: two that become the same name in the same task are
// one series, the sum of counters or the last of gauges.
func collectConnectors(s scrape, out chan<- prometheus.Metric) {
	var order []seriesKey
	values := map[seriesKey]float64{}
	for _, m := range s.Connectors {
		k := seriesKey{connectorName(m.Name, m.Counter), m.Operator, coordinator}
		if m.Task >= 0 {
			k.task = strconv.Itoa(m.Task)
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
		d := prometheus.NewDesc(k.name, "Reported by a connector; see its documentation.", opLabels, nil)
		send(out, d, t, values[k], []string{s.Job, k.operator, k.task})
	}
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
