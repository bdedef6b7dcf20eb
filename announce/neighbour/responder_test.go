package neighbour_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	. "github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/lb"
)

const ms = time.Millisecond

var addrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

func TestAnswersOnlyForOwnedAddressesOnAllowedLinks(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		reached := r.Set(targets{s.vip: on(1, "eth0"), s.foreign: on(1, "eth0"), s.other: on(1, "eth9")})
		if d := cmp.Diff(targets{s.vip: on(1, "eth0")}, reached, addrs); d != "" {
			t.Errorf("reached (-want +got):\n%s", d)
		}
		time.Sleep(10 * time.Second)
		s.taken()
		s.deliver("eth0", s.ask(s.vip))
		s.deliver("eth1", s.ask(s.vip))
		s.deliver("eth0", s.ask(s.other))
		s.deliver("eth0", []byte("noise"))
		if d := cmp.Diff([]sent{{At: 10 * time.Second, Iface: "eth0", What: "answer", Addr: s.vip, MAC: ours}}, s.taken(), addrs); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		if d := cmp.Diff(map[netip.Addr]bool{s.vip: true}, s.wires["eth0"].joined, addrs); d != "" {
			t.Errorf("joined (-want +got):\n%s", d)
		}
		r.Set(nil)
		s.deliver("eth0", s.ask(s.vip))
		if got := s.taken(); len(got)+len(s.wires["eth0"].joined) != 0 {
			t.Errorf("after the address was withdrawn: %v, joined %v", got, s.wires["eth0"].joined)
		}
	})
}

func TestTellsTheNeighboursOnGain(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		frames := len(s.Announcement(s.vip, ours))
		r.Set(targets{s.vip: on(1, "eth0")})
		time.Sleep(30 * time.Second)
		r.Set(targets{s.vip: on(1, "eth0")}) // nothing new
		var at []time.Duration
		for i, p := range s.taken() {
			if p.What != "announcement" || p.Addr != s.vip || p.MAC != ours || p.Iface != "eth0" {
				t.Errorf("sent %v", p)
			}
			if i%frames == 0 {
				at = append(at, p.At)
			}
		}
		if d := cmp.Diff([]time.Duration{0, 50 * ms, 150 * ms, 400 * ms, 1100 * ms, 2200 * ms}, at); d != "" {
			t.Errorf("announced at (-want +got):\n%s", d)
		}
		r.Set(targets{s.vip: on(2, "eth0")}) // a new epoch: the neighbours may believe another
		if got := s.taken(); len(got) != frames {
			t.Errorf("after a new epoch %d packets, want %d", len(got), frames)
		}
		again := on(2, "eth0")
		again.Again = 1
		time.Sleep(time.Minute / 2)
		s.taken()
		if reached := r.Set(targets{s.vip: again}); len(reached) != 1 {
			t.Errorf("reached %v", reached)
		}
		if got := s.taken(); len(got) != frames {
			t.Errorf("to be announced again: %d packets, want %d", len(got), frames)
		}
		r.Set(nil)
		time.Sleep(5 * time.Minute)
		if got := s.taken(); len(got) != 0 {
			t.Errorf("announced after the withdrawal: %v", got)
		}
	})
}

func TestRefreshes(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		r.Set(targets{s.vip: on(1, "eth0")})
		time.Sleep(3 * time.Second)
		s.taken()
		time.Sleep(10 * time.Minute)
		if n := len(s.taken()) / len(s.Announcement(s.vip, ours)); n < 5 || n > 10 {
			t.Errorf("%d refreshes in 10 minutes, want one in 60 to 100 s", n)
		}
	})
}

func TestPacesManyAddresses(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		frames := len(s.Announcement(s.vip, ours))
		want := targets{}
		for i := range 5000 {
			want[s.nth(i)] = on(1, "eth0")
		}
		r.Set(want)
		time.Sleep(1020 * ms)
		first, perTick := map[netip.Addr]bool{}, map[time.Duration]int{}
		for _, p := range s.taken() {
			first[p.Addr] = true
			perTick[p.At.Truncate(10*ms)]++
		}
		if len(first) != len(want) {
			t.Errorf("%d of %d addresses announced within a second", len(first), len(want))
		}
		for at, n := range perTick {
			if n > frames*5000/100 {
				t.Errorf("%d packets in the 10 ms from %s", n, at)
			}
		}
	})
}

