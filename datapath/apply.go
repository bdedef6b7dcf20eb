package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Apply changes s as a kernel does that carries out op, and refuses what no kernel could do at that point. Engines keep their
// record of the kernel with it. It writes to the lists of s, and puts another server in the place of one that changes.
func (s *State) Apply(op Op) error {
	if err := s.apply(op); err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	return nil
}

func (s *State) apply(op Op) error {
	i, has := slices.BinarySearchFunc(s.Servers, op.Server.Listener, (*VirtualServer).at)
	switch op.Verb {
	case VIPUp, VIPDown:
		return s.applyVIP(op)
	case AddServer:
		if has {
			return errors.New("server exists")
		}
		s.Servers = slices.Insert(s.Servers, i, &op.Server)
		return nil
	}
	if !has {
		return errors.New("no such server")
	}
	switch op.Verb {
	case EditServer:
		op.Server.Destinations = s.Servers[i].Destinations
		s.Servers[i] = &op.Server
		return nil
	case DeleteServer:
		s.Servers = slices.Delete(s.Servers, i, i+1)
		return nil
	default:
		v := *s.Servers[i]
		s.Servers[i] = &v
		return v.apply(op)
	}
}

func (s *State) applyVIP(op Op) error {
	i, has := slices.BinarySearchFunc(s.VIPs, op.VIP, netip.Addr.Compare)
	switch {
	case has == (op.Verb == VIPUp):
		return fmt.Errorf("VIP present: %v", has)
	case op.Verb == VIPUp:
		s.VIPs = slices.Insert(s.VIPs, i, op.VIP)
		return nil
	case slices.ContainsFunc(s.Servers, func(v *VirtualServer) bool { return v.Addr.Addr() == op.VIP }):
		return errors.New("VIP goes down before its servers")
	default:
		s.VIPs = slices.Delete(s.VIPs, i, i+1)
		return nil
	}
}

func (v *VirtualServer) apply(op Op) error {
	i, has := slices.BinarySearchFunc(v.Destinations, op.Destination.Addr, Destination.at)
	v.Destinations = slices.Clone(v.Destinations)
	last := 0
	for _, d := range v.Destinations {
		last = max(last, d.Added)
	}
	switch {
	case has == (op.Verb == AddDestination):
		return fmt.Errorf("destination present: %v", has)
	case op.Verb == AddDestination:
		op.Destination.Added = last + 1
		v.Destinations = slices.Insert(v.Destinations, i, op.Destination)
	case op.Verb == MoveDestination:
		v.Destinations[i].Added = last + 1
	case op.Verb == EditDestination:
		op.Destination.Conns, op.Destination.Added = v.Destinations[i].Conns, v.Destinations[i].Added
		v.Destinations[i] = op.Destination
	default:
		v.Destinations = slices.Delete(v.Destinations, i, i+1)
	}
	return nil
}

// Clone returns a copy that may be changed with [State.Apply] while s stays as it is.
func (s State) Clone() State {
	return State{VIPs: slices.Clone(s.VIPs), Servers: slices.Clone(s.Servers), NodeAddrs: s.NodeAddrs, Pods: s.Pods, Peers: s.Peers, Onward: s.Onward, Partial: slices.Clone(s.Partial)}
}
