//go:build kernel

package kernel

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath/datapathtest"
	"github.com/fairlead-lb/fairlead/lb"
)

// datagram is an IP packet with a UDP datagram, whose checksum over IPv6 is right and over IPv4 left out.
func datagram(from, to netip.AddrPort, payload []byte) []byte {
	udp := binary.BigEndian.AppendUint16(nil, from.Port())
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(payload)))
	udp = append(append(udp, 0, 0), payload...)
	if from.Addr().Is6() {
		pseudo := append(from.Addr().AsSlice(), to.Addr().AsSlice()...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(udp)))
		pseudo = append(append(pseudo, 0, 0, 0, unix.IPPROTO_UDP), udp...)
		binary.BigEndian.PutUint16(udp[6:], sum16(pseudo))
	}
	return ip(from.Addr(), to.Addr(), unix.IPPROTO_UDP, udp)
}

// wrap is an IP packet with another in it.
func wrap(from, to netip.Addr, inner []byte) []byte {
	if from.Is4() {
		return ip(from, to, unix.IPPROTO_IPIP, inner)
	}
	return ip(from, to, unix.IPPROTO_IPV6, inner)
}

func ip(from, to netip.Addr, protocol byte, payload []byte) []byte {
	var head []byte
	if from.Is4() {
		head = []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0}
		binary.BigEndian.PutUint16(head[2:], uint16(20+len(payload)))
		head = append(append(head, from.AsSlice()...), to.AsSlice()...)
		binary.BigEndian.PutUint16(head[10:], sum16(head))
	} else {
		head = []byte{0x60, 0, 0, 0, 0, 0, protocol, 64}
		binary.BigEndian.PutUint16(head[4:], uint16(len(payload)))
		head = append(append(head, from.AsSlice()...), to.AsSlice()...)
	}
	return append(head, payload...)
}

// tooLong is a router's complaint, from one address to another, about a packet that is longer than mtu.
func tooLong(from, to netip.Addr, about []byte, mtu uint16) []byte {
	if from.Is4() {
		m := append(binary.BigEndian.AppendUint16([]byte{3, 4, 0, 0, 0, 0}, mtu), about...)
		binary.BigEndian.PutUint16(m[2:], sum16(m))
		return ip(from, to, unix.IPPROTO_ICMP, m)
	}
	m := append(binary.BigEndian.AppendUint16([]byte{2, 0, 0, 0, 0, 0}, mtu), about...)
	pseudo := append(append(from.AsSlice(), to.AsSlice()...), 0, 0, 0, byte(len(m)), 0, 0, 0, unix.IPPROTO_ICMPV6)
	binary.BigEndian.PutUint16(m[2:], sum16(append(pseudo, m...)))
	return ip(from, to, unix.IPPROTO_ICMPV6, m)
}