func TestLinksComeAndGo(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		want := targets{s.vip: on(1, "eth0")}
		r.Set(want)
		time.Sleep(10 * time.Second)
		s.taken()

		r.SetLinks(nil)
		synctest.Wait()
		if len(r.Working()) != 0 || len(r.Set(want)) != 0 {
			t.Error("a link that is gone still works")
		}
		s.refuse("eth0", true)
		r.SetLinks([]lb.Link{up("eth0", 9, theirs)}) // back, as another device
		time.Sleep(5 * time.Second)
		s.refuse("eth0", false)
		time.Sleep(2 * time.Second)
		if !r.Working()["eth0"] || len(r.Set(want)) != 1 {
			t.Fatal("the socket was not opened in the end")
		}
		got := s.taken()
		if len(got) == 0 || got[0].MAC != theirs {
			t.Errorf("sent %v, want announcements with the new hardware address", got)
		}

		s.wire("eth0").Close() // the kernel ends the socket, the link stays
		time.Sleep(time.Second)
		s.deliver("eth0", s.ask(s.vip))
		if count(s.taken(), "answer") != 1 {
			t.Error("no answer after the socket was opened again")
		}
		r.SetLinks([]lb.Link{{Name: "eth0", Index: 9, MAC: theirs, Up: true, Prefixes: []netip.Prefix{netip.PrefixFrom(s.foreign, 24)}}})
		synctest.Wait()
		if len(r.Working()) != 0 {
			t.Error("listens on a link without a subnet of the family")
		}
	})
}

// TestANewNameOrHardwareAddressKeepsTheSocket: a bond that fails over, or an interface that udev renames, is not a loss.
func TestANewNameOrHardwareAddressKeepsTheSocket(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		frames := len(s.Announcement(s.vip, ours))
		r.Set(targets{s.vip: probed(1, "eth0", "eth1")})
		time.Sleep(10 * time.Second)
		s.taken()
		r.SetLinks([]lb.Link{up("eth0", 2, theirs), up("lan1", 3, ours1)})
		if d := cmp.Diff(map[string]bool{"eth0": true, "lan1": true}, r.Working()); d != "" {
			t.Errorf("working (-want +got):\n%s", d)
		}
		if d := cmp.Diff(targets{s.vip: probed(1, "eth0", "lan1")}, r.Set(targets{s.vip: probed(1, "eth0", "lan1")}), addrs); d != "" {
			t.Errorf("reached (-want +got):\n%s", d)
		}
		if got := s.taken(); len(got) != frames || got[0].What != "announcement" || got[0].MAC != theirs || got[0].Iface != "eth0" {
			t.Errorf("sent %v, want one announcement of the new hardware address", got)
		}
		time.Sleep(10 * time.Second)
		s.taken()
		s.deliver("eth1", s.ask(s.vip)) // by its old name the test knows the socket
		if got := s.taken(); len(got) != 1 || got[0].What != "answer" || got[0].MAC != ours1 {
			t.Errorf("sent %v on the renamed link", got)
		}
	})
}

