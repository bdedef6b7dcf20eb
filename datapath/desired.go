package datapath

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/lb"
)

// Desired returns what this node's kernel shall hold; empty where somebody else forwards.
//
// In mode external it is every address in the status of our Services, with each port of its Service. While their ipMode is VIP,
// kube-proxy serves them as well, so that one can let go when the other is there (S45). In mode full it is what kube-proxy would serve: ClusterIPs, node ports, external IPs, and the addresses in the status of all Services,
// except those whose ipMode leaves them to a proxy that is not ours (S44). Should two Services claim the same address, port and
// protocol, the one with the better [Claim] has it, else the first by key. Endpoints on nodes that are down get weight 0, at most half of those behind a port.
func Desired(s lb.Snapshot) State { return new(Decider).Desired(s) }

// Decider is [Desired] for one caller who asks again and again: what has not changed since the last time is not computed again, and
// shares its memory with the last answer. The answers do not depend on what was asked before. The zero value is ready for use, by
// one goroutine at a time.
type Decider struct {
	frame            frame
	services, others []lb.Service // that served is about
	addrs            []netip.Addr // of the node, that the frame was made with
	served           []served     // sorted by key
	endpoints        lb.Endpoints // of those
	claims           []*VirtualServer
	direct           int // how many of the claims are for direct server return
	last             State
	done             bool // last is an answer
}

// served is a Service with everything that was decided for it.
type served struct {
	service   *lb.Service
	ours      bool
	endpoints []lb.Endpoint
	result    result
}

// Desired is [Desired] of the package. Where the lists of Services are the same memory as the last time, as facts that are never
// written to have it while only endpoints change, it costs a look at each Service's endpoints.
func (d *Decider) Desired(s lb.Snapshot) State {
	if !s.Forwards {
		*d = Decider{}
		return State{}
	}
	f := newFrame(s)
	same := d.done && alias(d.services, s.Services) && alias(d.others, s.Others)
	if same && slices.Equal(d.addrs, s.Addrs) && d.frame.sameNodePorts(f) {
		f.nodePorts = d.frame.nodePorts
	} else {
		f.nodePorts, d.addrs = f.whereNodePortsAre(s), slices.Clone(s.Addrs)
	}
	fresh := !d.done || !d.frame.equal(f)
	var c change
	if !fresh && same {
		d.reconsider(f, s.Endpoints, &c)
	} else {
		d.decide(f, s, fresh, &c)
	}
	d.frame, d.services, d.others, d.endpoints = f, s.Services, s.Others, s.Endpoints
	if fresh || c.any {
		d.assemble(c, fresh)
		d.done = true
	}
	d.last.Onward = Onward{Known: s.RelaysKnown}
	if d.direct == 0 {
		d.last.Onward = onward(s)
	}
	return d.last
}

// reconsider decides anew about the Services whose endpoints have changed.
func (d *Decider) reconsider(f frame, endpoints lb.Endpoints, c *change) {
	for key := range endpoints.Since(d.endpoints) {
		i, ok := slices.BinarySearchFunc(d.served, key, func(s served, key lb.ServiceKey) int { return s.service.Key.Compare(key) })
		if !ok {
			continue
		}
		o, now := &d.served[i], endpoints.Of(key)
		if !sameEndpoints(o.endpoints, now) {
			c.gone(*o)
			o.result = f.serve(o.service, o.ours, now)
			c.new(*o)
		}
		o.endpoints = now
	}
}

// decide decides about all Services, anew about those that have changed, or with fresh about each.
func (d *Decider) decide(f frame, s lb.Snapshot, fresh bool, c *change) {
	next := make([]served, 0, len(s.Services)+len(s.Others))
	old := d.served
	for svc, ours := range all(s) {
		for len(old) > 0 && old[0].service.Key.Compare(svc.Key) < 0 {
			c.gone(old[0])
			old = old[1:]
		}
		now := served{service: svc, ours: ours, endpoints: s.Endpoints.Of(svc.Key)}
		known := len(old) > 0 && old[0].service.Key == svc.Key
		if known && !fresh && old[0].ours == ours && sameEndpoints(old[0].endpoints, now.endpoints) && sameService(old[0].service, svc) {
			now.result = old[0].result
		} else {
			if known {
				c.gone(old[0])
			}
			now.result = f.serve(svc, ours, now.endpoints)
			c.new(now)
		}
		if known {
			old = old[1:]
		}
		next = append(next, now)
	}
	for _, o := range old {
		c.gone(o)
	}
	d.served = next
}

// change is what differs from the last time.
type change struct {
	less, more []*VirtualServer
	any        bool // also if it is about refusals only
}

