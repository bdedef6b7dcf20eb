package bfd

import (
	"strings"
	"testing"
	"time"
)

const ms = time.Millisecond

// Test6_2_StateMachine has a row for every arrow of the RFC's drawing, and for what stays.
func Test6_2_StateMachine(t *testing.T) {
	for _, c := range []struct {
		from, remote, want State
		diag               Diag
		cause              Cause
	}{
		{Down, AdminDown, Down, DiagNone, ""},
		{Down, Down, Init, DiagNone, CauseHandshake},
		{Down, Init, Up, DiagNone, CauseHandshake},
		{Down, Up, Down, DiagNone, ""},
		{Init, AdminDown, Down, DiagNeighborSignaledDown, CausePeerAdminDown},
		{Init, Down, Init, DiagNone, ""},
		{Init, Init, Up, DiagNone, CauseHandshake},
		{Init, Up, Up, DiagNone, CauseHandshake},
		{Up, AdminDown, Down, DiagNeighborSignaledDown, CausePeerAdminDown},
		{Up, Down, Down, DiagNeighborSignaledDown, CausePeerDown},
		{Up, Init, Up, DiagNone, ""},
		{Up, Up, Up, DiagNone, ""},
		{AdminDown, Down, AdminDown, DiagAdminDown, ""},
		{AdminDown, Up, AdminDown, DiagAdminDown, ""},
	} {
		now := time.Unix(1000, 0)
		s, err := New(fast(), 7, func() float64 { return 0.5 }, now)
		if err != nil {
			t.Fatal(err)
		}
		s.state, s.diag = c.from, c.diag
		if c.want != c.from {
			s.diag = DiagNone
		}
		if c.from == AdminDown {
			s.cfg.AdminDown = true
		}
		s.Receive(Packet{State: c.remote, Multiplier: 3, MyDiscriminator: 9, YourDiscriminator: 7, DesiredMinTx: time.Second, RequiredMinRx: ms}, now)
		var cause Cause
		for _, e := range s.Events() {
			cause = e.Cause
		}
		if s.state != c.want || s.diag != c.diag || cause != c.cause {
			t.Errorf("%s and the peer is %s: %s, %s, %q; want %s, %s, %q", c.from, c.remote, s.state, s.diag, cause, c.want, c.diag, c.cause)
		}
	}
}

func Test6_1_BothComeUpAtOnce(t *testing.T) {
	w := newWorld(t, 1, fast(), fast())
	w.run(10 * ms)
	w.expect("after the first packets", Up, Up)
}

func Test6_1_PassiveWaitsForTheOther(t *testing.T) {
	passive := fast()
	passive.Passive = true
	w := newWorld(t, 1, passive, passive)
	w.run(time.Minute)
	if len(w.sent[0])+len(w.sent[1]) != 0 {
		t.Errorf("two passive ends sent %d and %d packets", len(w.sent[0]), len(w.sent[1]))
	}
	newWorld(t, 1, passive, fast()).up()
}

func Test6_5_PollUntilFinal(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	c := fast()
	c.DesiredMinTx, c.RequiredMinRx = 100*ms, 20*ms
	w.cut[1] = true // its answers are lost
	if err := w.end[0].SetConfig(c, w.now); err != nil {
		t.Fatal(err)
	}
	w.run(100 * ms)
	for _, p := range w.sent[0] {
		if !p.Poll || p.DesiredMinTx != 100*ms || p.RequiredMinRx != 20*ms {
			t.Errorf("while the poll is not answered, sent %+v", p)
		}
	}
	if got := w.end[0].TxInterval(); got != 50*ms {
		t.Errorf("an increased interval is in use before the peer agreed: %s", got)
	}
	if got := w.end[0].DetectionTime(); got != 150*ms {
		t.Errorf("a reduced detection time is in use before the peer agreed: %s", got)
	}
	w.cut[1] = false
	w.run(200 * ms)
	if got := w.end[0].TxInterval(); got != 100*ms {
		t.Errorf("after the poll the transmit interval is %s, want 100ms", got)
	}
	if got := w.end[1].DetectionTime(); got != 300*ms {
		t.Errorf("the peer's detection time is %s, want 300ms", got)
	}
	if last := w.sent[0][len(w.sent[0])-1]; last.Poll {
		t.Error("the poll does not end")
	}
	finals := 0
	for _, p := range w.sent[1] {
		if p.Final {
			finals++
		}
		if p.Final && p.Poll {
			t.Error("a packet has both P and F")
		}
	}
	if finals == 0 {
		t.Error("no poll was answered")
	}
	w.expect("at the end", Up, Up)
}

