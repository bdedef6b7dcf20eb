package neighbours

import (
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
)

// overARP broadcasts ARP requests for addr.
func overARP(ifi *net.Interface, addr netip.Addr, length time.Duration) (map[string]int, error) {
	own, err := firstIPv4(ifi)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return nil, fmt.Errorf("opening ARP socket on %s: %w", ifi.Name, err)
	}
	defer conn.Close()
	client, err := arp.New(ifi, conn)
	if err != nil {
		return nil, fmt.Errorf("opening ARP socket on %s: %w", ifi.Name, err)
	}
	return hold(arpConversation{client, ifi.HardwareAddr, own, addr}, addr, length)
}

type arpConversation struct {
	client *arp.Client
	mac    net.HardwareAddr
	own    netip.Addr
	addr   netip.Addr
}

func (c arpConversation) setReadDeadline(t time.Time) error { return c.client.SetReadDeadline(t) }

func (c arpConversation) ask() error {
	request, err := arp.NewPacket(arp.OperationRequest, c.mac, c.own, ethernet.Broadcast, c.addr)
	if err != nil {
		return err
	}
	return c.client.WriteTo(request, ethernet.Broadcast)
}

func (c arpConversation) read() (string, error) {
	p, _, err := c.client.Read()
	if err != nil || p.Operation != arp.OperationReply || p.SenderIP != c.addr {
		return "", err
	}
	return p.SenderHardwareAddr.String(), nil
}

func firstIPv4(ifi *net.Interface) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("reading the addresses of %s: %w", ifi.Name, err)
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no IPv4 address", ifi.Name)
}
