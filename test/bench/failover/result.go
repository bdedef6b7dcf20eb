package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
)

// row is one measure: the values of its trials.
type row struct {
	name, unit string
	values     []float64
	load       float64 // sum of the machine's load averages, one for each value
}

// results is the table, in the order in which the measures came up.
type results struct{ rows []*row }

// add notes the value of one trial.
func (r *results) add(name, unit string, value float64) {
	i := slices.IndexFunc(r.rows, func(o *row) bool { return o.name == name && o.unit == unit })
	if i < 0 {
		i = len(r.rows)
		r.rows = append(r.rows, &row{name: name, unit: unit})
	}
	r.rows[i].values = append(r.rows[i].values, value)
	r.rows[i].load += loadAverage()
}

// find returns the measure called name, nil if there is none.
func (r *results) find(name string) *row {
	for _, o := range r.rows {
		if o.name == name {
			return o
		}
	}
	return nil
}

// quantile returns the least value that at least the share q of all values do not exceed (nearest rank).
func (r *row) quantile(q float64) float64 {
	sorted := slices.Sorted(slices.Values(r.values))
	return sorted[max(0, int(math.Ceil(q*float64(len(sorted))))-1)]
}

// table prints the results for people.
func (r *results) table(w io.Writer) {
	fmt.Fprintf(w, "%-52s %10s %10s %10s %10s %5s %-8s %5s\n", "measure", "p50", "p90", "p99", "max", "n", "unit", "load")
	for _, o := range r.rows {
		fmt.Fprintf(w, "%-52s %10.4g %10.4g %10.4g %10.4g %5d %-8s %5.1f\n",
			o.name, o.quantile(0.5), o.quantile(0.9), o.quantile(0.99), o.quantile(1), len(o.values), o.unit, o.load/float64(len(o.values)))
	}
}

// lines prints the results as "name value unit", as scripts/bench wants them.
func (r *results) lines(w io.Writer) {
	for _, o := range r.rows {
		name, unit := "failover."+o.name, strings.ReplaceAll(o.unit, " ", "-")
		if len(o.values) == 1 {
			fmt.Fprintf(w, "%s %.4g %s\n", name, o.values[0], unit)
			continue
		}
		fmt.Fprintf(w, "%s.p50 %.4g %s\n%s.p99 %.4g %s\n%s.n %d trials\n", name, o.quantile(0.5), unit, name, o.quantile(0.99), unit, name, len(o.values))
	}
}

// loadAverage returns the machine's load average of the last minute.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var load float64
	if _, err := fmt.Sscan(string(text), &load); err != nil {
		return 0
	}
	return load
}
