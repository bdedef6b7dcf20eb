package ipam

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/lb"
)

// samples returns one sample per day at noon, beginning at the epoch's; IPv6 counts down.
func samples(used ...int64) []lb.Sample {
	var out []lb.Sample
	for i, n := range used {
		out = append(out, lb.Sample{At: epoch.Add(time.Duration(i)*day + 12*time.Hour), IPv4: n, IPv6: 100 - n})
	}
	return out
}

func TestForecast(t *testing.T) {
	for name, c := range map[string]struct {
		used  []int64 // the last is now
		after time.Duration
		left  int64
		want  int
		ok    bool
	}{
		"no history":            {used: []int64{5}, left: 10},
		"not a day yet":         {used: []int64{1, 5}, after: -time.Minute, left: 10},
		"a day":                 {used: []int64{1, 5}, left: 10, want: 2, ok: true},
		"steady":                {used: []int64{0, 2, 4, 6, 8}, left: 7, want: 3, ok: true},
		"no growth":             {used: []int64{5, 5, 5, 5}, left: 10},
		"shrinking":             {used: []int64{9, 7, 5, 3}, left: 10},
		"used up and growing":   {used: []int64{1, 2, 3}, left: 0, want: 0, ok: true},
		"used up, not growing":  {used: []int64{3, 3, 3}, left: 0},
		"one odd day":           {used: []int64{0, 1, 2, 40, 4, 5, 6}, left: 10, want: 10, ok: true},
		"slower than ten years": {used: []int64{0, 1}, left: 3651},
		"as slow as ten years":  {used: []int64{0, 1}, left: 3650, want: 3650, ok: true},
		"part of a day":         {used: []int64{0, 6}, after: 12 * time.Hour, left: 10, want: 2, ok: true}, // 4 a day
	} {
		all := samples(c.used...)
		now := all[len(all)-1]
		now.At = now.At.Add(c.after)
		if got, ok := Forecast(all[:len(all)-1], now, lb.IPv4, c.left); got != c.want || ok != c.ok {
			t.Errorf("%s: %d, %v; want %d, %v", name, got, ok, c.want, c.ok)
		}
	}
	all := samples(9, 7, 5)
	if got, ok := Forecast(all[:2], all[2], lb.IPv6, 9); got != 4 || !ok {
		t.Errorf("IPv6: %d, %v", got, ok)
	}
}

func TestRecord(t *testing.T) {
	at := func(d time.Duration, n int64) lb.Sample { return lb.Sample{At: epoch.Add(d), IPv4: n} }
	for name, c := range map[string]struct {
		history []lb.Sample
		now     lb.Sample
		want    []lb.Sample
	}{
		"the first":      {nil, at(0, 1), []lb.Sample{at(0, 1)}},
		"the same day":   {[]lb.Sample{at(0, 1)}, at(day-time.Second, 2), []lb.Sample{at(0, 1)}},
		"the next day":   {[]lb.Sample{at(23*time.Hour, 1)}, at(day, 2), []lb.Sample{at(23*time.Hour, 1), at(day, 2)}},
		"after a gap":    {[]lb.Sample{at(0, 1)}, at(9*day, 2), []lb.Sample{at(0, 1), at(9*day, 2)}},
		"of the future":  {[]lb.Sample{at(0, 1), at(300*day, 9)}, at(day, 2), []lb.Sample{at(0, 1), at(day, 2)}},
		"all out of age": {[]lb.Sample{at(0, 1)}, at(15*day, 2), []lb.Sample{at(15*day, 2)}},
	} {
		if diff := cmp.Diff(c.want, Record(c.history, c.now)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	var history []lb.Sample
	for hour := range 24 * 40 {
		history = Record(history, at(time.Duration(hour)*time.Hour, int64(hour)))
	}
	if len(history) != historyDays+1 || history[0] != at(25*day, 25*24) || history[historyDays] != at(39*day, 39*24) {
		t.Errorf("after forty days: %+v", history)
	}
}
