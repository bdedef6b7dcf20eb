package speaker

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/healthnodeport"
	"github.com/fairlead-lb/fairlead/lb"
)

// HealthPorts answers at health check node ports; healthnodeport's Servers do.
type HealthPorts interface {
	Set(map[healthnodeport.Key]healthnodeport.Check)
}

// Forwarder knows what whoever forwards here answers at health check node ports; healthnodeport's Prober is one. Set replaces the ports
// to ask at; Answers must not be written to.
type Forwarder interface {
	Set(map[lb.ServiceKey]uint16)
	Answers() map[lb.ServiceKey]lb.HealthCheck
}

// shareHealth has the node's health check node ports answered, or asked, as the snapshot says.
func (s *Speaker) shareHealth(snap lb.Snapshot) {
	if !s.haveFacts {
		return
	}
	if s.o.HealthPorts != nil {
		s.o.HealthPorts.Set(s.healthChecks(snap))
	}
	if s.o.Forwarder != nil {
		s.o.Forwarder.Set(announce.HealthPorts(snap))
	}
}

// healthChecks returns what the health check node ports shall answer, by what the datapath has reached. A speaker that has begun anew does
// not know what the kernel forwards, until its first sync is through.
func (s *Speaker) healthChecks(snap lb.Snapshot) map[healthnodeport.Key]healthnodeport.Check {
	s.mu.Lock()
	reached := s.report.reached
	s.awaited = true // what is reached while we look may be what is missed
	s.mu.Unlock()
	missed := false
	out := healthnodeport.Desired(snap, datapath.NodePortsOnly(snap), func(svc *lb.Service, family lb.Family) bool {
		ok := reached.ServesOutside(svc, family, snap.Addrs)
		missed = missed || !ok
		return ok
	})
	s.mu.Lock()
	s.awaited = missed
	s.mu.Unlock()
	return out
}

// EventHealthPort returns what tells Service owners that a health check node port could not be opened.
func EventHealthPort(to Recorder) func(healthnodeport.Key, lb.Refusal) {
	return func(key healthnodeport.Key, r lb.Refusal) { to.Event(key.Service, true, string(r.Reason), r.Message) }
}

const (
	// stuckAfter is how long without a step until the loop counts as stuck.
	stuckAfter = 2 * stepAnyway
	// lateAfter is how long a change may wait for the datapath until the node counts as unhealthy: twice kube-proxy's sync period.
	lateAfter = time.Minute
)

// health is what /healthz and /livez answer in kube-proxy's words (H9, H10), so that whoever asks kube-proxy may ask us.
type health struct {
	LastUpdated  time.Time                 `json:"lastUpdated"`
	CurrentTime  time.Time                 `json:"currentTime"`
	NodeEligible *bool                     `json:"nodeEligible,omitempty"` // only /healthz says it
	Healthy      bool                      `json:"healthy"`
	Status       map[string]healthOfFamily `json:"status"` // one datapath serves both families
}

type healthOfFamily struct {
	LastUpdated time.Time `json:"lastUpdated"`
	Healthy     bool      `json:"healthy"`
}

// backlog is what waits for the datapath.
type backlog struct {
	changes uint64    // how often there was a new goal
	since   time.Time // the oldest goal that was not reached; zero = none waits
	updated time.Time // when a goal was last reached
}

// add notes a new goal, which is due since a point in time.
func (b *backlog) add(since time.Time) {
	b.changes++
	if b.since.IsZero() {
		b.since = since
	}
}

// reached notes that the datapath works and holds the goal as it was at start, when the backlog was begun. It returns how long the
// oldest change has waited, and whether any did.
func (b *backlog) reached(begun backlog, start, now time.Time) (waited time.Duration, waiting bool) {
	b.updated = now
	if begun.since.IsZero() {
		return 0, false
	}
	b.since = time.Time{}
	if b.changes != begun.changes {
		b.since = start // a younger goal came meanwhile
	}
	return now.Sub(begun.since), true
}

func (b *backlog) late(now time.Time) bool { return !b.since.IsZero() && now.Sub(b.since) >= lateAfter }

// Healthy reports whether at now the loop is alive and the datapath keeps up with what it decides (H10). A step that waits for its
// first facts is alive, and a Service that cannot be programmed while others can is no reason to call the node unhealthy.
func (s *Speaker) Healthy(now time.Time) bool {
	beat := s.beat.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	return (beat == 0 || now.Sub(time.Unix(0, beat)) < stuckAfter) && !s.backlog.late(now)
}

// healthOf says how the node is at now. A healthy one was updated just now, as kube-proxy has it.
func (s *Speaker) healthOf(now time.Time) health {
	h := health{CurrentTime: now, LastUpdated: now, Healthy: s.Healthy(now)}
	s.mu.Lock()
	updated := s.backlog.updated
	s.mu.Unlock()
	if !h.Healthy {
		h.LastUpdated = updated
	}
	one := healthOfFamily{updated, h.Healthy}
	h.Status = map[string]healthOfFamily{lb.IPv4.String(): one, lb.IPv6.String(): one}
	return h
}

// HealthHandler serves /healthz, what load balancers outside ask where externalTrafficPolicy is Cluster: 200 while the node is
// healthy and not about to be deleted (H9, KEP-3836), and /livez, which does not care whether it is (H10): a node that is drained
// must not have its speaker restarted.
func (s *Speaker) HealthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := s.healthOf(time.Now())
		eligible := s.status.Load().Eligible
		h.NodeEligible = &eligible
		writeHealth(w, h, h.Healthy && eligible)
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		h := s.healthOf(time.Now())
		writeHealth(w, h, h.Healthy)
	})
	return mux
}

func writeHealth(w http.ResponseWriter, h health, ok bool) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(h) // the client has gone
}