// sum16 is the checksum of RFC 1071.
func sum16(b []byte) uint16 {
	var sum uint32
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// sendRaw sends packets to where the first hop for an address is.
func sendRaw(to netip.Addr, packets ...[]byte) error {
	domain := unix.AF_INET6
	if to.Is4() {
		domain = unix.AF_INET
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return fmt.Errorf("opening raw socket: %w", err)
	}
	defer unix.Close(fd)
	for _, p := range packets {
		if err := unix.Sendto(fd, p, 0, sockaddr(to)); err != nil {
			return fmt.Errorf("sending raw packet: %w", err)
		}
	}
	return nil
}

// choosesAsTheModel: for 5,000 flows of random clients by address and port, and as many by address alone; half of them while two of ten
// endpoints drain. With both families these are 20,000.
func choosesAsTheModel(t *testing.T, tr *tier) {
	tr.receive(t, 0)
	for i, name := range []string{"by port", "by client"} {
		svc := tr.service(func(s *lb.Service) {
			s.Ports = s.Ports[:1]
			s.Ports[0].Port = uint16(93 + i)
			s.SessionAffinity = time.Duration(i) * time.Hour
		})
		for j, closed := range []map[int]bool{{}, {2: true, 7: true}} {
			var eps []lb.Endpoint
			for k := range 10 {
				state := "rs"
				if closed[k] {
					state = "st"
				}
				eps = append(eps, tr.endpoint(3, 11+k, state)[0]) // nobody is there; who is chosen counts
			}
			for k := len(eps) - 1; k >= 0; k-- { // the last is known first
				tr.syncOne(t, 0, svc, eps[k:])
			}
			vip := netip.AddrPortFrom(netip.MustParseAddr(tr.family.vip), svc.Ports[0].Port)
			tr.compareChoices(t, fmt.Sprintf("%s, %d drain", name, len(closed)), 2*i+j, vip, eps, closed)
		}
	}
}

// compareChoices sends 2,500 SYNs of nobody and looks where IPVS would send them. The clients of each round are others.
func (tr *tier) compareChoices(t *testing.T, name string, round int, vip netip.AddrPort, eps []lb.Endpoint, closed map[int]bool) {
	t.Helper()
	var addrs []netip.AddrPort
	for _, e := range eps {
		addrs = append(addrs, e.Addr)
	}
	model := datapathtest.NewMaglev(addrs)
	want := map[netip.AddrPort]netip.AddrPort{}
	var packets [][]byte
	for len(want) < 2500 {
		from := netip.AddrPortFrom(randomClient(tr.family, round), uint16(1024+rand.IntN(60000)))
		if _, twice := want[from]; twice {
			continue
		}
		key := from
		if strings.HasPrefix(name, "by client") {
			key = netip.AddrPortFrom(from.Addr(), 0)
		}
		want[from] = addrs[model.Choose(key, func(i int) bool { return !closed[i] })]
		packets = append(packets, ip(from.Addr(), vip.Addr(), unix.IPPROTO_TCP, syn(from, vip)))
	}
	if err := within("tc", func() error { return sendRaw(vip.Addr(), packets...) }); err != nil {
		t.Fatal(err)
	}
	var got map[netip.AddrPort]netip.AddrPort
	inNode(t, 0, func() (err error) {
		got, err = connections()
		return err
	})
	missing, differ := 0, 0
	for from, dest := range want {
		switch chosen, ok := got[from]; {
		case !ok:
			missing++
		case chosen != dest:
			if differ++; differ < 4 {
				t.Errorf("%s: the kernel chooses %s for %s, the model %s", name, chosen, from, dest)
			}
		}
	}
	t.Logf("%s: of %d flows %d differ, %d got lost on the way", name, len(want), differ, missing)
	if differ > 0 || missing > len(want)/10 {
		t.Errorf("%s: of %d flows %d differ, %d got lost on the way", name, len(want), differ, missing)
	}
}

func randomClient(f tierFamily, round int) netip.Addr {
	if f.name == "IPv4" {
		return netip.AddrFrom4([4]byte{100, byte(64 + round), byte(rand.IntN(256)), byte(rand.IntN(256))})
	}
	b := netip.MustParseAddr("2001:db8::").As16()
	b[4] = byte(round)
	for i := 5; i < 16; i++ {
		b[i] = byte(rand.IntN(256))
	}
	return netip.AddrFrom16(b)
}

// syn is a TCP segment that opens a connection.
func syn(from, to netip.AddrPort) []byte {
	s := binary.BigEndian.AppendUint16(nil, from.Port())
	s = binary.BigEndian.AppendUint16(s, to.Port())
	s = append(s, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(s[16:], checksum(from.Addr(), to.Addr(), s))
	return s
}

// connections reads IPVS's table of the calling thread's namespace: client -> destination.
func connections() (map[netip.AddrPort]netip.AddrPort, error) {
	f, err := os.Open("/proc/thread-self/net/ip_vs_conn")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[netip.AddrPort]netip.AddrPort{}
	in := bufio.NewScanner(f)
	for in.Scan() {
		words := strings.Fields(in.Text())
		if len(words) < 7 || words[0] != "TCP" {
			continue
		}
		from, err := connAddr(words[1], words[2])
		if err != nil {
			return nil, err
		}
		to, err := connAddr(words[5], words[6])
		if err != nil {
			return nil, err
		}
		out[from] = to
	}
	return out, in.Err()
}

// connAddr reads "C0A80001" or "2001:0db8:…", and the port in hex digits.
func connAddr(addr, port string) (netip.AddrPort, error) {
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("reading port %q: %w", port, err)
	}
	if strings.Contains(addr, ":") {
		a, err := netip.ParseAddr(addr)
		return netip.AddrPortFrom(a, uint16(n)), err
	}
	b, err := hex.DecodeString(addr)
	if err != nil || len(b) != 4 {
		return netip.AddrPort{}, fmt.Errorf("reading address %q: %w", addr, err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(n)), nil
}
