package ipvs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/lb"
)

// patience is how long one request may take. The netlink library waits for an answer forever; after this time its socket is
// closed under it.
const patience = 5 * time.Second

// persistent is IP_VS_SVC_F_PERSISTENT of linux/ip_vs.h: a client returns to its destination until Timeout is over.
const persistent = 0x1

// hashFlags are IP_VS_SVC_F_SCHED1 and 2, which schedulers sh and mh understand: fall back to another destination if the hashed one has no
// weight, and hash the client's port too. Without the first they would refuse clients of an endpoint that drains (fact 12).
const (
	fallbackFlag = 0x8
	portFlag     = 0x10
)

// kernel is IPVS in one network namespace. It is not safe for concurrent use.
type kernel struct {
	handle *ipvs.Handle // nil = to be opened
	marks  *Marks
}

// do runs one request. After a timeout the handle is gone and the next request opens another.
func (k *kernel) do(ctx context.Context, request func(*ipvs.Handle) error) error {
	if k.handle == nil {
		h, err := ipvs.New("")
		if err != nil {
			return fmt.Errorf("opening IPVS: %w", err)
		}
		k.handle = h
	}
	done := make(chan error, 1)
	go func(h *ipvs.Handle) { done <- request(h) }(k.handle)
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		k.handle.Close()
		k.handle = nil
		<-done // the closed socket makes the library return
		return fmt.Errorf("waiting for IPVS: %w", ctx.Err())
	}
}

func (k *kernel) close() {
	if k.handle != nil {
		k.handle.Close()
		k.handle = nil
	}
}

// services returns the virtual servers that are ours, without destinations, sorted.
func (k *kernel) services(ctx context.Context, ours func(datapath.Listener) bool) ([]*datapath.VirtualServer, error) {
	var all []*ipvs.Service
	err := k.do(ctx, func(h *ipvs.Handle) (err error) {
		all, err = h.GetServices()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing virtual servers: %w", err)
	}
	var out []*datapath.VirtualServer
	for _, s := range all {
		if v, ok := k.read(s); ok && ours(v.Listener) {
			out = append(out, v)
		}
	}
	slices.SortFunc(out, func(a, b *datapath.VirtualServer) int { return a.Listener.Compare(b.Listener) })
	return out, nil
}

// service returns what the kernel has at v's listener.
func (k *kernel) service(ctx context.Context, v *datapath.VirtualServer) (found *datapath.VirtualServer, ok bool, err error) {
	var one *ipvs.Service
	err = k.do(ctx, func(h *ipvs.Handle) (err error) {
		one, err = h.GetService(k.of(v))
		return err
	})
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return found, false, nil
	}
	if err != nil {
		return found, false, fmt.Errorf("reading virtual server %s: %w", v.Listener, err)
	}
	found, ok = k.read(one)
	return found, ok, nil
}

// read translates what the kernel says about a virtual server; those with marks of others are none of ours.
func (k *kernel) read(s *ipvs.Service) (*datapath.VirtualServer, bool) {
	v := &datapath.VirtualServer{Scheduler: s.SchedName}
	if s.SchedName == datapath.Maglev && s.Flags&portFlag == 0 {
		v.Scheduler = datapath.MaglevClient
	}
	a, ok := netip.AddrFromSlice(s.Address)
	switch {
	case s.FWMark&markMask == ourMarks:
		family := netip.IPv4Unspecified()
		if s.AddressFamily == unix.AF_INET6 {
			family = netip.IPv6Unspecified()
		}
		v.Listener = k.marks.listener(s.FWMark, family)
	case s.FWMark != 0 || !ok:
		return v, false
	default:
		protocol, _ := lb.ProtocolOf(uint8(s.Protocol)) // IPVS knows no others
		v.Listener = datapath.Listener{Addr: netip.AddrPortFrom(a, s.Port), Protocol: protocol}
	}
	if s.Flags&persistent != 0 {
		v.Affinity = time.Duration(s.Timeout) * time.Second
	}
	return v, true
}

