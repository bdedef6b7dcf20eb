package probe

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ethernet"
	"github.com/mdlayher/packet"
)

// WhoHas broadcasts ARP requests for addr, one each 100 ms, and returns how often each MAC answered.
func WhoHas(iface string, addr netip.Addr, length time.Duration) (map[string]int, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, err
	}
	own, err := firstIPv4(ifi)
	if err != nil {
		return nil, err
	}
	conn, err := packet.Listen(ifi, packet.Raw, int(ethernet.EtherTypeARP), nil)
	if err != nil {
		return nil, fmt.Errorf("opening ARP socket on %s: %w", iface, err)
	}
	defer conn.Close()
	client, err := arp.New(ifi, conn)
	if err != nil {
		return nil, err
	}
	answers := map[string]int{}
	for end := time.Now().Add(length); time.Now().Before(end); {
		req, err := arp.NewPacket(arp.OperationRequest, ifi.HardwareAddr, own, ethernet.Broadcast, addr)
		if err != nil {
			return nil, err
		}
		if err := client.WriteTo(req, ethernet.Broadcast); err != nil {
			return nil, err
		}
		if err := count(client, addr, time.Now().Add(100*time.Millisecond), answers); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

func count(client *arp.Client, addr netip.Addr, until time.Time, answers map[string]int) error {
	if err := client.SetReadDeadline(until); err != nil {
		return err
	}
	for {
		p, _, err := client.Read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		if p.Operation == arp.OperationReply && p.SenderIP == addr {
			answers[p.SenderHardwareAddr.String()]++
		}
	}
}

func firstIPv4(ifi *net.Interface) (netip.Addr, error) {
	addrs, err := ifi.Addrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, fmt.Errorf("interface %s has no IPv4 address", ifi.Name)
}
