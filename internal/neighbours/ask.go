package neighbours

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"
)

// Who asks for addr on the interface for a while, once each 100 ms, and returns how often each hardware address answered. The error
// is about the interface or the socket; silence is none.
func Who(iface string, addr netip.Addr, length time.Duration) (map[string]int, error) {
	ifi, err := net.InterfaceByName(iface)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", addr, err)
	}
	if addr.Is4() {
		return overARP(ifi, addr, length)
	}
	return overNDP(ifi, addr, length)
}

// Link returns the interface of this machine whose subnet holds addr.
func Link(addr netip.Addr) (string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return "", fmt.Errorf("listing interfaces: %w", err)
	}
	for _, ifi := range all {
		addrs, err := ifi.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			p, err := netip.ParsePrefix(a.String())
			if err == nil && p.Contains(addr) && !p.IsSingleIP() && ifi.Flags&net.FlagUp != 0 && ifi.Flags&net.FlagLoopback == 0 {
				return ifi.Name, nil
			}
		}
	}
	return "", fmt.Errorf("asking for %s: this machine has no interface in its subnet; ask from a machine that is on the nodes' segment", addr)
}

// conversation is a socket on which one asks for an address.
type conversation interface {
	ask() error
	// read returns who answered for the address, "" for another packet.
	read() (mac string, err error)
	setReadDeadline(t time.Time) error
}

// hold asks each 100 ms until the time is over, listens in between, and counts the answers.
func hold(c conversation, addr netip.Addr, length time.Duration) (map[string]int, error) {
	answers := map[string]int{}
	for end := time.Now().Add(length); time.Now().Before(end); {
		if err := c.ask(); err != nil {
			return nil, fmt.Errorf("asking for %s: %w", addr, err)
		}
		if err := c.setReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
			return nil, fmt.Errorf("listening for %s: %w", addr, err)
		}
		for {
			mac, err := c.read()
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, fmt.Errorf("listening for %s: %w", addr, err)
			}
			if mac != "" {
				answers[mac]++
			}
		}
	}
	return answers, nil
}
