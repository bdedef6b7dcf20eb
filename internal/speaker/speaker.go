package speaker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/runner"
	"github.com/fairlead-lb/fairlead/lb"
)

// FactSource is what the API server contributes. internal/kube's Reader is one.
type FactSource interface {
	// Facts returns everything as of now; until it knows something it waits, as long as ctx allows.
	Facts(ctx context.Context) (kube.Facts, error)
}

// Gossip is the speaker's place among the speakers; election/gossip is one.
type Gossip interface {
	SetSelf(lb.Member)
	Members() []lb.Member
	Rejoin() // look for lost members now
	// Known returns the addresses of the members and of those that were lost without a goodbye, this one's not included.
	Known() map[lb.NodeName]netip.Addr
	// UpToDate reports whether states were exchanged with another one after since, and all that they speak of are members here.
	UpToDate(since time.Time) bool
}

// LinkSource knows the links of this node; [Netlink] is one.
type LinkSource interface {
	Links() ([]lb.Link, error)
	// Watch calls changed after every change until ctx is done or watching fails.
	Watch(ctx context.Context, changed func()) error
}

// Announcer answers for the addresses of one family on the wire; announce/neighbour's Responder is one. Set replaces the whole set
// and returns what of it has been reached; an address that is left out is not answered for once Set has returned. Conflicts
// are the addresses that it does not announce because a station that is no speaker has them.
type Announcer interface {
	Set(map[netip.Addr]announce.Target) map[netip.Addr]announce.Target
	SetLinks([]lb.Link)
	Working() map[string]bool
	Conflicts() map[netip.Addr]lb.MAC
}

// Engine makes the kernel forward; datapath/engine opens one. It is called from one goroutine at a time.
type Engine interface {
	Name() string
	// Sync leads the kernel to want and returns what it holds then, also on error.
	Sync(ctx context.Context, want datapath.State, now time.Time) (reached datapath.State, err error)
}

// Recorder puts Events on Services and on BGPPeers. It must not block.
type Recorder interface {
	Event(svc lb.ServiceKey, warning bool, reason, message string)
	PeerEvent(peer string, warning bool, reason, message string)
}

// The reasons of the Events that this package records.
const (
	EventAnnouncing = "Announcing"      // this node announces an address of the Service from now on
	EventWithdrawn  = "Withdrawn"       // and no longer does
	EventConflict   = "AddressConflict" // a station that is no speaker uses the address

	EventConflictOver  = "AddressConflictOver" // and no longer does
	EventKernelAnswers = "KernelAnswers"       // this node's kernel answers for the address too, whoever owns it
)

// Options configures a [Speaker].
type Options struct {
	Node       lb.NodeName
	Facts      FactSource
	Gossip     Gossip
	Links      LinkSource
	Kernel     KernelSource // nil = whether the kernel answers itself is not looked at
	Announcer  Announcer    // of IPv4 addresses
	Announcer6 Announcer    // of IPv6 addresses; nil = none is announced
	Engine     Engine       // nil = announce only; somebody else forwards
	Heartbeat  Heartbeat    // nil = gossip alone notices who has died
	BGP        BGP          // nil = no peer is told anything

	HealthPorts HealthPorts  // nil = somebody else answers at health check node ports
	Rivals      RivalSource  // nil = there may be other proxies
	Tunnels     Tunnels      // nil = whether tunnelled packets reach other nodes is not tried
	Modules     ModuleSource // nil = the kernel is believed to have what direct server return needs
	Forwarder   Forwarder    // where Engine is nil: who forwards instead; nil = it is believed without being asked

	Reporter Reporter // nil = nobody is told how this speaker is
	Version  string   // of this program, for the Reporter

	Events     Recorder
	Log        *slog.Logger
	Registerer prometheus.Registerer

	// DrainTimeout bounds the handover at shutdown; default 5 s. The pod's grace period must be longer.
	DrainTimeout time.Duration

	// LeaveOnCordon has a cordoned node hand its addresses over, as far as others can take them. All speakers must agree.
	LeaveOnCordon bool

	// Forwarding is how the Engine forwards.
	Forwarding lb.Forwarding

	// Flows tells the open connections of what is forwarded, by everybody's listener and endpoint; nil = nobody does.
	Flows interface {
		Open(ctx context.Context, forwarded datapath.State) (map[datapath.Count]int, error)
	}
}

