package bed

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/announce/ndp"
	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/election/gossip"
	"github.com/fairlead-lb/fairlead/election/heartbeat"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/lb"
)

const (
	gossipPort    = 7947
	heartbeatPort = 7948
)

// runNode is a speaker, in the network namespace of its node. It ends at SIGTERM, after a handover.
func runNode(o NodeOptions) error {
	if o.CPU != "" {
		if err := os.WriteFile(filepath.Join(o.CPU, "cgroup.procs"), []byte("0"), 0); err != nil {
			return fmt.Errorf("joining the cgroup: %w", err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log := slog.New(slog.DiscardHandler)
	if os.Getenv("FAIRLEAD_WIRE_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", o.Number)
	}
	registry := prometheus.NewRegistry()
	s, tasks, err := assemble(ctx, o, log, registry)
	if err != nil {
		return err
	}
	pages := http.NewServeMux()
	pages.Handle("/", s.Handler())
	pages.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	others, stopOthers := context.WithCancel(context.Background())
	defer stopOthers()
	group, failing := errgroup.WithContext(ctx)
	group.Go(func() error { defer stopOthers(); return s.Run(failing) })
	group.Go(func() error { return serveStatus(others, o.Number, pages) })
	for _, run := range tasks {
		group.Go(func() error { return run(others) })
	}
	return group.Wait()
}

// assemble returns the speaker, and what has to run beside it.
func assemble(ctx context.Context, o NodeOptions, log *slog.Logger, registry *prometheus.Registry) (s *speaker.Speaker, tasks []func(context.Context) error, err error) {
	trigger := func() { s.Trigger() }
	g, beat, err := newDetectors(o, log, registry, trigger)
	if err != nil {
		return nil, nil, err
	}
	responder := neighbour.Options{Log: log, Registerer: registry, Changed: trigger,
		Speaker:   func(mac lb.MAC) bool { return s.IsSpeaker(mac) },
		MayAnswer: func() bool { return s.MayAnswer() },
		Conflict:  func(c neighbour.Conflict) { s.Conflict(c.Addr, c.Interface, c.MAC) }}
	four, err := arp.New(responder)
	if err != nil {
		return nil, nil, err
	}
	six, err := ndp.New(responder)
	if err != nil {
		return nil, nil, err
	}
	options := speaker.Options{Node: NodeName(o.Number), Facts: o, Gossip: g, Links: speaker.Netlink{Buffer: o.EventBuffer}, Announcer: four, Announcer6: six,
		Events: silent{}, Log: log, Registerer: registry}
	if options.Engine, err = o.engine(ctx); err != nil {
		return nil, nil, err
	}
	tasks = append(tasks, g.Run, four.Run, six.Run)
	if beat != nil {
		options.Heartbeat, tasks = beat, append(tasks, beat.Run)
	}
	s, err = speaker.New(options)
	return s, tasks, err
}

// key is what the bed's speakers share.
func key() keyring.Key { return keyring.Key{ID: 1, Secret: [keyring.Size]byte{1}} }

// newDetectors returns the gossip, and the heartbeat unless the node is to have none.
func newDetectors(o NodeOptions, log *slog.Logger, registry *prometheus.Registry, changed func()) (g *gossip.Gossip, beat *heartbeat.Heartbeat, err error) {
	talk := gossip.Options{Node: NodeName(o.Number), Bind: netip.AddrPortFrom(o.gossipAddr(o.Number), gossipPort),
		Keys: []keyring.Key{key()}, Log: log, Changed: changed, MemberlistLog: io.Discard,
		Peers: func(context.Context) (out []netip.AddrPort, err error) {
			for _, j := range o.Peers {
				out = append(out, netip.AddrPortFrom(o.gossipAddr(j), gossipPort))
			}
			return out, nil
		}}
	if o.Heartbeat > 0 {
		beat, err = heartbeat.New(heartbeat.Options{Addr: o.gossipAddr(o.Number), Port: heartbeatPort, Interval: o.Heartbeat, Realtime: true,
			Log: log, Registerer: registry, Changed: changed, Met: func() { g.Rejoin() }})
		if err != nil {
			return nil, nil, err
		}
		talk.KeysInUse, talk.Heard = beat.SetKeys, beat.Hears
	}
	g, err = gossip.New(talk)
	return g, beat, err
}

// engine opens the datapath engine, if the node has one; nft, which every kernel has.
func (o NodeOptions) engine(ctx context.Context) (speaker.Engine, error) {
	if o.Backend == 0 {
		return nil, nil
	}
	c, err := engine.Open(ctx, engine.Options{Name: engine.NFT, ProcSys: link.ProcSys})
	return c.Engine, err
}

// statusSocket is where the speaker of node i serves its debug pages: beside the network, so that looking does not disturb.
func statusSocket(i int) string { return fmt.Sprintf("/run/%s.sock", NodeName(i)) }

func serveStatus(ctx context.Context, i int, h http.Handler) error {
	_ = os.Remove(statusSocket(i)) // a killed predecessor's
	l, err := net.Listen("unix", statusSocket(i))
	if err != nil {
		return fmt.Errorf("opening the status socket: %w", err)
	}
	srv := &http.Server{Handler: h}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the status: %w", err)
	}
	return nil
}