func (c *change) gone(s served) { c.less, c.any = append(c.less, s.result.servers...), true }
func (c *change) new(s served)  { c.more, c.any = append(c.more, s.result.servers...), true }

// all goes through the Services by key, and says which of them are ours. One that is in both lists is.
func all(s lb.Snapshot) func(yield func(*lb.Service, bool) bool) {
	return func(yield func(*lb.Service, bool) bool) {
		i, j := 0, 0
		for i < len(s.Services) || j < len(s.Others) {
			order := -1
			if i == len(s.Services) {
				order = 1
			} else if j < len(s.Others) {
				order = s.Services[i].Key.Compare(s.Others[j].Key)
			}
			ok := true
			switch {
			case order <= 0:
				ok = yield(&s.Services[i], true)
				i++
			default:
				ok = yield(&s.Others[j], false)
			}
			if order >= 0 {
				j++
			}
			if !ok {
				return
			}
		}
	}
}

// claim orders servers by address, port, protocol, then what they are claimed as and the Service: of several claimants the first comes first.
func claim(a, b *VirtualServer) int {
	if d := a.Listener.ForEverybody().Compare(b.Listener.ForEverybody()); d != 0 {
		return d
	}
	if d := cmp.Compare(a.Claim, b.Claim); d != 0 {
		return d
	}
	if d := a.Service.Compare(b.Service); d != 0 {
		return d
	}
	return a.Listener.Compare(b.Listener)
}

// assemble makes a state of what was decided for the single Services. Fresh says that what counts for all of them may be another.
func (d *Decider) assemble(c change, fresh bool) {
	slices.SortFunc(c.less, claim)
	slices.SortFunc(c.more, claim)
	out := State{Pods: d.frame.pods, NodeAddrs: d.frame.nodePorts}
	sameClaims := slices.EqualFunc(c.less, c.more, func(a, b *VirtualServer) bool { return claim(a, b) == 0 })
	d.claims = merge(d.claims, c.less, c.more)
	if d.direct += countDirect(c.more) - countDirect(c.less); d.direct > 0 {
		out.Peers = d.frame.peers()
	}
	var lost []Refused
	out.Servers, lost = d.claims, nil
	if !sameClaims || len(d.last.Refused) > 0 {
		out.Servers, lost = winners(d.claims)
	}
	out.VIPs = d.last.VIPs
	if fresh || !sameClaims {
		out.VIPs = d.vips()
	}
	for i := range d.served {
		out.Refused = append(out.Refused, d.served[i].result.refused...)
	}
	out.Refused = JoinRefused(out.Refused, lost)
	d.last = out
}

func countDirect(servers []*VirtualServer) (n int) {
	for _, v := range servers {
		if v.Direct || v.Tunnelled {
			n++
		}
	}
	return n
}

// merge returns the claims without those in less, each of which is among them, and with those in more. All lists are sorted.
func merge(claims, less, more []*VirtualServer) []*VirtualServer {
	out := make([]*VirtualServer, 0, len(claims)-len(less)+len(more))
	for len(less)+len(more) > 0 {
		next, remove := more, false
		if len(more) == 0 || len(less) > 0 && claim(less[0], more[0]) <= 0 {
			next, remove = less, true
		}
		i, _ := slices.BinarySearchFunc(claims, next[0], claim)
		out = append(out, claims[:i]...)
		claims = claims[i:]
		if remove {
			claims, less = claims[1:], less[1:]
		} else {
			out, more = append(out, more[0]), more[1:]
		}
	}
	return append(out, claims...)
}

// winners leaves each listener to the first Service that claims it. Without a conflict it returns the claims themselves.
func winners(claims []*VirtualServer) (servers []*VirtualServer, lost []Refused) {
	servers = claims
	holder := 0
	for i := 1; i < len(claims); i++ {
		h := claims[holder]
		same := claims[i].Addr == h.Addr && claims[i].Protocol == h.Protocol
		if same && claims[i].Service != h.Service {
			if lost == nil {
				servers = slices.Clone(claims[:i])
			}
			if claims[i].Listener == claims[i].ForEverybody() {
				lost = append(lost, taken(claims[i], h))
			}
			continue
		}
		if !same {
			holder = i
		}
		if lost != nil {
			servers = append(servers, claims[i])
		}
	}
	return servers, lost
}

// vips returns the addresses that the node takes all packets for.
func (d *Decider) vips() []netip.Addr {
	var out []netip.Addr
	for i := range d.claims {
		a := d.claims[i].Addr.Addr()
		if n := len(out); a.IsUnspecified() || n > 0 && out[n-1] == a || d.frame.nodes[a] {
			continue
		}
		out = append(out, a)
	}
	return out
}
