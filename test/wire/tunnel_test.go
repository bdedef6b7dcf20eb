//go:build wire

package wire

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/datapath/tunnel/probe"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/bed"
)

// proberOptions is what a process in the role prober is told in its argument.
type proberOptions struct {
	Node   lb.NodeName
	Peers  []tunnel.Peer
	Able   bool
	Pods   [2]netip.Addr // of this node, of each family
	Secret string        // 32 bytes
}

// heard is what it prints each time something has changed.
type heard struct {
	Ways    map[string]string // "node-2 IPv4" -> "passes/blocked": to the node's address, to its pod
	Dropped map[string]int    // by cause
}

// runProber is the role prober: asks and answers until SIGTERM.
func runProber(args []string) error {
	var o proberOptions
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	key, err := keyring.New([]byte(o.Secret))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	changed, registry := make(chan struct{}, 1), prometheus.NewRegistry()
	p, err := probe.New(probe.Options{Node: o.Node, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Registerer: registry,
		Changed: func() {
			select {
			case changed <- struct{}{}:
			default:
			}
		},
		Pods: func(f lb.Family) tunnel.Pods {
			if f == lb.IPv6 {
				return tunnel.Pods{o.Pods[1]}
			}
			return tunnel.Pods{o.Pods[0]}
		}})
	if err != nil {
		return err
	}
	p.SetKeys([]keyring.Key{key})
	p.Set(o.Peers, o.Able)
	go func() {
		for range changed {
			line, _ := json.Marshal(look(p, registry)) // maps of strings and numbers
			fmt.Println(string(line))
		}
	}()
	return p.Run(ctx)
}

// look returns what a probe knows.
func look(p *probe.Probe, registry *prometheus.Registry) heard {
	out := heard{Ways: map[string]string{}, Dropped: map[string]int{}}
	for _, r := range p.Results() {
		out.Ways[fmt.Sprint(r.Node, " ", lb.FamilyOf(r.Host))] = fmt.Sprintf("%s/%s", r.ToHost, r.ToPod)
	}
	families, _ := registry.Gather() // counters only
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == "fairlead_tunnel_probes_dropped_total" {
				out.Dropped[m.Label[0].GetValue()] = int(m.Counter.GetValue())
			}
		}
	}
	return out
}

// pods returns an address of node i's pods in each family.
func pods(i int) [2]netip.Addr {
	return [2]netip.Addr{netip.AddrFrom4([4]byte{10, 244, byte(i), 2}), netip.MustParseAddr(fmt.Sprintf("2001:db8:7:%d::2", i))}
}

// hosts returns the addresses of node i.
func hosts(i int) [2]netip.Addr { return [2]netip.Addr{bed.NodeAddr(i), bed.Host6(10 + i)} }

// peer is node j as node i sees it.
func peer(i, j int, asked bool) (out []tunnel.Peer) {
	for f := range 2 {
		out = append(out, tunnel.Peer{Node: bed.NodeName(j), Self: hosts(i)[f], Host: hosts(j)[f], Asked: asked})
	}
	return out
}

// The secrets of nodes that belong together, and of one that does not.
const (
	secret = "the shared secret of these nodes"
	madeUp = "what somebody else has made up.."
)

