package conntrack

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// tcpEstablished is TCP_CONNTRACK_ESTABLISHED of nf_conntrack_tcp.h.
const tcpEstablished = 3

// Open returns how many connections each endpoint of s carries now: established ones of TCP, flows of other protocols that are not
// forgotten yet. Those of a listener for everybody and of one for the inside are not told apart: they count for everybody's. The whole
// table is read, 100,000 flows in some tenths of a second; while it changes quickly the numbers may be a little off.
func (Flows) Open(ctx context.Context, s datapath.State) (map[datapath.Count]int, error) {
	o := newTally(s)
	families := map[netlink.InetFamily]bool{}
	for _, v := range s.Servers {
		families[familyOf(v.Addr.Addr())] = true
	}
	for family := range families {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, family)
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return nil, fmt.Errorf("reading conntrack entries: %w", err)
		}
		for _, f := range flows {
			o.add(f)
		}
	}
	return o.open, nil
}

func familyOf(a netip.Addr) netlink.InetFamily {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// tally counts flows by listener and endpoint.
type tally struct {
	rules
	open map[datapath.Count]int
}

func newTally(s datapath.State) tally {
	t := tally{newRules(map[datapath.Listener]rule{}, s.NodeAddrs), map[datapath.Count]int{}}
	for _, v := range s.Servers {
		t.listeners[v.Listener.ForEverybody()] = rule{}
	}
	return t
}

func (t tally) add(f *netlink.ConntrackFlow) {
	listener, endpoint, _, ours := t.find(f)
	if !ours || endpoint == listener.Addr {
		return
	}
	if tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok && listener.Protocol == lb.TCP && tcp.State != tcpEstablished {
		return
	}
	t.open[datapath.Count{Listener: listener, Destination: endpoint}]++
}
