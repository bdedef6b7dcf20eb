package bfd

import (
	"math/rand/v2"
	"testing"
	"time"
)

// history is a random world whose link keeps the promise: of so many packets in a row at least one arrives in time.
type history struct {
	*world
	inRow [2]int // packets lost one after the other
	most  int
	slack time.Duration // the greatest delay
}

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 2))
	interval := func() time.Duration { return time.Duration(20+dice.IntN(200)) * ms }
	config := func() Config {
		c := Config{DesiredMinTx: interval(), RequiredMinRx: interval(), Multiplier: uint8(3 + dice.IntN(3))}
		if dice.IntN(2) == 0 {
			c.SlowTx = 100 * ms
		}
		return c
	}
	a, b := config(), config()
	a.Auth = ringOf(AuthType(dice.IntN(6)))
	b.Auth = a.Auth
	b.Passive = dice.IntN(3) == 0
	h := &history{world: newWorld(t, seed, a, b), slack: time.Duration(dice.IntN(15)) * ms}
	h.most = int(min(a.Multiplier, b.Multiplier)) - 2
	h.duplicate = dice.Float64() / 4
	h.delay = func() time.Duration { return time.Duration(h.dice.Int64N(int64(h.slack) + 1)) }
	h.lossy()
	return h
}

// lossy makes the link lose half of what it may lose.
func (h *history) lossy() {
	h.lose = func(to int) bool {
		if h.inRow[to] < h.most && h.dice.IntN(2) == 0 {
			h.inRow[to]++
			return true
		}
		h.inRow[to] = 0
		return false
	}
}

// TestRandomHistories lets links work, break in one or both directions and work again.
func TestRandomHistories(t *testing.T) {
	for seed := range uint64(100) {
		h := newHistory(t, seed)
		for round := range 3 {
			h.run(15 * time.Second)
			h.expect("the link works", Up, Up)
			h.events = [2][]Event{}
			h.run(20 * time.Second)
			if n := len(h.events[0]) + len(h.events[1]); n > 0 {
				t.Errorf("%d changes although the link lost only what was promised:%s", n, h.history())
			}
			h.breakLink()
			h.cut = [2]bool{}
			if t.Failed() {
				t.Fatalf("seed %d, round %d", seed, round)
			}
		}
	}
}

// breakLink cuts the link and checks that both ends notice in time.
func (h *history) breakLink() {
	h.t.Helper()
	dead := h.dice.IntN(3) // 0 and 1: what that end sends is lost; 2: everything
	h.cut = [2]bool{dead != 1, dead != 0}
	var limit [2]time.Duration
	for i := range limit {
		limit[i] = h.end[i].DetectionTime() + h.slack
	}
	start := h.now
	h.run(max(limit[0], limit[1]) + time.Second)
	for i := range h.end {
		if len(h.events[i]) == 0 || h.events[i][0].From != Up {
			h.t.Errorf("end %d did not notice that the link was cut (%v):%s", i, h.cut, h.history())
			continue
		}
		allowed := limit[i]
		if !h.cut[1-i] { // it hears the other, which tells when it notices; some of that may be lost
			allowed = limit[1-i] + h.slack + time.Duration(h.most+1)*time.Second
		}
		if took := h.events[i][0].At.Sub(start); took > allowed {
			h.t.Errorf("end %d noticed after %s, want %s (cut %v)", i, took, allowed, h.cut)
		}
	}
}

// TestReplayChangesNothing plays everything that an end has sent to its peer once more, in the same and in later sessions.
func TestReplayChangesNothing(t *testing.T) {
	for _, kind := range []AuthType{MeticulousKeyedMD5, MeticulousKeyedSHA1} {
		c := fast()
		c.Auth = ringOf(kind)
		w := newWorld(t, 1, c, c)
		w.up()
		w.run(time.Second)
		var tape [][]byte
		for _, p := range w.sent[1] {
			tape = append(tape, p.Append(nil))
		}
		for _, wire := range tape {
			if drop := w.arrive(0, wire); drop != DropSequence {
				t.Errorf("%s: a replayed packet: %q, want %q", kind, drop, DropSequence)
			}
		}
		w.run(time.Second)
		w.restart(0, c)
		w.restart(1, c)
		w.run(5 * time.Second)
		w.expect("restarted", Up, Up)
		for _, wire := range tape {
			if drop := w.arrive(0, wire); drop == "" {
				t.Errorf("%s: a packet of an earlier session was accepted", kind)
			}
		}
		w.expect("after the replay", Up, Up)
	}
}

