package bed

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// NodeOptions says how a node is plugged in and what its speaker does. It travels as JSON to the speaker's process.
type NodeOptions struct {
	Number int   // 1 to 80: name, addresses and MAC follow from it
	Peers  []int // the numbers of all speakers that belong together, this one included

	First, VIPs int  // the Services' addresses are VIP(First) to VIP(First+VIPs-1), each of a Service of its own
	IPv6        bool // as many Services with VIP6 addresses

	Far            bool // the node is beyond the trunk; see LAN.Trunk
	Management     bool // it has a second link, eth1, in the management network
	GossipOverMgmt bool // and gossip and heartbeats go over that one

	Backend   int           // the node whose server is the endpoint of every Service, reached through the nft engine; 0 = the nodes' own servers, no engine
	Heartbeat time.Duration // interval of the fast detector between speakers; 0 = off, memberlist alone
	Failback  time.Duration // of the L2Advertisement; 0 = never
	CPU       string        // the speaker's process runs in the cpu cgroup with this directory; "" = in its parent's

	EventBuffer int // speaker.Netlink.Buffer
}

func (o NodeOptions) gossipAddr(i int) netip.Addr {
	if o.GossipOverMgmt {
		return ManagementAddr(i)
	}
	return NodeAddr(i)
}

// addresses returns the addresses of the Services.
func (o NodeOptions) addresses() (out []netip.Addr) {
	for i := range o.VIPs {
		out = append(out, VIP(o.First+i))
		if o.IPv6 {
			out = append(out, VIP6(o.First+i))
		}
	}
	return out
}

// Facts implements speaker.FactSource: it is what the API server would say. Each address has a Service, endpoints are
// everywhere, nothing is restricted.
func (o NodeOptions) Facts(context.Context) (kube.Facts, error) {
	f := kube.Facts{Nodes: map[lb.NodeName]lb.Node{}, L2: []lb.L2Advertisement{{Name: "all"}}}
	if o.Failback > 0 {
		f.L2[0].Failback = &o.Failback
	}
	for _, i := range o.Peers {
		f.Nodes[NodeName(i)] = lb.Node{Name: NodeName(i)}
	}
	mode := lb.ModeVIP
	if o.Backend != 0 {
		mode = lb.ModeProxy // the engine forwards
	}
	for i, addr := range o.addresses() {
		key := lb.ServiceKey{Namespace: "default", Name: fmt.Sprintf("svc-%d", i)}
		pod := netip.AddrPortFrom(NodeAddr(o.Backend), servicePort)
		if addr.Is6() {
			pod = netip.AddrPortFrom(Host6(10+o.Backend), servicePort)
		}
		f.Services = append(f.Services, lb.Service{Key: key, Ports: []lb.Port{{Protocol: lb.TCP, Port: servicePort}}, ExternalTrafficPolicy: lb.Cluster,
			Ingress: []lb.Ingress{{Addr: addr, Mode: mode}}})
		f.Endpoints.Set(key, []lb.Endpoint{{Protocol: lb.TCP, Addr: pod, Node: NodeName(o.Backend), Ready: true, Serving: true}})
	}
	return f, nil
}

// silent records no Events.
type silent struct{}

// Event implements speaker.Recorder.
func (silent) Event(lb.ServiceKey, bool, string, string) {}

// PeerEvent implements speaker.Recorder.
func (silent) PeerEvent(string, bool, string, string) {}