func Test6_5_ChangeDuringAPollBeginsAnother(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	w.delay = func() time.Duration { return 20 * ms }
	c := fast()
	for _, d := range []time.Duration{100 * ms, 200 * ms} {
		c.DesiredMinTx = d
		if err := w.end[0].SetConfig(c, w.now); err != nil {
			t.Fatal(err)
		}
		w.tick(0)
		w.run(10 * ms)
	}
	w.run(35 * ms) // the answer to the first has arrived, that to the second has not
	if got := w.end[0].TxInterval(); got != 50*ms {
		t.Errorf("the answer to the older poll confirmed the newer interval: %s", got)
	}
	w.run(time.Second)
	if got := w.end[0].TxInterval(); got != 200*ms {
		t.Errorf("after both polls the interval is %s, want 200ms", got)
	}
	w.expect("at the end", Up, Up)
}

func Test6_6_DemandModeOfThePeer(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	demand := func() {
		if drop := w.inject(0, func(p *Packet) { p.State, p.Demand = Up, true }); drop != "" {
			t.Fatalf("dropped: %s", drop)
		}
	}
	w.cut[1] = true // only our own packets with D arrive
	for range 20 {
		demand()
		w.run(50 * ms)
	}
	if n := len(w.sent[0]); n > 1 {
		t.Errorf("sent %d packets in a second to a peer in demand mode", n)
	}
	if w.end[0].state != Up {
		t.Errorf("state %s; demand mode of the peer does not change how we detect its death", w.end[0].state)
	}
	w.inject(0, func(p *Packet) { p.State, p.Demand, p.Poll = Up, true, true })
	if last := w.sent[0][len(w.sent[0])-1]; !last.Final {
		t.Error("a poll in demand mode was not answered")
	}
	w.end[0].Probe()
	w.tick(0)
	if last := w.sent[0][len(w.sent[0])-1]; !last.Poll {
		t.Error("our own poll was not sent in demand mode")
	}
}

func Test6_8_1_RemoteDiscriminatorIsForgotten(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	w.cut = [2]bool{true, true}
	w.run(160 * ms)
	w.expect("after the link was cut", Down, Down)
	if got := w.end[0].Status().RemoteDiscriminator; got != 0 {
		t.Errorf("the remote discriminator is %#x after a detection time of silence", got)
	}
	for i := range w.events {
		if len(w.events[i]) != 1 || w.events[i][0].Peer != w.end[1-i].local {
			t.Errorf("events %+v do not name the peer's discriminator %#x", w.events[i], w.end[1-i].local)
		}
	}
}

func Test6_8_1_SequenceIsForgottenAfterTwoDetectionTimes(t *testing.T) {
	c := fast()
	c.SlowTx = 50 * ms
	c.Auth = ringOf(MeticulousKeyedSHA1)
	w := newWorld(t, 1, c, c).up()
	w.restart(1, c) // with a random sequence number
	w.run(90 * ms)
	if w.drops[DropSequence] == 0 || w.end[0].state != Up {
		t.Errorf("state %s, drops %v: the restarted peer's sequence number was accepted too early", w.end[0].state, w.drops)
	}
	w.run(400 * ms)
	w.expect("after twice the detection time", Up, Up)
}

func Test6_8_3_AtLeastASecondWhileNotUp(t *testing.T) {
	w := newWorld(t, 1, fast(), fast())
	w.cut = [2]bool{true, true}
	w.flying = nil
	w.run(20 * time.Second)
	for i := range w.sent {
		least, most := w.gaps(i)
		if least < 750*ms || most > time.Second {
			t.Errorf("end %d sent every %s to %s, want 750 ms to 1 s", i, least, most)
		}
		if got := w.sent[i][0].DesiredMinTx; got != time.Second {
			t.Errorf("end %d says that it sends every %s, want 1s", i, got)
		}
	}
	slow := fast()
	slow.SlowTx = 100 * ms
	w = newWorld(t, 1, slow, slow)
	w.cut = [2]bool{true, true}
	w.flying = nil
	w.run(20 * time.Second)
	if least, most := w.gaps(0); least < 75*ms || most > 100*ms {
		t.Errorf("with SlowTx of 100 ms sent every %s to %s", least, most)
	}
}

func Test6_8_2And6_8_4_Negotiation(t *testing.T) {
	a := Config{DesiredMinTx: 50 * ms, RequiredMinRx: 400 * ms, Multiplier: 3}
	b := Config{DesiredMinTx: 100 * ms, RequiredMinRx: 200 * ms, Multiplier: 5}
	w := newWorld(t, 1, a, b).up()
	got, other := w.end[0].Status(), w.end[1].Status()
	if got.TxInterval != 200*ms || got.DetectionTime != 5*400*ms {
		t.Errorf("a sends every %s and detects in %s; want max(50, 200) ms and 5 x max(400, 100) ms", got.TxInterval, got.DetectionTime)
	}
	if other.TxInterval != 400*ms || other.DetectionTime != 3*200*ms {
		t.Errorf("b sends every %s and detects in %s; want max(100, 400) ms and 3 x max(200, 50) ms", other.TxInterval, other.DetectionTime)
	}
	if got.RemoteMinTx != 100*ms || got.RemoteMinRx != 200*ms || got.RemoteMultiplier != 5 {
		t.Errorf("a says of b: %+v", got)
	}
}

