package netlab

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

var segment = netip.MustParsePrefix("192.0.2.0/24")

// cluster is everything: the LAN, its nodes and client, and what the API server says.
type cluster struct {
	lan    *lan
	client *client
	nodes  []*node
	leave  bool // speakers run with --on-cordon=leave
	addrs  []netip.Addr
	stop   context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex // guards facts, which are replaced, not written to
	facts kube.Facts
}

func newCluster(seed uint64) *cluster {
	c := &cluster{lan: newLAN(seed), done: make(chan struct{}), facts: kube.Facts{L2: []lb.L2Advertisement{{Name: "all"}}}}
	c.client = newClient(c.lan)
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	go func() {
		defer close(c.done)
		for ctx.Err() == nil {
			c.client.connect(c.addresses())
			time.Sleep(connectEvery)
		}
	}()
	return c
}

// close ends everything that runs.
func (c *cluster) close() {
	var left []*process
	for _, n := range c.nodes {
		if n.process != nil {
			left = append(left, n.process)
			n.process.shutdown()
		}
	}
	for _, p := range left {
		<-p.ended
	}
	c.stop()
	<-c.done
	time.Sleep(time.Minute) // until the last timer has fired
}

func (c *cluster) node(name string) (*node, error) {
	for _, n := range c.nodes {
		if string(n.name) == name {
			return n, nil
		}
	}
	return nil, fmt.Errorf("there is no node %q", name)
}

func (c *cluster) running(name string) (*node, error) {
	n, err := c.node(name)
	if err == nil && n.process == nil {
		err = fmt.Errorf("no speaker runs on %s", name)
	}
	return n, err
}

// addNode adds a machine with a Node object; its speaker is started apart.
func (c *cluster) addNode(name string, labels map[string]string) *node {
	i := byte(len(c.nodes) + 1)
	n := &node{cluster: c, name: lb.NodeName(name), addr: netip.AddrFrom4([4]byte{192, 0, 2, i}), mac: lb.MAC{2, 0, 0, 0, 0, i}}
	c.nodes = append(c.nodes, n)
	c.edit(func(f *kube.Facts) {
		f.Nodes[n.name] = lb.Node{Name: n.name, Labels: labels, Addrs: []netip.Addr{n.addr}}
		f.Speakers[n.name] = n.addr
	})
	return n
}

// setAddresses gives the cluster n Services with an address each and an endpoint on every node.
func (c *cluster) setAddresses(n int) {
	c.edit(func(f *kube.Facts) {
		f.Services = nil
		for i := range n {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
			f.Services = append(f.Services, lb.Service{Key: lb.ServiceKey{Namespace: "default", Name: fmt.Sprintf("s%03d", i)},
				Ports: []lb.Port{{Name: "p", Protocol: lb.TCP, Port: 80}}, ExternalTrafficPolicy: lb.Cluster, Ingress: []lb.Ingress{{Addr: addr, Mode: lb.ModeProxy}}})
		}
	})
}

// edit changes what the API server says and lets all know. Every Service has an endpoint on each node.
func (c *cluster) edit(change func(*kube.Facts)) {
	c.mu.Lock()
	f := kube.Facts{Services: slices.Clone(c.facts.Services), Nodes: maps.Clone(c.facts.Nodes), L2: slices.Clone(c.facts.L2),
		Speakers: maps.Clone(c.facts.Speakers)}
	if f.Nodes == nil {
		f.Nodes, f.Speakers = map[lb.NodeName]lb.Node{}, map[lb.NodeName]netip.Addr{}
	}
	change(&f)
	c.addrs = nil
	for _, svc := range f.Services {
		c.addrs = append(c.addrs, svc.Addrs()...)
		var list []lb.Endpoint
		for i, n := range c.nodes {
			list = append(list, lb.Endpoint{PortName: "p", Protocol: lb.TCP, Node: n.name, Ready: true, Serving: true,
				Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 244, byte(i + 1), 1}), 8080)})
		}
		f.Endpoints.Set(svc.Key, list)
	}
	c.facts = f
	c.mu.Unlock()
	for _, n := range c.nodes {
		if n.process != nil {
			n.speaker.FactsChanged()
		}
	}
}

func (c *cluster) addresses() []netip.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.addrs
}

// Facts implements speaker.FactSource.
func (c *cluster) Facts(context.Context) (kube.Facts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.facts, nil
}

// Event implements speaker.Recorder.
func (c *cluster) Event(lb.ServiceKey, bool, string, string) {}

// PeerEvent implements speaker.Recorder.
func (c *cluster) PeerEvent(string, bool, string, string) {}

func (c *cluster) peers(context.Context) ([]netip.AddrPort, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []netip.AddrPort
	for _, addr := range c.facts.Speakers {
		out = append(out, netip.AddrPortFrom(addr, gossipPort))
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out, nil
}

// owners returns who answers for each address, by side of a partition.
func (c *cluster) owners() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	for _, addr := range c.addresses() {
		for _, n := range c.nodes {
			if n.answers(addr) {
				out[addr] = append(out[addr], string(n.name))
			}
		}
	}
	return out
}

// side returns on which side of a partition a node is; a node that is cut off is alone on one.
func (c *cluster) sideOf(n *node) string {
	side := ""
	c.lan.change(func() {
		side = fmt.Sprint(c.lan.side[string(n.name)])
		if n.process != nil && !n.host.plugged {
			side = string(n.name)
		}
	})
	return side
}

// check returns what is wrong once nothing moves any more: on each side exactly one node must answer for each address if there
// is one that can.
func (c *cluster) check() error {
	able := map[string]bool{}
	for _, n := range c.nodes {
		if n.process != nil && n.announcer.Working()[eth0] {
			able[c.sideOf(n)] = true
		}
	}
	for _, addr := range c.addresses() {
		answering := map[string][]string{}
		for _, n := range c.nodes {
			if n.answers(addr) {
				answering[c.sideOf(n)] = append(answering[c.sideOf(n)], string(n.name))
			}
		}
		for side := range able {
			if len(answering[side]) != 1 {
				return fmt.Errorf("%s is answered for by %v on side %s", addr, answering[side], side)
			}
		}
	}
	return nil
}

// onward prints one line per speaker that runs: where its machine hands packets of connections that it does not know, and what becomes of
// those that others hand to it.
func (c *cluster) onward() []string {
	var out []string
	for _, n := range c.nodes {
		if n.process != nil {
			n.mu.Lock()
			out = append(out, fmt.Sprintf("%s %s", n.name, cmp.Or(strings.TrimSpace(n.process.onward.String()), "keeps all")))
			n.mu.Unlock()
		}
	}
	return out
}

// summary prints one line per address with the nodes that answer for it.
func (c *cluster) summary() []string {
	var out []string
	owners := c.owners()
	for _, addr := range slices.SortedFunc(maps.Keys(owners), netip.Addr.Compare) {
		out = append(out, fmt.Sprintf("%s %s", addr, cmp.Or(strings.Join(owners[addr], " "), "nobody")))
	}
	return out
}