// TestTunnelsBetweenNodes: node 1 asks five nodes through tunnels of both families. Node 2 takes them, node 3's firewall drops them, node 4's drops
// those to pods, as a network policy does, node 5 cannot unpack them, and node 6, which asks too, has another key.
func TestTunnelsBetweenNodes(t *testing.T) {
	l := lan{LAN: bed.New(t), t: t}
	const all = 6
	for i := 1; i <= all; i++ {
		l.Boot(bed.NodeOptions{Number: i})
		l.catch(i)
	}
	l.nft(3, "meta l4proto { 4, 41 } drop")
	l.nft(4, "ip protocol 4 ip daddr 10.244.4.0/24 drop", "ip6 nexthdr 41 ip6 daddr 2001:db8:7:4::/64 drop")
	var peers []tunnel.Peer
	for i := 2; i <= all; i++ {
		l.ip(1, fmt.Sprintf("route add %s/32 via %s", pods(i)[0], hosts(i)[0]), fmt.Sprintf("route add %s/128 via %s", pods(i)[1], hosts(i)[1]))
		key := secret
		if i == all {
			key = madeUp
		}
		peers = append(peers, peer(1, i, true)...)
		l.prober(i, proberOptions{Node: bed.NodeName(i), Peers: peer(i, 1, i == all), Able: i != 5, Pods: pods(i), Secret: key})
	}
	l.ip(all, fmt.Sprintf("route add %s/32 via %s", pods(1)[0], hosts(1)[0]), fmt.Sprintf("route add %s/128 via %s", pods(1)[1], hosts(1)[1]))
	start := time.Now()
	lines := l.prober(1, proberOptions{Node: bed.NodeName(1), Peers: peers, Able: true, Pods: pods(1), Secret: secret})
	want := map[string]string{}
	for i, way := range map[int]string{2: "passes/passes", 3: "blocked/", 4: "passes/blocked", 5: "declined/declined", 6: "blocked/"} {
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			want[fmt.Sprint(bed.NodeName(i), " ", f)] = way
		}
	}
	l.Inside(2, func() error { // other tunnelled packets do not come as far as to be dropped
		for f, network := range []string{"ip4:4", "ip6:41"} {
			c, err := net.Dial(network, hosts(1)[f].String())
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write(make([]byte, tunnel.MaxSize)); err != nil {
				return err
			}
		}
		return nil
	})
	var last heard
	for limit := time.After(time.Minute); !maps.Equal(last.Ways, want); {
		select {
		case <-limit:
			t.Fatalf("after a minute node 1 knows %v, want %v", last.Ways, want)
		case last = <-lines:
		}
	}
	t.Logf("known after %s; dropped: %v", time.Since(start).Round(time.Millisecond), last.Dropped)
	if n := last.Dropped[string(tunnel.DropKey)] + last.Dropped[string(tunnel.DropSignature)]; n == 0 || len(last.Dropped) != 1 {
		t.Errorf("node 1 dropped %v; it should have dropped what node 6 has asked, and nothing else", last.Dropped)
	}
}

// catch has node i take tunnelled packets to its pods itself, as the datapath does.
func (l lan) catch(i int) {
	l.t.Helper()
	l.ip(i, "rule add ipproto 4 lookup 76", fmt.Sprintf("route add local %s/32 dev lo table 76", pods(i)[0]),
		"-6 rule add ipproto 41 lookup 76", fmt.Sprintf("-6 route add local %s/128 dev lo table 76", pods(i)[1]))
}

// nft adds rules to node i's firewall.
func (l lan) nft(i int, rules ...string) {
	l.t.Helper()
	l.command(i, "nft", "table inet firewall { chain in { type filter hook input priority 0\n"+strings.Join(rules, "\n")+"\n}; }")
}

// prober starts one on node i, and returns what it prints.
func (l lan) prober(i int, o proberOptions) <-chan heard {
	l.t.Helper()
	text, err := json.Marshal(o)
	check(l.t, err)
	cmd := bed.Again("prober", string(text))
	cmd.Stdout = nil
	out, err := cmd.StdoutPipe()
	check(l.t, err)
	l.Inside(i, cmd.Start)
	lines := make(chan heard, 1000)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(out); s.Scan(); {
			var h heard
			if err := json.NewDecoder(bytes.NewReader(s.Bytes())).Decode(&h); err == nil {
				lines <- h
			}
		}
	}()
	l.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		<-ended
		if err := cmd.Wait(); err != nil {
			l.t.Errorf("prober of node %d: %v", i, err)
		}
	})
	return lines
}
