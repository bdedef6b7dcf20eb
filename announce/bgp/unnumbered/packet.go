package unnumbered

import "net/netip"

// ICMPv6 types (RFC 4861 sections 4.1 and 4.2).
const (
	solicitation  = 133
	advertisement = 134
	hopLimit      = 255 // of a packet that no router has forwarded
)

// Groups of the link.
var (
	allNodes   = netip.MustParseAddr("ff02::1")
	allRouters = netip.MustParseAddr("ff02::2")
)

// option returns the source link-layer address option; nothing for an interface that has no such address.
func option(mac []byte) []byte {
	if len(mac) != 6 {
		return nil
	}
	return append([]byte{1, 1}, mac...)
}

// advertise returns a router advertisement that says no more than who we are: no default route, no prefix. The kernel adds the checksum.
func advertise(mac []byte) []byte { return append([]byte{advertisement, 15: 0}, option(mac)...) }

// solicit returns a router solicitation.
func solicit(mac []byte) []byte { return append([]byte{solicitation, 7: 0}, option(mac)...) }

// advertiser returns who sent a packet if it is a router advertisement from the link itself (RFC 4861 section 6.1.2).
func advertiser(packet []byte, from netip.Addr, hops int) (netip.Addr, bool) {
	ok := len(packet) >= 16 && packet[0] == advertisement && packet[1] == 0 && hops == hopLimit && from.Is6() && from.IsLinkLocalUnicast()
	return from.WithZone(""), ok
}
