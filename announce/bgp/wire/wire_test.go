package wire

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/lb"
)

var compareAddrs = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// messages splits what was written into messages and returns their bodies by Read.
func messages(t *testing.T, stream []byte) (kinds []Type, bodies [][]byte) {
	t.Helper()
	buf := make([]byte, MaxMessage)
	for r := bytes.NewReader(stream); r.Len() > 0; {
		kind, body, err := Read(r, buf)
		if err != nil {
			t.Fatal(err)
		}
		kinds, bodies = append(kinds, kind), append(bodies, slices.Clone(body))
	}
	return kinds, bodies
}

func TestOpenComesBackAsItWasSent(t *testing.T) {
	for _, o := range []Open{
		{ASN: 64512, ID: netip.MustParseAddr("192.0.2.1"), HoldTime: 90, Families: []lb.Family{lb.IPv4}, FourOctet: true, ExtendedNextHop: true},
		{ASN: 4200000000, ID: netip.MustParseAddr("192.0.2.1"), Families: []lb.Family{lb.IPv4, lb.IPv6}, FourOctet: true, ExtendedNextHop: true,
			Graceful: &Graceful{Restarting: true, Time: 120}},
		{ASN: 1, ID: netip.MustParseAddr("255.255.255.255"), HoldTime: 3, Families: []lb.Family{lb.IPv6}, FourOctet: true},
	} {
		kinds, bodies := messages(t, o.Bytes())
		got, err := ParseOpen(bodies[0])
		if err != nil || kinds[0] != TypeOpen {
			t.Fatalf("%v, %v", kinds, err)
		}
		if d := cmp.Diff(o, got, compareAddrs); d != "" {
			t.Error(d)
		}
	}
}

