//go:build wire

package wire

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/election/gossip"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/lb"
)

// The segment: the client is .100, node i is .10+i, the addresses under test are .200 to .205.
const (
	prefixLen = 24
	nodes     = 3
	vips      = 6
)

func host(last int) netip.Addr   { return netip.AddrFrom4([4]byte{192, 0, 2, byte(last)}) }
func nodeAddr(i int) netip.Addr  { return host(10 + i) }
func vip(i int) netip.Addr       { return host(200 + i) }
func nodeName(i int) lb.NodeName { return lb.NodeName(fmt.Sprintf("node-%d", i)) }

// facts is what the API server would say: one Service per address, endpoints everywhere, no restriction.
type facts struct{}

// Facts implements speaker.FactSource.
func (facts) Facts(context.Context) (kube.Facts, error) {
	f := kube.Facts{Endpoints: map[lb.ServiceKey][]lb.Endpoint{}, Nodes: map[lb.NodeName]lb.Node{}, L2: []lb.L2Advertisement{{Name: "all"}}}
	for i := 1; i <= nodes; i++ {
		f.Nodes[nodeName(i)] = lb.Node{Name: nodeName(i)}
	}
	for i := range vips {
		key := lb.ServiceKey{Namespace: "default", Name: fmt.Sprintf("svc-%d", i)}
		f.Services = append(f.Services, lb.Service{Key: key, Ports: []lb.Port{{Protocol: lb.TCP, Port: 80}}, ExternalTrafficPolicy: lb.Cluster,
			Ingress: []lb.Ingress{{Addr: vip(i), Mode: lb.ModeVIP}}})
		f.Endpoints[key] = []lb.Endpoint{{Protocol: lb.TCP, Addr: netip.MustParseAddrPort("10.244.1.2:80"), Node: "node-1", Ready: true, Serving: true}}
	}
	return f, nil
}

// silent records no Events.
type silent struct{}

// Event implements speaker.Recorder.
func (silent) Event(lb.ServiceKey, bool, string, string) {}

// runNode is a speaker: the first argument is its number. The test has put it into a network namespace and moves eth0 there.
func runNode(args []string) error {
	i, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	if err := configure(nodeAddr(i), "eth0"); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("FAIRLEAD_WIRE_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", i)
	}
	var s *speaker.Speaker
	trigger := func() { s.Trigger() }
	g, err := gossip.New(gossip.Options{Node: nodeName(i), Bind: netip.AddrPortFrom(nodeAddr(i), 7947), Key: bytes.Repeat([]byte{1}, gossip.KeySize),
		Log: log, Changed: trigger, MemberlistLog: io.Discard, Peers: func(context.Context) (out []netip.AddrPort, err error) {
			for j := 1; j <= nodes; j++ {
				out = append(out, netip.AddrPortFrom(nodeAddr(j), 7947))
			}
			return out, nil
		}})
	if err != nil {
		return err
	}
	a, err := arp.New(arp.Options{Log: log, Registerer: prometheus.NewRegistry(), Changed: trigger,
		Conflict: func(c arp.Conflict) { s.Conflict(c.Addr, c.Interface, c.MAC) }})
	if err != nil {
		return err
	}
	s, err = speaker.New(speaker.Options{Node: nodeName(i), Facts: facts{}, Gossip: g, Links: speaker.Netlink{}, Announcer: a,
		Events: silent{}, Log: log, Registerer: prometheus.NewRegistry()})
	if err != nil {
		return err
	}
	others, stopOthers := context.WithCancel(context.Background())
	defer stopOthers()
	group, failing := errgroup.WithContext(ctx)
	group.Go(func() error { defer stopOthers(); return s.Run(failing) })
	group.Go(func() error { return g.Run(others) })
	group.Go(func() error { return a.Run(others) })
	return group.Wait()
}

// configure waits for a link and gives it its address.
func configure(addr netip.Addr, name string) error {
	var link netlink.Link
	var err error
	for range 500 {
		if link, err = netlink.LinkByName(name); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", addr, prefixLen))
	if err != nil {
		return err
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return fmt.Errorf("giving %s to %s: %w", addr, name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("setting %s up: %w", name, err)
	}
	return nil
}
