package ipam

import (
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// historyDays is how many days before the running one a history reaches back.
const historyDays = 14

// furthest is the furthest day that a forecast names: what grows more slowly does not grow.
const furthest = 3650

const day = 24 * time.Hour

// Record returns history with now at its end, if that is the first sample of its day (UTC), without what is too old or, since
// a clock was wrong, of the future. It does not change history.
func Record(history []lb.Sample, now lb.Sample) []lb.Sample {
	today := now.At.Truncate(day) // in UTC, as time's zero is a midnight
	out := make([]lb.Sample, 0, len(history)+1)
	for _, s := range history {
		if !s.At.After(now.At) && !s.At.Before(today.Add(-historyDays*day)) {
			out = append(out, s)
		}
	}
	if n := len(out); n == 0 || out[n-1].At.Before(today) {
		out = append(out, now)
	}
	return out
}

// Forecast returns in how many whole days the available addresses of the family are used up, if use goes on growing as it
// has from the beginning of history until now, by the line that fits all samples best. There is no forecast before a day
// has passed, where use does not grow, and where the day is more than ten years ahead.
func Forecast(history []lb.Sample, now lb.Sample, family lb.Family, available int64) (days int, ok bool) {
	if len(history) == 0 || now.At.Sub(history[0].At) < day {
		return 0, false
	}
	used := func(s lb.Sample) float64 {
		if family == lb.IPv4 {
			return float64(s.IPv4)
		}
		return float64(s.IPv6)
	}
	samples := append(slices.Clone(history), now)
	age := func(s lb.Sample) float64 { return s.At.Sub(history[0].At).Hours() / 24 }
	var meanAge, meanUse float64
	for _, s := range samples {
		meanAge += age(s) / float64(len(samples))
		meanUse += used(s) / float64(len(samples))
	}
	var together, spread float64
	for _, s := range samples {
		d := age(s) - meanAge
		together += d * (used(s) - meanUse)
		spread += d * d
	}
	if together <= 0 {
		return 0, false
	}
	left := float64(available) / (together / spread)
	if left > furthest {
		return 0, false
	}
	return int(left), true
}
