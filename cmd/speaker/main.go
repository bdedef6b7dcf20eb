package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"

	"github.com/fairlead-lb/fairlead/announce/bgp/unnumbered"
	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/datapath/conntrack"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/datapath/tunnel/probe"
	"github.com/fairlead-lb/fairlead/election/gossip"
	"github.com/fairlead-lb/fairlead/election/heartbeat"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/healthnodeport"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/speaker"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "speaker:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "bgp" {
		return runBGP(ctx, args[1:])
	}
	c, err := parse(args)
	if err != nil || c.version {
		if err == nil {
			fmt.Println(version)
		}
		return err
	}
	collectEarly()
	log := newLogger(c)
	if c.cleanup {
		return engine.Cleanup(ctx, c.procSys)
	}
	cfg, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	cfg.UserAgent = "fairlead-speaker/" + version
	p, err := assemble(ctx, c, cfg, log)
	if err != nil {
		return err
	}
	log.Info("starting", "version", version, "node", c.node, "addr", c.nodeIP, "mode", c.mode)
	return p.run(ctx, c, log)
}

// process is everything that runs.
type process struct {
	cache    cache.Cache
	reader   *kube.Reader
	memory   *speaker.Memory
	keys     *speaker.Keys
	gossip   *gossip.Gossip
	beat     *heartbeat.Heartbeat // nil = none
	tunnels  *probe.Probe         // nil = nothing is forwarded here
	arp, ndp *neighbour.Responder
	speaker  *speaker.Speaker

	bgp         *unnumbered.Resolver    // nil = none
	healthPorts *healthnodeport.Servers // nil = kube-proxy answers there
	prober      *healthnodeport.Prober  // nil = nobody is asked

	settings []link.Sysctl // of the kernel, that the datapath needs

	registry *prometheus.Registry
	release  *kube.Release // nil = whether another process will follow this one is not known
}

// assemble puts the executors into the speaker. It waits for the gossip key, which the controller makes.
func assemble(ctx context.Context, c config, cfg *rest.Config, log *slog.Logger) (*process, error) {
	p := &process{registry: prometheus.NewRegistry()}
	live, err := kube.NewClient(cfg)
	if err != nil {
		return nil, err
	}
	p.memory = speaker.OpenMemory(c.stateDir, log)
	p.keys = speaker.NewKeys(p.memory, func(ctx context.Context) ([]keyring.Key, error) { return kube.GossipKeys(ctx, live, c.kube.Namespace) }, log, p.registry)
	keys, err := p.keys.First(ctx)
	if err != nil {
		return nil, err
	}
	if p.cache, err = kube.NewSpeakerCache(cfg, c.kube); err != nil {
		return nil, err
	}
	if c.daemonSet != "" {
		if p.release, err = kube.NewRelease(cfg, c.kube.Namespace, c.daemonSet); err != nil {
			return nil, err
		}
	}
	p.reader = kube.NewSpeakerReader(p.cache, c.kube)
	recorder, err := kube.NewRecorder(context.WithoutCancel(ctx), cfg, p.reader, "fairlead-speaker")
	if err != nil {
		return nil, err
	}
	port := uint16(c.gossipPort)
	trigger := func() { p.speaker.Trigger() } // nothing calls it before run
	if err := errors.Join(p.addHeartbeat(c, log, trigger), p.addTunnels(c, log)); err != nil {
		return nil, err
	}
	talk := gossip.Options{
		Node: c.node, Bind: netip.AddrPortFrom(c.nodeIP, port), Keys: keys, Log: log, Peers: peers(p.memory, p.reader, port), Changed: trigger,
		ProbeInterval: c.probeInterval, ProbeTimeout: c.probeTimeout, SuspicionMult: c.suspicionMult, MemberlistLog: memberlistLog(log),
		KeysInUse: p.useKeys,
	}
	if p.beat != nil {
		talk.Heard = p.beat.Hears
	}
	if p.gossip, err = gossip.New(talk); err != nil {
		return nil, err
	}
	if err := errors.Join(p.addResponders(log, trigger), p.addBGP(c, log, trigger), p.addHealth(c, recorder, log, trigger)); err != nil {
		return nil, err
	}
	datapath, err := p.openEngine(ctx, c, log)
	if err != nil {
		return nil, err
	}
	options := speaker.Options{Node: c.node, Facts: p.memory.Facts(p.reader), Gossip: p.gossip, Links: speaker.Netlink{}, Kernel: speaker.Netlink{},
		Announcer: p.arp, Announcer6: p.ndp, Engine: datapath, Flows: conntrack.New(), Events: recorder, Log: log, Registerer: p.registry, LeaveOnCordon: c.onCordon == "leave",
		Forwarding: c.forwarding, Reporter: kube.NewSpeakerStatusWriter(live, p.cache, c.node, c.kube), Version: version}
	if c.forwarding.Full {
		options.Rivals = speaker.Netlink{}
	}
	p.addOptional(&options)
	p.speaker, err = speaker.New(options)
	return p, err
}

// cleanupTimeout bounds the removal of everything by a pod that ends: its grace period is 30 s, and the addresses have been handed over before.
const cleanupTimeout = 10 * time.Second

// run works until ctx is done or something fails. The speaker stops first, while the others still carry its goodbye.
func (p *process) run(ctx context.Context, c config, log *slog.Logger) error {
	others, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, failing := errgroup.WithContext(ctx)
	clean := func(ctx context.Context) ([]string, error) { return engine.CleanupLeft(ctx, c.procSys) }
	if c.mode == "none" && !removeLeft(ctx, clean, log) { // before anything is announced
		g.Go(func() error { removeLater(failing, clean, log); return nil })
	}
	g.Go(func() error { defer stop(); return p.speaker.Run(failing) })
	g.Go(func() error { keepSettings(others, c.procSys, p.settings, log); return nil })
	g.Go(func() error { return p.memory.Run(others) })
	g.Go(func() error { return p.keys.Run(others, p.gossip.SetKeys) })
	g.Go(func() error { return p.gossip.Run(others) })
	if p.beat != nil {
		g.Go(func() error { return p.beat.Run(others) })
	}
	if p.bgp != nil {
		g.Go(func() error { return p.bgp.Run(others) })
	}
	if p.tunnels != nil {
		g.Go(func() error { return p.tunnels.Run(others) })
	}
	g.Go(func() error { return p.arp.Run(others) })
	g.Go(func() error { return p.ndp.Run(others) })
	if p.prober != nil {
		g.Go(func() error { return p.prober.Run(others) })
	}
	if p.healthPorts != nil {
		g.Go(func() error { return p.healthPorts.Run(others) })
		g.Go(func() error { return serveHealth(others, c.healthzAddr, p.speaker.HealthHandler(), log) })
	}
	g.Go(func() error { return p.cache.Start(others) })
	g.Go(func() error {
		if err := p.reader.Watch(others, p.cache, p.speaker.FactsChanged); err != nil {
			return ignore(others, err)
		}
		giveBack(others)
		return nil
	})
	g.Go(func() error { return serve(others, c.httpAddr, p.handler()) })
	g.Go(func() error { collectAhead(others); return nil })
	if p.release != nil {
		g.Go(func() error { return p.release.Run(others) })
	}
	if err := g.Wait(); err != nil || p.release == nil || !p.release.Gone() {
		return err
	}
	log.Info("uninstalled, removing everything from this node")
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	return engine.Cleanup(ctx, c.procSys)
}

// ignore drops errors that only say that the work has ended.
func ignore(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
