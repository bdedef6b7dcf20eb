package datapath

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// Rejection is a server that a kernel does not take, and what it said.
type Rejection struct {
	Server VirtualServer
	Err    error
}

// Rejected is the error of an executor whose kernel does not take single servers of a state. All others are in force.
type Rejected []Rejection

// Error names the first of them.
func (r Rejected) Error() string {
	if len(r) == 0 {
		return "nothing rejected"
	}
	more := ""
	if len(r) > 1 {
		more = fmt.Sprintf(" and %d more", len(r)-1)
	}
	return fmt.Sprintf("the kernel does not take %s of %s%s: %v", r[0].Server.Listener, r[0].Server.Service, more, r[0].Err)
}

// Unwrap returns what the kernel said.
func (r Rejected) Unwrap() []error {
	out := make([]error, 0, len(r))
	for _, x := range r {
		out = append(out, x.Err)
	}
	return out
}

// Add takes in what err says was rejected; any other error it returns.
func (r *Rejected) Add(err error) error {
	var some Rejected
	if errors.As(err, &some) {
		*r = append(*r, some...)
		return nil
	}
	return err
}

// Without returns s without the rejected servers. Their addresses stay, so that nobody reaches the node through them (S46).
func (s State) Without(r Rejected) State {
	if len(r) == 0 {
		return s
	}
	gone := map[Listener]bool{}
	for _, x := range r {
		gone[x.Server.Listener] = true
	}
	s.Servers = slices.DeleteFunc(slices.Clone(s.Servers), func(v *VirtualServer) bool { return gone[v.Listener] })
	return s
}

// Lacking returns the reached state s with what it lacks: the addresses in lacking and those of rejected servers, and for each
// Service what of it the kernel does not take.
func (s State) Lacking(lacking []netip.Addr, r Rejected) State {
	s.Partial, s.Refused = slices.Clone(lacking), nil
	r = slices.Clone(r)
	slices.SortStableFunc(r, func(a, b Rejection) int {
		return cmp.Or(a.Server.Service.Compare(b.Server.Service), a.Server.Listener.Compare(b.Server.Listener))
	})
	for len(r) > 0 {
		n := 1
		for n < len(r) && r[n].Server.Service == r[0].Server.Service {
			n++
		}
		s.Refused = append(s.Refused, notTaken(r[:n]))
		for _, x := range r[:n] {
			s.Partial = append(s.Partial, x.Server.Addr.Addr())
		}
		r = r[n:]
	}
	slices.SortFunc(s.Partial, netip.Addr.Compare)
	s.Partial = slices.Compact(s.Partial)
	return s
}

// ServesOutside reports whether a kernel that holds the reached state s forwards what comes to svc from outside at an address of the family,
// on whichever port: at node ports, which engines have at the unspecified address or at those of the node, and at its other addresses. Of a
// Service that has none of these in s, the ClusterIP tells whether s has the Service. One of which the kernel does not take something is not
// served.
func (s State) ServesOutside(svc *lb.Service, family lb.Family, node []netip.Addr) bool {
	first, _ := slices.BinarySearchFunc(s.Refused, svc.Key, func(r Refused, key lb.ServiceKey) int { return r.Service.Compare(key) })
	for _, r := range s.Refused[first:] {
		if r.Service != svc.Key {
			break
		}
		if r.Reason == lb.KernelRefuses {
			return false
		}
	}
	look := func(addrs []netip.Addr, number uint16, protocol lb.Protocol) (forwards, has bool) {
		for _, a := range addrs {
			if number == 0 || lb.FamilyOf(a) != family {
				continue
			}
			l := Listener{Addr: netip.AddrPortFrom(a.Unmap(), number), Protocol: protocol}
			if i, ok := slices.BinarySearchFunc(s.Servers, l, (*VirtualServer).at); ok && s.Servers[i].Service == svc.Key {
				forwards, has = forwards || s.Servers[i].Verdict == Forward, true
			}
		}
		return forwards, has
	}
	external := slices.Concat(svc.Addrs(), svc.ExternalIPs)
	node = append([]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}, node...)
	outside, inside := false, false
	for _, p := range svc.Ports {
		forwards, has := look(external, p.Port, p.Protocol)
		forwardsToo, hasToo := look(node, p.NodePort, p.Protocol)
		if forwards || forwardsToo {
			return true
		}
		_, known := look(svc.ClusterIPs, p.Port, p.Protocol)
		outside, inside = outside || has || hasToo, inside || known
	}
	return inside && !outside
}

// notTaken says what of one Service the kernel does not take.
func notTaken(r Rejected) Refused {
	var names []string
	for _, x := range r {
		if name := x.Server.Listener.String(); len(names) < 3 && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return refused(r[0].Server.Service, lb.KernelRefuses,
		"the kernel does not take what %s needs (%v); look at what is unusual about the Service, and at the log of the node's kernel; it is tried again",
		strings.Join(names, ", "), r[0].Err)
}