func Test6_8_4_DetectionTimeIsExact(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	w.cut[1] = true
	last := w.end[0].Status().Heard
	w.run(time.Second)
	e := w.events[0][0]
	if took := e.At.Sub(last); took != 150*ms || e.Cause != CauseDetectionExpired || e.Diag != DiagDetectionTimeExpired {
		t.Errorf("%+v %s after the last packet, want 150ms", e, took)
	}
	if e := w.events[1][0]; e.Cause != CausePeerDown {
		t.Errorf("the other end, which still hears us: %+v", e)
	}
	if took := w.events[1][0].At.Sub(e.At); took != 0 {
		t.Errorf("the change was told %s later, want at once", took)
	}
}

func Test6_8_7_Jitter(t *testing.T) {
	for _, c := range []struct {
		multiplier  uint8
		least, most time.Duration
	}{{3, 75 * ms, 100 * ms}, {1, 75 * ms, 90 * ms}} {
		cfg := Config{DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms, Multiplier: c.multiplier}
		w := newWorld(t, 1, cfg, cfg).up()
		w.run(100 * time.Second)
		least, most := w.gaps(0)
		if least < c.least || most > c.most || most-least < (c.most-c.least)*9/10 {
			t.Errorf("multiplier %d: sent every %s to %s, want all of %s to %s", c.multiplier, least, most, c.least, c.most)
		}
	}
}

func Test6_8_7_NothingPeriodicIfThePeerWantsNone(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	w.cut[1] = true
	for range 20 {
		w.inject(0, func(p *Packet) { p.State, p.RequiredMinRx = Up, 0 })
		w.run(50 * ms)
	}
	if n := len(w.sent[0]); n > 1 {
		t.Errorf("sent %d packets to a peer with Required Min RX 0", n)
	}
}

func Test6_8_16_AdminDown(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	c := fast()
	c.AdminDown = true
	if err := w.end[0].SetConfig(c, w.now); err != nil {
		t.Fatal(err)
	}
	w.tick(0)
	w.run(ms)
	w.expect("after AdminDown", AdminDown, Down)
	if e := w.events[1][0]; e.Cause != CausePeerAdminDown || e.Diag != DiagNeighborSignaledDown {
		t.Errorf("the peer's event is %+v", e)
	}
	if s := w.end[1].Status(); s.RemoteState != AdminDown || s.RemoteDiag != DiagAdminDown {
		t.Errorf("the peer knows %s, %s", s.RemoteState, s.RemoteDiag)
	}
	w.run(time.Minute)
	w.expect("a minute later", AdminDown, Down)
	if err := w.end[0].SetConfig(fast(), w.now); err != nil {
		t.Fatal(err)
	}
	w.up()
	c.AdminDown = true
	w = newWorld(t, 1, c, fast())
	w.run(time.Minute)
	w.expect("born so", AdminDown, Down)
	if w.drops[DropAdminDown] == 0 {
		t.Error("no packet was dropped for AdminDown")
	}
}

func TestFail(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	if !w.end[0].Fail(CauseRefused, w.now) {
		t.Error("Fail says that the session was not Up")
	}
	w.cut[0] = true
	w.tick(0)
	if e := w.events[0][0]; e.Cause != CauseRefused || e.Diag != DiagPathDown || e.To != Down {
		t.Errorf("event %+v", e)
	}
	if w.end[0].Fail(CauseRefused, w.now) {
		t.Error("a session that is not Up failed again")
	}
}

func TestReceiveRefusesAForeignDiscriminator(t *testing.T) {
	w := newWorld(t, 1, fast(), fast()).up()
	if drop := w.inject(0, func(p *Packet) { p.YourDiscriminator ^= 1 }); drop != DropNoSession {
		t.Errorf("drop %q, want %q", drop, DropNoSession)
	}
}

func TestConfigValidate(t *testing.T) {
	for _, c := range []struct {
		change func(c *Config)
		want   string
	}{
		{func(*Config) {}, ""},
		{func(c *Config) { c.DesiredMinTx = 0 }, "DesiredMinTx is 0s; use 1ms to 1h"},
		{func(c *Config) { c.RequiredMinRx = 2 * time.Hour }, "RequiredMinRx is 2h0m0s"},
		{func(c *Config) { c.SlowTx = time.Microsecond }, "SlowTx is 1µs"},
		{func(c *Config) { c.Multiplier = 0 }, "Multiplier is 0; use 1 to 255"},
		{func(c *Config) { c.Auth.Type = KeyedMD5 }, "Keys is empty"},
	} {
		cfg := fast()
		c.change(&cfg)
		s, err := New(cfg, 7, func() float64 { return 0 }, time.Unix(1000, 0))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if (s == nil) != (err != nil) {
			t.Errorf("session %v and error %v", s, err)
		}
	}
	if _, err := New(fast(), 0, nil, time.Time{}); err == nil {
		t.Error("discriminator 0 was accepted")
	}
}
