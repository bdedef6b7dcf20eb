package unnumbered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce/bgp"
)

const (
	soon   = time.Second      // between two advertisements while no peer is known, and of the first few: the other end wants to know us too
	few    = 5                // such
	later  = 10 * time.Second // between two others
	forget = 35 * time.Second // a peer that has not advertised itself for that long may be replaced by another
)

// Sessions is what runs the BGP sessions.
type Sessions interface {
	Set(bgp.State)
	Report() bgp.Report
	Run(context.Context) error
}

// Resolver is [Sessions] whose peers may be given by their interface alone. Its methods are safe for concurrent use.
type Resolver struct {
	next Sessions
	log  *slog.Logger
	wake chan struct{}

	mu    sync.Mutex
	want  bgp.State
	set   bool
	known map[string]found // by interface
}

// found is a peer that has advertised itself.
type found struct {
	addr  netip.Addr
	heard time.Time
}

// New returns a Resolver in front of what runs the sessions.
func New(next Sessions, log *slog.Logger) *Resolver {
	return &Resolver{next: next, log: log, wake: make(chan struct{}, 1), known: map[string]found{}}
}

// Set says what is wanted from now on. It does not block.
func (r *Resolver) Set(s bgp.State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.want, r.set = s, true
	wanted := r.interfaces()
	for name := range r.known {
		if !slices.Contains(wanted, name) {
			delete(r.known, name)
		}
	}
	r.pass()
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// interfaces returns those of unnumbered peers. The caller holds the lock.
func (r *Resolver) interfaces() (out []string) {
	for _, p := range r.want.Peers {
		if !p.Addr.IsValid() && p.Interface != "" {
			out = append(out, p.Interface)
		}
	}
	return out
}

// pass hands on what is wanted, with the addresses that are known. The caller holds the lock.
func (r *Resolver) pass() {
	if !r.set {
		return
	}
	s := r.want
	s.Peers = slices.Clone(s.Peers)
	for i, p := range s.Peers {
		if f, ok := r.known[p.Interface]; ok && !p.Addr.IsValid() {
			s.Peers[i].Addr = f.addr.WithZone(p.Interface)
		}
	}
	r.next.Set(s)
}

// Report returns how the sessions are.
func (r *Resolver) Report() bgp.Report { return r.next.Report() }

// Run works until ctx is done. A failure to advertise is logged and tried again: numbered peers do not depend on it.
func (r *Resolver) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.next.Run(ctx) })
	g.Go(func() error {
		for ctx.Err() == nil {
			if err := r.work(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("unnumbered peers cannot be looked for", "err", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(later):
			}
		}
		return nil
	})
	return g.Wait()
}

// work waits until there is an unnumbered peer, and then advertises and listens until that fails.
func (r *Resolver) work(ctx context.Context) error {
	for !r.needed() {
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		}
	}
	conn, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return fmt.Errorf("opening a socket for router advertisements: %w", err)
	}
	defer conn.Close()
	p := ipv6.NewPacketConn(conn)
	var only ipv6.ICMPFilter
	only.SetAll(true)
	only.Accept(ipv6.ICMPTypeRouterAdvertisement)
	if err := errors.Join(p.SetICMPFilter(&only), p.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true), p.SetMulticastHopLimit(hopLimit)); err != nil {
		return fmt.Errorf("preparing a socket for router advertisements: %w", err)
	}
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	g.Go(func() error { return r.listen(ctx, p) })
	g.Go(func() error { return r.advertise(ctx, p) })
	return g.Wait()
}

func (r *Resolver) needed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.interfaces()) > 0
}

// advertise tells the links of unnumbered peers who we are, and asks who is there.
func (r *Resolver) advertise(ctx context.Context, p *ipv6.PacketConn) error {
	for round := 0; ; round++ {
		r.mu.Lock()
		names, unknown := r.interfaces(), map[string]bool{}
		for _, name := range names {
			_, ok := r.known[name]
			unknown[name] = !ok
		}
		r.mu.Unlock()
		pause := later
		if round < few {
			pause = soon
		}
		for _, name := range names {
			link, err := net.InterfaceByName(name)
			if err != nil {
				continue // it may come; until then the peer is refused for what it is
			}
			send(p, link, advertise(link.HardwareAddr), allNodes)
			if unknown[name] {
				send(p, link, solicit(link.HardwareAddr), allRouters)
				pause = soon
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wake:
			round = -1
		case <-time.After(pause):
		}
	}
}

// send sends one packet; what is lost is sent again anyway.
func send(p *ipv6.PacketConn, link *net.Interface, packet []byte, to netip.Addr) {
	_, _ = p.WriteTo(packet, &ipv6.ControlMessage{HopLimit: hopLimit, IfIndex: link.Index}, &net.IPAddr{IP: to.AsSlice(), Zone: strconv.Itoa(link.Index)}) // by its number: package net remembers names for a minute
}

// listen takes advertisements until the socket fails or is closed.
func (r *Resolver) listen(ctx context.Context, p *ipv6.PacketConn) error {
	buf := make([]byte, 1500)
	for {
		n, control, from, err := p.ReadFrom(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("listening for router advertisements: %w", err)
		}
		at, ok := from.(*net.IPAddr)
		if !ok || control == nil {
			continue
		}
		addr, _ := netip.AddrFromSlice(at.IP) // of an IPv6 socket
		link, err := net.InterfaceByIndex(control.IfIndex)
		if err != nil {
			continue
		}
		if addr, ok := advertiser(buf[:n], addr, control.HopLimit); ok {
			r.heard(link.Name, addr, time.Now())
		}
	}
}

// heard takes note of who advertises itself on an interface.
func (r *Resolver) heard(name string, addr netip.Addr, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.interfaces(), name) {
		return
	}
	f, ok := r.known[name]
	if ok && f.addr != addr && now.Sub(f.heard) < forget {
		return
	}
	r.known[name] = found{addr, now}
	if f.addr != addr {
		r.log.Info("unnumbered peer found", "iface", name, "addr", addr)
		r.pass()
	}
}
