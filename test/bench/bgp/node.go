package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/liveness"
	"github.com/fairlead-lb/fairlead/announce/bgp/process"
	"github.com/fairlead-lb/fairlead/lb"
)

// nodeOptions is what a process in the role bgpnode is told in its argument.
type nodeOptions struct {
	Number int
	BFD    bool
	Paths  int // that it announces: from 203.0.113.1 on
}

// first is the first address that the nodes announce.
var first = netip.MustParseAddr("203.0.113.1")

func nodeAddr(i int) netip.Addr   { return netip.AddrFrom4([4]byte{10, 0, byte(i), 2}) }
func routerAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, byte(i), 1}) }

// state is what the node says by BGP.
func (o nodeOptions) state() bgp.State {
	p := bgp.Peer{Name: "router", Addr: routerAddr(o.Number), Port: 179, MyASN: 64512, PeerASN: 64513, RouterID: nodeAddr(o.Number), HoldTime: 9 * time.Second,
		Keepalive: 3 * time.Second, ConnectRetry: time.Second, Families: []lb.Family{lb.IPv4}, GracefulRestart: true, RestartTime: time.Minute}
	if o.BFD {
		p.BFD = &bgp.BFD{Receive: 50 * time.Millisecond, Transmit: 50 * time.Millisecond, Multiplier: 3}
	}
	for addr := first; len(p.Paths) < o.Paths; addr = addr.Next() {
		p.Paths = append(p.Paths, bgp.Path{Prefix: netip.PrefixFrom(addr, 32)})
	}
	return bgp.State{Peers: []bgp.Peer{p}, Complete: true, Preserved: true, Seq: 1}
}

// runNode is the role bgpnode: the server behind the address, the sessions and the speaker's end of them, until it is killed. SIGUSR1 has
// it withdraw everything.
func runNode(args []string) error {
	var o nodeOptions
	if err := json.Unmarshal([]byte(args[0]), &o); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("/tmp", "bgp")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	log := slog.New(slog.DiscardHandler)
	path := filepath.Join(dir, "bgp.sock")
	client, err := process.NewClient(process.ClientOptions{Path: path, Log: log, Changed: func() {}})
	if err != nil {
		return err
	}
	w, err := liveness.New(liveness.Options{Sessions: client, Log: log, Registerer: prometheus.NewRegistry(), Changed: func() {}, Realtime: true})
	if err != nil {
		return err
	}
	w.Set(o.state())
	g, ctx := errgroup.WithContext(context.Background())
	g.Go(func() error { return process.Serve(ctx, process.Options{Path: path, Log: log}) })
	g.Go(func() error { return w.Run(ctx) })
	g.Go(func() error { return answer(o.Number) })
	g.Go(func() error {
		usr := make(chan os.Signal, 1)
		signal.Notify(usr, syscall.SIGUSR1)
		<-usr
		none := o
		none.Paths = 0
		s := none.state()
		s.Seq = 2
		w.Set(s)
		return nil
	})
	return g.Wait()
}

// answer takes connections for the first address.
func answer(number int) error {
	l, err := net.Listen("tcp4", ":80")
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		fmt.Fprintln(conn, number)
		conn.Close()
	}
}