func TestProbesBeforeTheFirstAnnouncement(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		want := targets{s.vip: probed(1, "eth0")}
		if got := r.Set(want); len(got) != 0 {
			t.Errorf("reached %v at once", got)
		}
		time.Sleep(250 * ms)
		s.deliver("eth0", s.ask(s.vip))                    // is not answered yet
		s.deliver("eth0", s.peer.Probe(s.vip, peers))      // another speaker's: the election settles it
		s.deliver("eth0", s.Announcement(s.vip, peers)[0]) // neither is this a stranger
		s.deliver("eth0", s.Probe(s.vip, ours))            // our own, back through a loop
		if got := s.taken(); len(got) != 3 || count(got, "probe") != 3 || got[2].At != 200*ms {
			t.Errorf("sent %v, want three probes", got)
		}
		if got := r.Set(want); len(got) != 0 {
			t.Errorf("reached %v before the probes' end", got)
		}
		time.Sleep(100 * ms)
		got := s.taken()
		if len(got) == 0 || got[0].At != 300*ms || count(got, "announcement") != len(got) {
			t.Errorf("sent %v, want announcements", got)
		}
		if d := cmp.Diff(want, r.Set(want), addrs); d != "" || s.changed == 0 || len(s.reported()) != 0 {
			t.Errorf("told %d times, conflicts %v; reached (-want +got):\n%s", s.changed, s.reported(), d)
		}

		s.wires["eth0"].Close() // opened again, it is not probed again
		time.Sleep(5 * time.Second)
		if got := s.taken(); count(got, "probe") != 0 || len(got) == 0 {
			t.Errorf("sent %v after the socket was opened again", got)
		}
		second := up("eth2", 4, lb.MAC{2, 0, 0, 0, 0, 4})
		second.Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.0.0/16"), netip.MustParsePrefix("2001:db8::/48")}
		r.SetLinks(append(links(), second))
		time.Sleep(ms)
		r.Set(targets{s.vip: probed(1, "eth0", "eth2")})
		time.Sleep(ms)
		if d := cmp.Diff(targets{s.vip: probed(1, "eth0")}, r.Set(targets{s.vip: probed(1, "eth0", "eth2")}), addrs); d != "" {
			t.Errorf("with a second segment, reached (-want +got):\n%s", d)
		}
		r.Set(targets{s.vip: on(2, "eth0", "eth2")}) // another had it meanwhile: there is nothing to ask
		if d := cmp.Diff(targets{s.vip: on(2, "eth0", "eth2")}, r.Set(targets{s.vip: on(2, "eth0", "eth2")}), addrs); d != "" {
			t.Errorf("no longer to be probed, reached (-want +got):\n%s", d)
		}
	})
}

// TestMovesWithinASegmentAtOnce: from one link to another one of the segment, by an edit or because the first is down, and back.
func TestMovesWithinASegmentAtOnce(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		r.Set(targets{s.vip: probed(1, "eth0")})
		time.Sleep(5 * time.Second)
		for i, to := range []struct {
			iface string
			links []lb.Link
		}{{"eth1", links()}, {"eth0", links()}, {"eth1", links()[1:]}} {
			s.taken()
			r.SetLinks(to.links)
			want := targets{s.vip: probed(1, to.iface)}
			if d := cmp.Diff(want, r.Set(want), addrs); d != "" {
				t.Errorf("move %d: reached (-want +got):\n%s", i, d)
			}
			time.Sleep(20 * ms) // batches are paced
			if got := s.taken(); count(got, "probe") != 0 || count(got, "announcement") == 0 {
				t.Errorf("move %d: sent %v", i, got)
			}
		}
	})
}

// TestAStrangerKeepsTheAddress until it has left, whether it answers the probe or probes itself.
func TestAStrangerKeepsTheAddress(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		want := targets{s.vip: probed(1, "eth0", "eth1")}
		for name, frame := range map[string][]byte{"answers": s.answer(s.vip, theirs), "probes": s.peer.Probe(s.vip, theirs), "announces": s.Announcement(s.vip, theirs)[0]} {
			before := len(s.reported())
			r.Set(want)
			time.Sleep(50 * ms)
			s.deliver("eth0", frame)
			s.taken()
			start := time.Now()
			if d := cmp.Diff(map[netip.Addr]lb.MAC{s.vip: theirs}, r.Conflicts(), addrs); d != "" {
				t.Errorf("%s: conflicts (-want +got):\n%s", name, d)
			}
			reports, least, most := []Conflict{{Addr: s.vip, Interface: "eth0", MAC: theirs}}, 25*time.Second, 35*time.Second
			if name == "probes" { // perhaps a speaker that is not known yet
				reports, least, most = nil, time.Second, 2*time.Second
			}
			if got := s.reported()[before:]; !slices.Equal(got, reports) {
				t.Errorf("%s: reported %v", name, got)
			}
			time.Sleep(least - 100*ms)
			if got := r.Set(want); len(got) != 0 || len(s.taken()) != 0 || len(s.wires["eth0"].joined) != 0 {
				t.Errorf("%s: reached %v, or sent something", name, got)
			}
			for len(s.taken()) == 0 {
				time.Sleep(10 * ms)
			}
			if again := time.Since(start); again < least || again > most+20*ms || len(r.Conflicts()) != 0 {
				t.Errorf("%s: probed again after %s, conflicts %v", name, again, r.Conflicts())
			}
			time.Sleep(time.Second)
			if d := cmp.Diff(want, r.Set(want), addrs); d != "" {
				t.Errorf("%s: after the stranger has left, reached (-want +got):\n%s", name, d)
			}
			r.Set(nil)
			s.taken()
		}
		r.Set(want)
		s.deliver("eth0", s.answer(s.vip, theirs))
		s.known.Store(&theirs) // it is a speaker, of which we have heard only now
		if r.Set(want); len(r.Conflicts()) != 0 || count(s.taken(), "probe") != 2 {
			t.Errorf("a speaker's probe, conflicts %v", r.Conflicts())
		}
		s.known.Store(&peers)
		s.deliver("eth0", s.answer(s.vip, theirs))
		r.Set(nil) // somebody else shall have it, or nobody
		if len(r.Conflicts()) != 1 {
			t.Error("the conflict is forgotten with the wish")
		}
		time.Sleep(40 * time.Second)
		if len(r.Conflicts()) != 0 {
			t.Error("the conflict is kept for ever")
		}
	})
}