func TestGracefulRestartBits(t *testing.T) {
	for _, g := range []Graceful{{}, {Restarting: true, Time: 4095}, {Preserved: true, Time: 1}, {Restarting: true, Preserved: true, Time: 120}} {
		m, err := gobgp.ParseBGPMessage(Open{ASN: 1, ID: netip.MustParseAddr("192.0.2.1"), Families: []lb.Family{lb.IPv4, lb.IPv6}, Graceful: &g}.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, c := range m.Body.(*gobgp.BGPOpen).OptParams[0].(*gobgp.OptionParameterCapability).Capability {
			if r, ok := c.(*gobgp.CapGracefulRestart); ok {
				found = true
				if r.Time != g.Time || r.Flags&8 != 0 != g.Restarting || r.Flags&4 != 0 || len(r.Tuples) != 2 || r.Tuples[0].Flags&0x80 != 0 != g.Preserved || r.Tuples[1].Flags&0x80 != 0 != g.Preserved {
					t.Errorf("%+v is written as %+v %+v", g, r, *r.Tuples[0])
				}
			}
		}
		if !found {
			t.Error("no capability")
		}
	}
}

func med(v uint32) *uint32 { return &v }

// told reads the stream with GoBGP's parser, and returns each announced prefix with its attributes, and withdrawn ones.
func told(t *testing.T, stream []byte) (out []string) {
	t.Helper()
	for len(stream) > 0 {
		size := int(stream[16])<<8 | int(stream[17])
		m, err := gobgp.ParseBGPMessage(stream[:size])
		if err != nil {
			t.Fatal(err)
		}
		stream = stream[size:]
		u := m.Body.(*gobgp.BGPUpdate)
		var attrs, reach []string
		for _, a := range u.PathAttributes {
			switch a := a.(type) {
			case *gobgp.PathAttributeMpReachNLRI:
				for _, p := range a.Value {
					reach = append(reach, p.String()+" via "+a.Nexthop.String())
				}
			case *gobgp.PathAttributeMpUnreachNLRI:
				for _, p := range a.Value {
					out = append(out, "withdraw "+p.String())
				}
			default:
				attrs = append(attrs, a.String())
			}
		}
		for _, p := range u.NLRI {
			reach = append(reach, p.String())
		}
		for _, p := range u.WithdrawnRoutes {
			out = append(out, "withdraw "+p.String())
		}
		for _, r := range reach {
			out = append(out, r+" "+strings.Join(attrs, " "))
		}
	}
	return out
}

func TestAttributes(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	both := map[lb.Family]netip.Addr{lb.IPv4: v4, lb.IPv6: v6}
	full := bgp.Path{Prefix: netip.MustParsePrefix("198.51.100.0/24"), LocalPref: 200, MED: med(5), Prepend: 2, Communities: []uint32{64512<<16 | 1, bgp.GracefulShutdown},
		Large: []bgp.LargeCommunity{{Global: 4200000000, Local1: 1, Local2: 2}}, Weight: 1000}
	six := bgp.Path{Prefix: netip.MustParsePrefix("2001:db8:5::/48")}
	for _, c := range []struct {
		name string
		e    Encoder
		p    bgp.Path
		want string
	}{
		{"external", Encoder{MyASN: 64512, FourOctet: true, NextHop: both}, full,
			"198.51.100.0/24 {Origin: i} {AsPath: 64512 64512 64512} {Nexthop: 192.0.2.1} {Med: 5} {Communities: 64512:1, planned-shut} {Extcomms: [64512:1000]} {LargeCommunity: [ 4200000000:1:2]}"},
		{"internal", Encoder{MyASN: 64512, Internal: true, FourOctet: true, NextHop: both}, full,
			"198.51.100.0/24 {Origin: i} {AsPath: } {Nexthop: 192.0.2.1} {Med: 5} {LocalPref: 200} {Communities: 64512:1, planned-shut} {Extcomms: [64512:1000]} {LargeCommunity: [ 4200000000:1:2]}"},
		{"internal without a preference", Encoder{MyASN: 64512, Internal: true, FourOctet: true, NextHop: both}, bgp.Path{Prefix: full.Prefix},
			"198.51.100.0/24 {Origin: i} {AsPath: } {Nexthop: 192.0.2.1} {LocalPref: 100}"},
		{"IPv6", Encoder{MyASN: 64512, FourOctet: true, NextHop: both}, six, "2001:db8:5::/48 via 2001:db8::1 {Origin: i} {AsPath: 64512}"},
		{"IPv4 with an IPv6 next hop", Encoder{MyASN: 64512, FourOctet: true, NextHop: map[lb.Family]netip.Addr{lb.IPv4: v6}}, bgp.Path{Prefix: full.Prefix},
			"198.51.100.0/24 via 2001:db8::1 {Origin: i} {AsPath: 64512}"},
		{"a large AS number and an old peer", Encoder{MyASN: 4200000000, NextHop: both}, bgp.Path{Prefix: full.Prefix, Prepend: 1},
			"198.51.100.0/24 {Origin: i} {AsPath: 23456 23456} {Nexthop: 192.0.2.1} 4200000000 4200000000"},
		{"a family that the session does not carry", Encoder{MyASN: 64512, NextHop: map[lb.Family]netip.Addr{lb.IPv4: v4}}, six, ""},
	} {
		if got := strings.Join(told(t, c.e.Announce([]bgp.Path{c.p})), "\n"); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
	longest := Encoder{MyASN: 1, FourOctet: true, NextHop: both}.Announce([]bgp.Path{{Prefix: full.Prefix, Prepend: 255}})
	if got := told(t, longest); !strings.Contains(got[0], "{AsPath: "+strings.Repeat("1 ", 254)+"1}") {
		t.Errorf("prepending 255 times gives %q", got)
	}
}

// TestManyPathsShareMessages: as many prefixes go into a message as fit, and all arrive.
func TestManyPathsShareMessages(t *testing.T) {
	e := Encoder{MyASN: 64512, FourOctet: true, NextHop: map[lb.Family]netip.Addr{lb.IPv4: netip.MustParseAddr("192.0.2.1"), lb.IPv6: netip.MustParseAddr("2001:db8::1")}}
	var paths []bgp.Path
	var prefixes []netip.Prefix
	for i := range 20_000 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if i%2 == 1 {
			addr = netip.AddrFrom16([16]byte{0x20, 1, 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)})
		}
		p := netip.PrefixFrom(addr, addr.BitLen())
		prefixes = append(prefixes, p)
		path := bgp.Path{Prefix: p}
		if i%4 < 2 {
			path.Communities = make([]uint32, 63)
		}
		paths = append(paths, path)
	}
	for name, stream := range map[string][]byte{"announce": e.Announce(paths), "withdraw": e.Withdraw(prefixes)} {
		_, bodies := messages(t, stream)
		seen := map[netip.Prefix]bool{}
		for _, b := range bodies {
			u, err := ParseUpdate(b)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range slices.Concat(u.Announced, u.Withdrawn) {
				seen[p] = true
			}
		}
		t.Logf("%s: %d messages, %d bytes", name, len(bodies), len(stream))
		if len(seen) != len(prefixes) || len(bodies) > 70 {
			t.Errorf("%s: %d prefixes in %d messages, want %d in at most 70", name, len(seen), len(bodies), len(prefixes))
		}
	}
}

