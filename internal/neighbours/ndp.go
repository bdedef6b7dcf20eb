package neighbours

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/ndp"
)

// overNDP sends neighbour solicitations for addr to its solicited-node group.
func overNDP(ifi *net.Interface, addr netip.Addr, length time.Duration) (map[string]int, error) {
	conn, _, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, fmt.Errorf("opening NDP socket on %s: %w", ifi.Name, err)
	}
	defer conn.Close()
	group, err := ndp.SolicitedNodeMulticast(addr)
	if err != nil {
		return nil, fmt.Errorf("asking for %s: %w", addr, err)
	}
	question := &ndp.NeighborSolicitation{TargetAddress: addr, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: ifi.HardwareAddr}}}
	return hold(ndpConversation{conn, question, group}, addr, length)
}

type ndpConversation struct {
	*ndp.Conn
	question *ndp.NeighborSolicitation
	group    netip.Addr
}

func (c ndpConversation) setReadDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c ndpConversation) ask() error { return c.WriteTo(c.question, nil, c.group) }

// read passes over what is no packet of neighbour discovery.
func (c ndpConversation) read() (string, error) {
	m, _, _, err := c.ReadFrom()
	var socket *net.OpError
	if err != nil && (errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &socket)) {
		return "", err
	}
	a, ok := m.(*ndp.NeighborAdvertisement)
	if err != nil || !ok || a.TargetAddress != c.question.TargetAddress {
		return "", nil
	}
	for _, o := range a.Options {
		if l, ok := o.(*ndp.LinkLayerAddress); ok && l.Direction == ndp.Target {
			return l.Addr.String(), nil
		}
	}
	return "", nil
}
