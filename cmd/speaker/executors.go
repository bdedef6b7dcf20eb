package main

import (
	"log/slog"
	"time"

	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/announce/bgp/liveness"
	bgpprocess "github.com/fairlead-lb/fairlead/announce/bgp/process"
	"github.com/fairlead-lb/fairlead/announce/bgp/unnumbered"
	"github.com/fairlead-lb/fairlead/announce/ndp"
	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/tunnel"
	"github.com/fairlead-lb/fairlead/datapath/tunnel/probe"
	"github.com/fairlead-lb/fairlead/election/heartbeat"
	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/healthnodeport"
	"github.com/fairlead-lb/fairlead/internal/speaker"
	"github.com/fairlead-lb/fairlead/lb"
)

// addHeartbeat makes the fast detector, unless it is switched off. It gets its keys from the gossip.
func (p *process) addHeartbeat(c config, log *slog.Logger, changed func()) (err error) {
	if c.heartbeatInterval == 0 {
		return nil
	}
	p.beat, err = heartbeat.New(heartbeat.Options{Addr: c.nodeIP, Port: uint16(c.heartbeatPort), Interval: c.heartbeatInterval, Multiplier: uint8(c.heartbeatMultiplier),
		Realtime: c.realtime, Log: log, Registerer: p.registry, Changed: changed, Met: func() { p.gossip.Rejoin() }})
	return err
}

// addTunnels makes what tries the tunnels of direct server return, where we forward. It gets its keys from the gossip, too.
func (p *process) addTunnels(c config, log *slog.Logger) (err error) {
	if c.mode == "none" {
		return nil
	}
	p.tunnels, err = probe.New(probe.Options{Node: c.node, Log: log, Registerer: p.registry, Changed: func() { p.speaker.TunnelsChanged() },
		Pods: func(f lb.Family) tunnel.Pods { return p.speaker.TunnelledPods(f) }})
	return err
}

// useKeys gives the gossip's keys to those whose keys are made of them.
func (p *process) useKeys(keys []keyring.Key) {
	if p.beat != nil {
		p.beat.SetKeys(keys)
	}
	if p.tunnels != nil {
		p.tunnels.SetKeys(keys)
	}
}

// addBGP makes the other end of "speaker bgp", the BFD that watches the routers, and what finds those without an address, unless there
// is no BGP here.
func (p *process) addBGP(c config, log *slog.Logger, changed func()) error {
	if c.bgpSocket == "" {
		return nil
	}
	client, err := bgpprocess.NewClient(bgpprocess.ClientOptions{Path: c.bgpSocket, Log: log, Changed: changed})
	if err != nil {
		return err
	}
	watch, err := liveness.New(liveness.Options{Sessions: client, Log: log, Registerer: p.registry, Changed: changed, Realtime: c.realtime})
	p.bgp = unnumbered.New(watch, log)
	return err
}

// addHealth makes what stands at the health check node ports: in mode full this process answers there, in mode none it asks whoever
// forwards, and in mode external both is kube-proxy's and the clouds' business.
func (p *process) addHealth(c config, to speaker.Recorder, log *slog.Logger, changed func()) (err error) {
	switch c.mode {
	case "full":
		p.healthPorts, err = healthnodeport.NewServers(healthnodeport.ServerOptions{Log: log, Failed: speaker.EventHealthPort(to),
			Healthy: func() bool { return p.speaker.Healthy(time.Now()) }})
	case "none":
		p.prober = healthnodeport.NewProber(c.nodeIP, changed)
	}
	return err
}

// addOptional puts those executors into the options that are not everywhere: a nil pointer in an interface is no nil.
func (p *process) addOptional(o *speaker.Options) {
	if p.beat != nil {
		o.Heartbeat = p.beat
	}
	if p.tunnels != nil {
		o.Tunnels, o.Modules = p.tunnels, engine.Modules{}
	}
	if p.bgp != nil {
		o.BGP = p.bgp
	}
	if p.healthPorts != nil {
		o.HealthPorts = p.healthPorts
	}
	if p.prober != nil {
		o.Forwarder = p.prober
	}
}

// addResponders makes what answers on the wire.
func (p *process) addResponders(log *slog.Logger, changed func()) (err error) {
	o := neighbour.Options{Log: log, Registerer: p.registry, Changed: changed,
		Speaker:   func(mac lb.MAC) bool { return p.speaker.IsSpeaker(mac) },
		MayAnswer: func() bool { return p.speaker.MayAnswer() },
		Conflict:  func(x neighbour.Conflict) { p.speaker.Conflict(x.Addr, x.Interface, x.MAC) }}
	if p.arp, err = arp.New(o); err != nil {
		return err
	}
	p.ndp, err = ndp.New(o)
	return err
}