func TestReportsAndCountersStrangersNowAndThen(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		frames := len(s.Announcement(s.vip, ours))
		r.Set(targets{s.vip: on(1, "eth0", "eth1")})
		time.Sleep(5 * time.Second)
		s.taken()
		claim := s.Announcement(s.vip, theirs)
		s.deliver("eth0", s.Announcement(s.vip, ours1)[0]) // eth1's, on the same segment
		s.deliver("eth0", s.Announcement(s.other, theirs)[0])
		s.deliver("eth0", s.peer.Probe(s.vip, theirs)) // is answered, that will do
		if got := s.reported(); len(got) != 0 || len(s.taken()) != 1 {
			t.Errorf("reported %v", got)
		}
		for range 5 {
			s.deliver("eth0", claim[0])
		}
		if got := s.taken(); count(got, "announcement") != frames || len(got) != frames {
			t.Errorf("countered with %v, want one announcement", got)
		}
		time.Sleep(time.Second)
		s.deliver("eth0", claim[0])
		if got := s.taken(); len(got) != frames {
			t.Errorf("countered with %v a second later, want one announcement", got)
		}
		time.Sleep(9 * time.Second)
		s.deliver("eth0", claim[len(claim)-1])
		c := Conflict{Addr: s.vip, Interface: "eth0", MAC: theirs}
		if got := s.reported(); !slices.Equal(got, []Conflict{c, c}) {
			t.Errorf("reported %v, want twice %v", got, c)
		}
		if got := r.Set(targets{s.vip: on(1, "eth0", "eth1")}); len(got) != 1 {
			t.Error("the address was given up because of a packet")
		}
		time.Sleep(10 * time.Second)
		s.taken()
		s.deliver("eth0", s.Announcement(s.vip, peers)[0])
		if got := s.taken(); len(got) != 0 {
			t.Errorf("sent %v against another speaker", got)
		}
	})
}

func TestNothingLeavesWhileFenced(t *testing.T) {
	withResponder(t, func(t *testing.T, r *Responder, s *segment) {
		frames := len(s.Announcement(s.vip, ours))
		r.Set(targets{s.vip: on(1, "eth0")})
		time.Sleep(10 * time.Second)
		s.taken()
		s.may.Store(false)
		s.deliver("eth0", s.ask(s.vip))
		s.deliver("eth0", s.Announcement(s.vip, theirs)[0])
		if got := r.Set(targets{s.vip: on(2, "eth0"), s.other: probed(1, "eth0")}); len(got) != 1 {
			t.Errorf("reached %v: the fence is no business of Set's", got)
		}
		r.SetLinks([]lb.Link{up("eth0", 2, peers)})
		time.Sleep(10 * time.Minute)
		if got := s.taken(); len(got) != 0 {
			t.Fatalf("sent %v behind the fence", got)
		}
		s.may.Store(true)
		time.Sleep(20 * ms)
		if got := s.taken(); count(got, "announcement") != frames || count(got, "probe") != 1 {
			t.Errorf("sent %v after the fence, want one announcement and one probe", got)
		}
		time.Sleep(350 * ms)
		if got := r.Set(targets{s.vip: on(2, "eth0"), s.other: probed(1, "eth0")}); len(got) != 2 {
			t.Errorf("reached %v after the fence", got)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	if _, err := New("arp", protocols()["arp"], Options{}); err == nil {
		t.Error("empty options are accepted")
	}
}
