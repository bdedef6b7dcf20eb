package bed

import (
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/announce/arp"
)

// advertisement returns the frame of a neighbour advertisement for addr.
func advertisement(dst byte, addr netip.Addr) []byte {
	f := make([]byte, 14+40+24)
	f[0], f[12], f[13], f[14], f[20], f[54] = dst, 0x86, 0xdd, 0x60, 58, 136
	a := addr.As16()
	copy(f[62:], a[:])
	return f
}

func TestClaimed(t *testing.T) {
	probe := arp.Packet{EthDst: arp.Broadcast(), EthSrc: MAC(1), Op: arp.Request, SenderMAC: MAC(1), SenderIP: netip.IPv4Unspecified(), TargetIP: VIP(0)}
	reply := arp.Packet{EthDst: MAC(2), EthSrc: MAC(1), Op: arp.Reply, SenderMAC: MAC(1), SenderIP: VIP(0), TargetMAC: MAC(2), TargetIP: Client()}
	solicitation := advertisement(2, VIP6(0))
	solicitation[54] = 135
	for _, tc := range []struct {
		name  string
		frame []byte
		addr  netip.Addr
		asked bool
	}{
		{"answer", reply.Append(nil), VIP(0), true},
		{"gratuitous", arp.Gratuitous(VIP(1), MAC(1))[0].Append(nil), VIP(1), false},
		{"probe", probe.Append(nil), netip.Addr{}, false},
		{"advertisement to one", advertisement(2, VIP6(7)), VIP6(7), true},
		{"advertisement to all", advertisement(0x33, VIP6(7)), VIP6(7), false},
		{"solicitation", solicitation, netip.Addr{}, false},
		{"too short", advertisement(2, VIP6(7))[:77], netip.Addr{}, false},
	} {
		addr, asked, ok := claimed(tc.frame)
		if ok != tc.addr.IsValid() || ok && (addr != tc.addr || asked != tc.asked) {
			t.Errorf("%s: got %s, asked %v, %v", tc.name, addr, asked, ok)
		}
	}
}

func FuzzClaimed(f *testing.F) {
	f.Add(advertisement(2, VIP6(0)))
	f.Add(arp.Gratuitous(VIP(1), MAC(1))[1].Append(nil))
	f.Fuzz(func(t *testing.T, frame []byte) {
		if addr, _, ok := claimed(frame); ok && !addr.IsValid() {
			t.Errorf("%x claims no address", frame)
		}
	})
}

func TestAddressesAreApart(t *testing.T) {
	for i := range servicePrefixes() {
		for n := 1; n <= clientNr; n++ {
			if p := servicePrefixes()[i].Masked(); p.Contains(Host(n)) || p.Contains(Host6(n)) {
				t.Errorf("%s holds the address of station %d", p, n)
			}
		}
	}
	if p := servicePrefixes()[0]; !p.Contains(VIP(8191)) || !servicePrefixes()[1].Contains(VIP6(65535)) {
		t.Errorf("%v do not hold all addresses under test", servicePrefixes())
	}
}