func (o Options) validate() (Options, error) {
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 5 * time.Second
	}
	switch {
	case o.Node == "":
		return o, errors.New("speaker: the node's name is missing")
	case o.Facts == nil || o.Gossip == nil || o.Links == nil || o.Announcer == nil || o.Events == nil || o.Log == nil || o.Registerer == nil:
		return o, errors.New("speaker: only Kernel, Announcer6, Engine, Heartbeat, BGP, HealthPorts, Rivals, Tunnels, Modules, Forwarder and Reporter may be nil")
	case o.Engine != nil && o.Forwarder != nil:
		return o, errors.New("speaker: Engine and Forwarder exclude each other")
	case o.DrainTimeout < 0:
		return o, errors.New("speaker: DrainTimeout is negative")
	}
	return o, nil
}

// The loops' pace. Steps are cheap and urgent: a takeover is at least two of them, one for this node's own suspicion and one for
// the other watcher's, and what they rest between is outage. The engine is called again even without news, to retire what has
// ended and to repair what others have undone: kube-proxy flushes IPVS when it starts, and nothing tells of that (facts 6 and 7).
const (
	stepRest   = 2 * time.Millisecond
	stepAnyway = 30 * time.Second
	syncRest   = 20 * time.Millisecond
	syncAnyway = time.Second
	syncRetry  = 10 * time.Second // at most, while the engine fails
	rewatch    = time.Second
)

// Speaker is the loop. Create it with [New].
type Speaker struct {
	o       Options
	metrics *metrics
	steps   *runner.Runner
	syncs   *runner.Runner
	reports *runner.Runner
	status  atomic.Pointer[Status]
	fence   fence
	beat    atomic.Int64 // when the last step ended, Unix nanoseconds
	changes changes

	linksChanged, tunnelsChanged, draining atomic.Bool

	upset atomic.Bool  // something else than the facts may have changed since the last step began
	heard atomic.Int64 // when the first news of the facts came that no step has read yet, Unix nanoseconds; 0 = there is none

	// The following belong to the goroutine of the steps.

	heardAt   int64 // what heard was when this step read new facts; 0 = it did not
	slight    bool  // those differ from the ones before in nothing but endpoints that no announcement heeds
	facts     kube.Facts
	haveFacts bool
	links     []lb.Link
	usable    []lb.Link            // the same, without those that cannot be announced on
	cameUp    map[string]time.Time // links that are not trusted yet; see trusted
	kernel    Kernel
	addrs     []netip.Addr // of this node, sorted
	ledger    *ledger
	steady    steadiness
	absence   absence
	relays    relays
	again     uint64 // how often everything was announced anew, because a node that was lost is back
	settling  settling
	wake      *time.Timer  // of the next step that time alone makes necessary; nil = none
	planned   *lb.Snapshot // by which the announcements were decided last; nil = they are to be decided anew
	plannedAt time.Time    // when that was
	wire      families
	announced map[netip.Addr][]string // what it reached in the last step, with the interfaces
	speech    speech
	checks    map[lb.ServiceKey]lb.HealthCheck // what the Forwarder answered as of this step
	decider   datapath.Decider
	ours      announceable
	traffic   traffic                   // what the engine counts, for whoever asks
	refused   map[datapath.Refused]bool // what of Services the datapath leaves out
	rivals    []string                  // what there is of another proxy
	tunnels   tunnels

	rivalsRead time.Time

	mu      sync.Mutex // guards the following, which the two loops exchange
	want    *goal
	report  report
	backlog backlog
	awaited bool                   // a health check node port waits for the datapath to forward
	macs    map[lb.MAC]lb.NodeName // of all speakers' links, also of those that are away

	strangers map[netip.Addr]stranger
}

// goal is what the datapath shall reach.
type goal struct {
	datapath.State
	ours []netip.Addr // the addresses that speakers announce, and tell each other about; sorted
}