func TestReadRefusesBrokenHeaders(t *testing.T) {
	good := Keepalive()
	change := func(i int, b ...byte) []byte { out := slices.Clone(good); copy(out[i:], b); return out }
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"no marker", change(3, 0), "Message Header Error / Connection Not Synchronized (1/1)"},
		{"too short", change(16, 0, 18), "Message Header Error / Bad Message Length (1/2)"},
		{"too long", change(16, 0x10, 1, 2), "Message Header Error / Bad Message Length (1/2)"},
		{"a keepalive with a body", append(change(16, 0, 20), 0), "Message Header Error / Bad Message Length (1/2)"},
		{"an OPEN without a body", change(18, 1), "Message Header Error / Bad Message Length (1/2)"},
		{"type 9", change(18, 9), "Message Header Error / Bad Message Type (1/3)"},
		{"half a header", good[:10], io.ErrUnexpectedEOF.Error()},
		{"nothing", nil, io.EOF.Error()},
	} {
		if _, _, err := Read(bytes.NewReader(c.in), make([]byte, MaxMessage)); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}

func TestNotificationsInWords(t *testing.T) {
	for _, c := range []struct {
		n    Notification
		want string
	}{
		{Notification{Code: Cease, Subcode: BFDDown}, "Cease / BFD Down (6/10)"},
		{Notification{Code: HoldExpired}, "Hold Timer Expired (4/0)"},
		{Notification{Code: Cease, Subcode: Shutdown, Data: append([]byte{9}, "new\x1b cable"...)}, `Cease / Administrative Shutdown (6/2): "new cabl"`},
		{Notification{Code: Cease, Subcode: Shutdown, Data: []byte{200, 'x'}}, "Cease / Administrative Shutdown (6/2)"},
		{Notification{Code: 99, Subcode: 99}, "unknown error (99/99)"},
	} {
		if c.n.Error() != c.want {
			t.Errorf("got %s, want %s", c.n.Error(), c.want)
		}
		_, bodies := messages(t, c.n.Bytes())
		if got := ParseNotification(bodies[0]); got.Code != c.n.Code || got.Subcode != c.n.Subcode || !bytes.Equal(got.Data, c.n.Data) {
			t.Errorf("%v came back as %v", c.n, got)
		}
	}
}

