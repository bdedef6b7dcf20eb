package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/election/keyring"
	"github.com/fairlead-lb/fairlead/lb"
)

// Options configures a [Gossip].
type Options struct {
	Node lb.NodeName    // this member's name
	Bind netip.AddrPort // where to listen, TCP and UDP, and what the others are told
	Log  *slog.Logger

	// Keys is what [Gossip.SetKeys] takes, at the start.
	Keys []keyring.Key

	// KeysInUse, if not nil, is called with the keys in the order in which they are to be used, the one to send with first,
	// when Run starts and after every change. It must not block, nor call the Gossip.
	KeysInUse func([]keyring.Key)

	// Peers returns the addresses where speakers may be found, this one's included or not. It is asked again for as long as
	// Run runs; what it returns beside an error is tried too, and so are the peers known from earlier.
	Peers func(context.Context) ([]netip.AddrPort, error)

	// Heard, if not nil, reports whether a node is heard by other means than gossip: then it is a member, also if gossip takes it
	// for dead. It must not block, nor call the Gossip.
	Heard func(lb.NodeName) bool

	// Changed is called when the members or what they say have changed. It must not block.
	Changed func()

	ProbeInterval time.Duration // how often a member probes another; default 200 ms
	ProbeTimeout  time.Duration // how long it waits for the answer; default 80 ms; at most 0.4 x ProbeInterval
	SuspicionMult int           // how many intervals a suspect has to speak up, times log10 of the members; default 3

	// SettleTimeout is how long a new member waits for one of its peers before it believes that it is alone; default 5 s.
	SettleTimeout time.Duration

	MemberlistLog io.Writer            // memberlist's own log lines, at most 20 in a second; nil = discarded
	Transport     memberlist.Transport // nil = TCP and UDP on Bind; simulations bring their own
}

// maxTimeoutShare: an indirect prober answers 2 x ProbeTimeout after it was asked. If that is not well within the interval,
// its word comes too late and the asking member takes itself for the slow one, which makes it eight times slower.
const maxTimeoutShare = 0.4

func (o Options) validate() (Options, error) {
	if o.ProbeInterval == 0 {
		o.ProbeInterval = 200 * time.Millisecond
	}
	if o.ProbeTimeout == 0 {
		o.ProbeTimeout = time.Duration(maxTimeoutShare * float64(o.ProbeInterval))
	}
	if o.SuspicionMult == 0 {
		o.SuspicionMult = 3
	}
	if o.SettleTimeout == 0 {
		o.SettleTimeout = 5 * time.Second
	}
	if o.Heard == nil {
		o.Heard = func(lb.NodeName) bool { return false }
	}
	if o.KeysInUse == nil {
		o.KeysInUse = func([]keyring.Key) {}
	}
	if o.MemberlistLog == nil {
		o.MemberlistLog = io.Discard
	}
	switch {
	case o.Node == "" || len(o.Node) > maxName:
		return o, fmt.Errorf("gossip: node name %q is not 1 to %d bytes long", o.Node, maxName)
	case !o.Bind.IsValid() || o.Bind.Port() == 0:
		return o, fmt.Errorf("gossip: %s is no address and port to bind", o.Bind)
	case len(o.Keys) == 0:
		return o, errors.New("gossip: there is no key")
	case o.Log == nil || o.Peers == nil || o.Changed == nil:
		return o, errors.New("gossip: Log, Peers and Changed are required")
	case o.ProbeInterval < 20*time.Millisecond || o.ProbeTimeout <= 0:
		return o, errors.New("gossip: the probe interval is below 20 ms or the probe timeout is negative")
	case float64(o.ProbeTimeout) > maxTimeoutShare*float64(o.ProbeInterval):
		return o, fmt.Errorf("gossip: probe timeout %s is more than %g x the probe interval %s", o.ProbeTimeout, maxTimeoutShare, o.ProbeInterval)
	case o.SuspicionMult < 1:
		return o, fmt.Errorf("gossip: suspicion multiplier %d is below 1", o.SuspicionMult)
	}
	return o, nil
}

// config translates the options for memberlist.
func (o Options) config(ring *memberlist.Keyring, transport memberlist.Transport, lines io.Writer) *memberlist.Config {
	c := memberlist.DefaultLANConfig()
	c.Name = string(o.Node)
	c.BindAddr, c.BindPort = o.Bind.Addr().String(), int(o.Bind.Port())
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.Keyring = ring
	c.ProbeInterval, c.ProbeTimeout = o.ProbeInterval, o.ProbeTimeout
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = o.SuspicionMult, 2
	c.GossipInterval = o.ProbeInterval / 2
	c.PushPullInterval = 15 * time.Second
	c.TCPTimeout = 2 * time.Second
	c.EnableCompression = false // records are packed, and it would cost more than it saves
	c.DisableTcpPings = true    // a proxy or a service mesh on the way would answer for a dead member
	c.DeadNodeReclaimTime = 5 * time.Second
	c.LogOutput = lines
	c.Transport = transport
	return c
}
