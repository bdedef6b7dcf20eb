package bfd

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// world is two sessions and the link between them, in virtual time. The link may lose, delay, duplicate and reorder.
type world struct {
	t      *testing.T
	dice   *rand.Rand
	now    time.Time
	end    [2]*Session
	flying []flying
	sent   [2][]sent
	events [2][]Event
	drops  map[Drop]int

	lose      func(to int) bool    // nil = nothing is lost
	duplicate float64              // how likely a packet arrives twice
	delay     func() time.Duration // nil = none
	cut       [2]bool              // nothing that this end sends arrives
}

type flying struct {
	to   int
	wire []byte
	at   time.Time
}

type sent struct {
	Packet
	at time.Time
}

// fast is 50 ms x 3 as in the heartbeat, but with the RFC's second while not Up.
func fast() Config {
	return Config{DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 50 * time.Millisecond, Multiplier: 3}
}

func newWorld(t *testing.T, seed uint64, a, b Config) *world {
	t.Helper()
	w := &world{t: t, dice: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1000, 0), drops: map[Drop]int{}}
	w.restart(0, a)
	w.restart(1, b)
	return w
}

// restart replaces an end by a new instance.
func (w *world) restart(i int, c Config) {
	w.t.Helper()
	s, err := New(c, w.dice.Uint32()|1, w.dice.Float64, w.now)
	if err != nil {
		w.t.Fatal(err)
	}
	w.end[i] = s
	w.tick(i)
}

func (w *world) tick(i int) {
	for _, p := range w.end[i].Tick(w.now, nil) {
		w.sent[i] = append(w.sent[i], sent{p, w.now})
		w.send(1-i, p.Append(nil))
	}
	w.events[i] = append(w.events[i], w.end[i].Events()...)
}

func (w *world) send(to int, wire []byte) {
	copies := 1
	if w.dice.Float64() < w.duplicate {
		copies = 2
	}
	for range copies {
		if w.cut[1-to] || w.lose != nil && w.lose(to) {
			continue
		}
		at := w.now
		if w.delay != nil {
			at = at.Add(w.delay())
		}
		w.flying = append(w.flying, flying{to, wire, at})
	}
}

// run lets d pass.
func (w *world) run(d time.Duration) {
	w.t.Helper()
	end := w.now.Add(d)
	for range 1_000_000 {
		next, what := end, -1
		for i, f := range w.flying {
			if !f.at.After(next) && (what < 0 || f.at.Before(next)) {
				next, what = f.at, i
			}
		}
		for i := range w.end {
			if due := w.end[i].Next(); !due.IsZero() && due.Before(next) {
				next, what = due, -2-i
			}
		}
		if next.After(w.now) {
			w.now = next
		}
		switch {
		case what == -1:
			return
		case what <= -2:
			w.tick(-2 - what)
		default:
			f := w.flying[what]
			w.flying = slices.Delete(w.flying, what, what+1)
			w.arrive(f.to, f.wire)
		}
	}
	w.t.Fatal("the sessions do not stop sending: time stands still")
}

// arrive gives bytes to an end now.
func (w *world) arrive(to int, wire []byte) Drop {
	w.t.Helper()
	p, drop := Parse(wire)
	if drop != "" {
		w.t.Fatalf("we sent what we discard ourselves: %s: %x", drop, wire)
	}
	drop = w.end[to].Receive(p, w.now)
	w.drops[drop]++
	w.tick(to)
	return drop
}

// inject gives an end a packet of a stranger and returns what became of it.
func (w *world) inject(to int, change func(p *Packet)) Drop {
	w.t.Helper()
	other := w.end[1-to]
	p := other.packet()
	p.YourDiscriminator = w.end[to].local
	change(&p)
	return w.arrive(to, p.Append(nil))
}

func (w *world) up() *world {
	w.t.Helper()
	w.run(3 * time.Second)
	w.expect("after 3 s of a working link", Up, Up)
	w.run(time.Second)
	w.sent, w.events = [2][]sent{}, [2][]Event{}
	return w
}

func (w *world) expect(when string, a, b State) {
	w.t.Helper()
	if got := [2]State{w.end[0].state, w.end[1].state}; got != [2]State{a, b} {
		w.t.Errorf("%s: %v, want %s and %s; events %s", when, got, a, b, w.history())
	}
}

func (w *world) history() (out string) {
	for i, events := range w.events {
		for _, e := range events {
			out += fmt.Sprintf("\n  %d %s %s->%s %s", i, e.At.Sub(time.Unix(1000, 0)), e.From, e.To, e.Cause)
		}
	}
	return out
}

// gaps returns the least and the greatest time between two packets of an end.
func (w *world) gaps(i int) (least, most time.Duration) {
	least = time.Hour
	for j, p := range w.sent[i][1:] {
		gap := p.at.Sub(w.sent[i][j].at)
		least, most = min(least, gap), max(most, gap)
	}
	return least, most
}