// TestRotationOfKeys changes the key at one end after the other, in the three steps of Keyring's doc.
func TestRotationOfKeys(t *testing.T) {
	for kind := SimplePassword; kind <= MeticulousKeyedSHA1; kind++ {
		old, fresh := Key{1, "old"}, Key{2, "new"}
		with := func(keys ...Key) Config {
			c := fast()
			c.Auth = Keyring{Type: kind, Keys: keys}
			return c
		}
		w := newWorld(t, 1, with(old), with(old)).up()
		for _, c := range []Config{with(old, fresh), with(fresh, old), with(fresh)} {
			for i := range w.end {
				if err := w.end[i].SetConfig(c, w.now); err != nil {
					t.Fatal(err)
				}
				w.run(300 * ms)
			}
		}
		if n := len(w.events[0]) + len(w.events[1]); n > 0 {
			t.Errorf("%s: the rotation of keys changed the sessions:%s", kind, w.history())
		}
		for drop, n := range w.drops {
			if drop != "" {
				t.Errorf("%s: %d packets dropped: %s", kind, n, drop)
			}
		}
	}
}

func TestRoundTripIsNeverClaimedTooEarly(t *testing.T) {
	for seed := range uint64(100) {
		w := newWorld(t, seed, fast(), fast()).up()
		w.delay = func() time.Duration { return time.Duration(w.dice.IntN(40)) * ms }
		for range 20 {
			w.run(time.Duration(w.dice.IntN(100)) * ms)
			w.end[0].Probe()
			w.tick(0)
		}
		w.run(500 * ms) // what is under way arrives
		w.cut[0] = true // from here on the peer hears nothing
		begun := w.now
		w.end[0].Probe()
		w.tick(0)
		w.run(140 * ms)
		if got := w.end[0].Status().RoundTrip; !got.Before(begun) {
			t.Fatalf("seed %d: claims a round trip at %s, the peer heard nothing since %s", seed, got, begun)
		}
	}
}

func TestRoundTripGrows(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	if w.end[0].Status().RoundTrip.IsZero() {
		t.Error("coming up made no round trip")
	}
	for range 10 {
		begun := w.now
		w.end[0].Probe()
		w.end[0].Probe() // a second one changes nothing
		w.tick(0)
		w.run(100 * ms)
		if got := w.end[0].Status().RoundTrip; got.Before(begun) {
			t.Errorf("the peer answered, and the round trip is of %s, want %s or later", got, begun)
		}
	}
}

// TestExcuse: after we slept, with the peer's packets lost, it gets another detection time.
func TestExcuse(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	w.now = w.now.Add(10 * time.Second)
	w.end[0].Excuse(w.now)
	w.tick(0)
	if w.end[0].state != Up {
		t.Error("our own lateness accused the peer")
	}
	w.now = w.now.Add(150 * ms)
	w.end[0].Excuse(w.now)
	w.tick(0)
	if w.end[0].state != Down {
		t.Error("who is always late never notices a dead peer")
	}
}

// TestHasten: sessions with the same interval end up sending at the same time and stay within jitter and interval.
func TestHasten(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	w.run(w.end[0].due().Sub(w.now) - 5*ms)
	before := len(w.sent[0])
	w.end[0].Hasten(w.now, 4*ms)
	w.tick(0)
	if len(w.sent[0]) != before {
		t.Error("a packet that was not due within the time was sent")
	}
	w.end[0].Hasten(w.now, 6*ms)
	w.tick(0)
	if len(w.sent[0]) != before+1 {
		t.Error("a packet that was due within the time was not sent")
	}
}

// TestNoAllocation: a session that is up costs no garbage.
func TestNoAllocation(t *testing.T) {
	c := fast()
	c.Auth = ringOf(MeticulousKeyedSHA1)
	w := newWorld(t, 1, c, c).up()
	out := make([]Packet, 0, 2)
	var buf [MaxSize]byte
	now := w.now
	if n := testing.AllocsPerRun(100, func() {
		now = now.Add(50 * ms)
		for i := range w.end {
			for _, p := range w.end[i].Tick(now, out[:0]) {
				got, _ := Parse(p.Append(buf[:0]))
				w.end[1-i].Receive(got, now)
			}
			w.end[i].Events()
		}
	}); n != 0 {
		t.Errorf("%v allocations per interval", n)
	}
	w.expect("afterwards", Up, Up)
}
