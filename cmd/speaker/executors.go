package main

import (
	"log/slog"

	"github.com/fairlead-lb/fairlead/announce/arp"
	"github.com/fairlead-lb/fairlead/announce/ndp"
	"github.com/fairlead-lb/fairlead/announce/neighbour"
	"github.com/fairlead-lb/fairlead/election/heartbeat"
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