// destinations reads those of one virtual server, with their connections.
func (k *kernel) destinations(ctx context.Context, v *datapath.VirtualServer) ([]datapath.Destination, error) {
	var all []*ipvs.Destination
	err := k.do(ctx, func(h *ipvs.Handle) (err error) {
		all, err = h.GetDestinations(k.of(v))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("listing destinations of %s: %w", v.Listener, err)
	}
	out := make([]datapath.Destination, 0, len(all))
	for i, d := range all { // from the last that was added to the first
		a, ok := addrPort(d)
		if !ok {
			continue
		}
		out = append(out, datapath.Destination{Addr: a, Weight: d.Weight, Method: methodOf(d.ConnectionFlags),
			Conns: d.ActiveConnections + d.InactiveConnections, Added: len(all) - i})
	}
	slices.SortFunc(out, func(a, b datapath.Destination) int { return a.Addr.Compare(b.Addr) })
	return out, nil
}

func addrPort(d *ipvs.Destination) (netip.AddrPort, bool) {
	a, ok := netip.AddrFromSlice(d.Address)
	return netip.AddrPortFrom(a, d.Port), ok
}

// apply carries out one operation on a virtual server or destination.
func (k *kernel) apply(ctx context.Context, op datapath.Op) error {
	s, d := k.of(&op.Server), destination(op.Destination)
	return k.do(ctx, func(h *ipvs.Handle) error {
		switch op.Verb {
		case datapath.AddServer:
			return h.NewService(s)
		case datapath.EditServer:
			return h.UpdateService(s)
		case datapath.AddDestination:
			return h.NewDestination(s, d)
		case datapath.MoveDestination: // the kernel keeps one that it is to forget for the connections that it has
			if err := h.DelDestination(s, d); err != nil {
				return err
			}
			return h.NewDestination(s, d)
		case datapath.EditDestination:
			return h.UpdateDestination(s, d)
		case datapath.DeleteDestination:
			return ignore(h.DelDestination(s, d), unix.ENOENT)
		case datapath.DeleteServer:
			return ignore(h.DelService(s), unix.ESRCH, unix.ENOENT)
		default:
			panic("ipvs: no IPVS operation: " + op.String())
		}
	})
}

func ignore(err error, these ...error) error {
	if slices.ContainsFunc(these, func(e error) bool { return errors.Is(err, e) }) {
		return nil
	}
	return err
}

// of returns v in the kernel's terms: by its mark if it is for the inside, by its address if not.
func (k *kernel) of(v *datapath.VirtualServer) *ipvs.Service {
	s := &ipvs.Service{SchedName: cmp.Or(v.Scheduler, datapath.RoundRobin), AddressFamily: unix.AF_INET, Netmask: 0xffffffff}
	if v.Inside {
		s.FWMark = k.marks.Of(v.Listener)
	} else {
		s.Address, s.Port, s.Protocol = net.IP(v.Addr.Addr().AsSlice()), v.Addr.Port(), uint16(v.Protocol.Number())
	}
	if v.Addr.Addr().Is6() {
		s.AddressFamily, s.Netmask = unix.AF_INET6, 128
	}
	if v.Affinity > 0 {
		s.Flags, s.Timeout = persistent, uint32(v.Affinity/time.Second)
	}
	switch v.Scheduler {
	case datapath.Maglev, "sh":
		s.Flags |= fallbackFlag | portFlag
	case datapath.MaglevClient:
		s.SchedName = datapath.Maglev
		s.Flags |= fallbackFlag
	}
	return s
}

func destination(d datapath.Destination) *ipvs.Destination {
	flags := uint32(ipvs.ConnectionFlagMasq)
	if d.Method == datapath.Tunnel {
		flags = ipvs.ConnectionFlagTunnel
	}
	return &ipvs.Destination{Address: net.IP(d.Addr.Addr().AsSlice()), Port: d.Addr.Port(), Weight: d.Weight, ConnectionFlags: flags}
}

// methodOf names the forwarding method; whatever we do not use is told apart by its number, so that it differs from what is wanted.
func methodOf(flags uint32) datapath.Method {
	switch f := flags & ipvs.ConnectionFlagFwdMask; f {
	case ipvs.ConnectionFlagMasq:
		return datapath.NAT
	case ipvs.ConnectionFlagTunnel:
		return datapath.Tunnel
	default:
		return datapath.Method(fmt.Sprintf("method %d", f))
	}
}

// probeServer is where Probe writes: the IPv4 dummy address of RFC 7600, the discard port.
func probeServer() datapath.VirtualServer {
	return datapath.VirtualServer{Listener: datapath.Listener{Addr: netip.MustParseAddrPort("192.0.0.8:9"), Protocol: lb.UDP}}
}

// Probe returns nil if the kernel has a working IPVS in this network namespace: it loads the module if it can, writes a throwaway
// virtual server, reads it back and deletes it.
func Probe(ctx context.Context) error {
	if err := load(ctx); err != nil {
		return err
	}
	var k kernel
	defer k.close()
	v := probeServer()
	if err := ignore(k.apply(ctx, datapath.Op{Verb: datapath.AddServer, Server: v}), unix.EEXIST); err != nil {
		return fmt.Errorf("writing a virtual server: %w", err)
	}
	if _, ok, err := k.service(ctx, &v); err != nil {
		return err
	} else if !ok {
		return errors.New("IPVS does not keep the virtual server that was written")
	}
	return k.apply(ctx, datapath.Op{Verb: datapath.DeleteServer, Server: v})
}

// Loaded reports whether the kernel has IPVS now. Other than [Probe] it neither loads the module nor writes anything.
func Loaded() bool {
	_, err := os.Stat("/proc/thread-self/net/ip_vs")
	return err == nil
}

// HasScheduler reports whether the kernel has a scheduler, or can load it. It writes a throwaway virtual server.
func HasScheduler(ctx context.Context, name string) (bool, error) {
	if err := load(ctx); err != nil {
		return false, err
	}
	var k kernel
	defer k.close()
	v := probeServer()
	v.Scheduler = name
	switch err := k.apply(ctx, datapath.Op{Verb: datapath.AddServer, Server: v}); {
	case errors.Is(err, unix.ENOENT):
		return false, nil
	case err != nil && !errors.Is(err, unix.EEXIST):
		return false, fmt.Errorf("writing a virtual server with scheduler %s: %w", name, err)
	}
	return true, k.apply(ctx, datapath.Op{Verb: datapath.DeleteServer, Server: v})
}

// load makes sure that the kernel knows IPVS, before the netlink library asks for it and remembers the answer forever.
func load(ctx context.Context) error {
	const family = "IPVS"
	if _, err := netlink.GenlFamilyGet(family); err == nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, "modprobe", "ip_vs").CombinedOutput()
	if _, again := netlink.GenlFamilyGet(family); again == nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the kernel has no IPVS, and loading module ip_vs did not help: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return errors.New("the kernel has no IPVS even after loading module ip_vs")
}