// TestUpdatesOfRFC7606: the session ends only where prefixes cannot be found.
func TestUpdatesOfRFC7606(t *testing.T) {
	origin := []byte{0x40, 1, 1, 0}
	nlri := []byte{24, 198, 51, 100}
	update := func(withdrawn, attrs, announced []byte) []byte {
		out := append([]byte{byte(len(withdrawn) >> 8), byte(len(withdrawn))}, withdrawn...)
		out = append(append(out, byte(len(attrs)>>8), byte(len(attrs))), attrs...)
		return append(out, announced...)
	}
	six := []byte{0x80, 14, 5 + 16 + 7, 0, 2, 1, 16, 0x20, 1, 13, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20, 1, 13, 0xb8, 0, 5}
	for _, c := range []struct {
		name string
		body []byte
		want string
		ends bool
	}{
		{"end of RIB", update(nil, nil, nil), "[] []", false},
		{"one prefix without any attribute", update(nil, nil, nlri), "[] [198.51.100.0/24]", false},
		{"an ORIGIN of 255", update(nil, []byte{0x40, 1, 1, 255}, nlri), "[] [198.51.100.0/24]", false},
		{"an ORIGIN of no length", update(nil, []byte{0x40, 1, 0}, nlri), "[] [198.51.100.0/24]", false},
		{"an attribute that is longer than all", update(nil, []byte{0x40, 2, 200, 0}, nlri), "[] [198.51.100.0/24]", false},
		{"half an extended length", update(nil, []byte{0x50, 2, 0}, nlri), "[] [198.51.100.0/24]", false},
		{"unknown well-known attribute", update(nil, []byte{0x40, 200, 0}, nlri), "[] [198.51.100.0/24]", false},
		{"IPv6", update(nil, slices.Concat(six, origin), nil), "[] [2001:db8:5::/48]", false},
		{"IPv6 twice", update(nil, slices.Concat(six, six), nil), "", true},
		{"an IPv6 prefix of 200 bits", update(nil, append([]byte{0x80, 15, 4}, 0, 2, 1, 200), nil), "", true},
		{"MP_REACH whose next hop is longer than all", update(nil, append([]byte{0x80, 14, 4}, 0, 2, 1, 99), nil), "", true},
		{"a family of nobody", update(nil, append([]byte{0x80, 15, 4}, 9, 9, 9, 200), nil), "[] []", false},
		{"a prefix of 33 bits", update(nil, origin, []byte{33, 1, 2, 3, 4, 5}), "", true},
		{"a prefix that is cut off", update(nil, origin, []byte{32, 1}), "", true},
		{"a withdrawn prefix of 33 bits", update([]byte{33, 1, 2, 3, 4, 5}, nil, nil), "", true},
		{"withdrawn routes longer than all", []byte{0xff, 0xff, 0, 0}, "", true},
		{"attributes longer than all", []byte{0, 0, 0xff, 0xff}, "", true},
		{"withdrawn and announced at once", update(nlri, origin, nlri), "[198.51.100.0/24] [198.51.100.0/24]", false},
	} {
		u, err := ParseUpdate(c.body)
		var n Notification
		switch {
		case c.ends && !errors.As(err, &n):
			t.Errorf("%s: %v, want a notification", c.name, err)
		case !c.ends && err != nil:
			t.Errorf("%s ends the session: %v", c.name, err)
		case !c.ends:
			if got := strings.Join([]string{show(u.Withdrawn), show(u.Announced)}, " "); got != c.want {
				t.Errorf("%s: got %s, want %s", c.name, got, c.want)
			}
		}
	}
}

func show(list []netip.Prefix) string {
	var out []string
	for _, p := range list {
		out = append(out, p.String())
	}
	return "[" + strings.Join(out, " ") + "]"
}

// FuzzRead feeds a stream of anything to everything that reads what a peer sends.
func FuzzRead(f *testing.F) {
	f.Add(Open{ASN: 4200000000, ID: netip.MustParseAddr("192.0.2.1"), HoldTime: 90, Families: []lb.Family{lb.IPv4, lb.IPv6}, Graceful: &Graceful{Time: 9}}.Bytes())
	f.Add(Notification{Code: Cease, Subcode: Shutdown, Data: []byte{1, 'x'}}.Bytes())
	f.Add(append(Keepalive(), EndOfRIB(lb.IPv6)...))
	e := Encoder{MyASN: 1, NextHop: map[lb.Family]netip.Addr{lb.IPv6: netip.MustParseAddr("2001:db8::1")}}
	f.Add(e.Announce([]bgp.Path{{Prefix: netip.MustParsePrefix("2001:db8::/32"), Weight: 1}}))
	f.Add(e.Withdraw([]netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		for buf := make([]byte, MaxMessage); ; {
			kind, body, err := Read(r, buf)
			if err != nil {
				return
			}
			switch kind {
			case TypeOpen:
				if o, err := ParseOpen(body); err == nil && (len(o.Families) == 0 || !o.ID.IsValid()) {
					t.Fatalf("an OPEN without what it needs is accepted: %+v", o)
				}
			case TypeUpdate:
				u, err := ParseUpdate(body)
				for _, p := range slices.Concat(u.Withdrawn, u.Announced) {
					if err == nil && !p.IsValid() {
						t.Fatalf("%v", p)
					}
				}
			case TypeNotification:
				_ = ParseNotification(body).Error()
			case TypeRouteRefresh:
				_ = ParseRefresh(body)
			}
		}
	})
}