// report is what the datapath reached; its fields are replaced, not written to.
type report struct {
	of         *goal
	ready      bool // the engine works
	worked     bool // it has tried at least once
	programmed map[netip.Addr]bool
	failing    []netip.Addr // wanted, tried, not reached; sorted
	reached    datapath.State
	err        error
}

// New returns a Speaker that does nothing yet.
func New(o Options) (*Speaker, error) {
	o, err := o.validate()
	if err != nil {
		return nil, err
	}
	s := &Speaker{o: o, ledger: newLedger(), cameUp: map[string]time.Time{}, steady: steadiness{}, absence: absence{}, relays: newRelays(), strangers: map[netip.Addr]stranger{},
		wire: families{o.Announcer, o.Announcer6}}
	s.report.ready = o.Engine == nil
	s.fence.beat = o.Heartbeat
	s.status.Store(&Status{Node: o.Node})
	s.metrics = newMetrics(o.Registerer, s)
	s.steps = runner.New(s.step, runner.Options{MinInterval: stepRest, MaxInterval: stepAnyway, RetryMax: stepAnyway})
	s.syncs = runner.New(s.sync, runner.Options{MinInterval: syncRest, MaxInterval: syncAnyway, RetryMax: syncRetry})
	s.reports = runner.New(s.publish, runner.Options{MinInterval: reportRest, MaxInterval: reportAnyway, RetryMin: reportRest, RetryMax: reportAnyway})
	s.heard.Store(time.Now().UnixNano())
	s.linksChanged.Store(true)
	return s, nil
}

// FactsChanged tells that [FactSource.Facts] has news. It does not block.
func (s *Speaker) FactsChanged() {
	s.heard.CompareAndSwap(0, time.Now().UnixNano())
	s.steps.Trigger()
}

// Trigger tells that the members, the announcer's sockets or the BGP sessions have changed. It does not block.
func (s *Speaker) Trigger() {
	s.upset.Store(true)
	s.steps.Trigger()
}

// Run works until ctx is done, then hands the addresses over and returns nil. The gossip and the announcer must outlive it.
func (s *Speaker) Run(ctx context.Context) error {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var group errgroup.Group // of functions that do not fail
	group.Go(func() error { return s.steps.Run(working) })
	group.Go(func() error { s.watchLinks(working); return nil })
	if s.o.Engine != nil {
		group.Go(func() error { return s.syncs.Run(working) })
	}
	if s.o.Reporter != nil {
		group.Go(func() error { return s.reports.Run(working) })
	}
	<-ctx.Done()
	s.drain()
	stop()
	err := group.Wait()
	s.farewell()
	s.wire.set(nil)
	if s.o.Reporter != nil {
		leave, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
		defer cancel()
		_ = s.publish(leave) // it logs itself
	}
	s.o.Gossip.SetSelf(lb.Member{Draining: true})
	return err
}

// drain waits until nothing is announced on the segment any more, or nobody can take the rest, or the time is up, and until the BGP
// peers have been asked for other paths and told that there are none here any more, as long as they shall be.
func (s *Speaker) drain() {
	start := time.Now()
	s.draining.Store(true)
	s.Trigger()
	for {
		time.Sleep(stepRest)
		st, took := s.status.Load(), time.Since(start)
		if took >= s.o.DrainTimeout && took >= st.DrainBy {
			break
		}
		handed := st.Draining && !st.awaitsTakers() || took >= s.o.DrainTimeout
		if told := st.Draining && st.drainedBGP() || took >= st.DrainBy; handed && told {
			break
		}
	}
	held := 0
	for _, d := range s.status.Load().Decisions {
		if d.Announce {
			held++
		}
	}
	s.o.Log.Info("speaker drained", "took", time.Since(start).Round(time.Millisecond), "addressesLeft", held)
}

// watchLinks has the steps look at the links whenever they change.
func (s *Speaker) watchLinks(ctx context.Context) {
	changed := func() {
		s.linksChanged.Store(true)
		s.Trigger()
	}
	for ctx.Err() == nil {
		start := time.Now()
		if err := s.o.Links.Watch(ctx, changed); err != nil {
			s.o.Log.Warn("link events lost", "err", err)
		}
		changed() // what we have missed
		select {
		case <-ctx.Done():
		case <-time.After(rewatch - time.Since(start)):
		}
	}
}
