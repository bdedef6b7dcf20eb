package speaker

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// Handler serves /healthz, /readyz, /debug/decisions and /debug/datapath.
func (s *Speaker) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Healthy(time.Now()), "the loop is stuck") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Ready(), s.whyNotReady()) })
	mux.HandleFunc("GET /debug/decisions", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.decisionsView()) })
	mux.HandleFunc("GET /debug/datapath", func(w http.ResponseWriter, _ *http.Request) { reply(w, s.datapathView()) })
	return mux
}

func answer(w http.ResponseWriter, ok bool, why string) {
	if !ok {
		http.Error(w, why, http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n")) // the client has gone
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // the client has gone
}

func (s *Speaker) whyNotReady() string {
	st := s.status.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case st.Draining:
		return "draining"
	case !st.Joined:
		return "the other speakers have not been found yet"
	case s.report.err != nil:
		return "the datapath does not work: " + s.report.err.Error()
	}
	return "the API server's facts have not arrived yet, or the datapath has not worked through them"
}

// The views are the JSON that operators and kubectl-fairlead see.

type decisionsView struct {
	Node      lb.NodeName    `json:"node"`
	Draining  bool           `json:"draining"`
	Ready     bool           `json:"ready"`
	Members   []memberView   `json:"members"`
	Decisions []decisionView `json:"decisions"`
}

type memberView struct {
	Node     lb.NodeName  `json:"node"`
	Draining bool         `json:"draining"`
	Ready    bool         `json:"ready"`
	Links    []linkView   `json:"links"`
	Claims   int          `json:"claims"`
	Failing  []netip.Addr `json:"failing,omitempty"`
}

type linkView struct {
	Name     string         `json:"name"`
	MAC      string         `json:"mac"`
	Up       bool           `json:"up"`
	Prefixes []netip.Prefix `json:"prefixes"`
}

type decisionView struct {
	VIP        netip.Addr  `json:"vip"`
	Via        string      `json:"via"`
	Services   []string    `json:"services"`
	Announce   bool        `json:"announce"`
	Owner      lb.NodeName `json:"owner"`
	Interfaces []string    `json:"interfaces,omitempty"`
	Epoch      uint64      `json:"epoch,omitempty"`
	Reason     lb.Reason   `json:"reason,omitempty"`
	Message    string      `json:"message,omitempty"`
}

func (s *Speaker) decisionsView() decisionsView {
	st := s.status.Load()
	v := decisionsView{Node: st.Node, Draining: st.Draining, Ready: s.Ready(), Members: []memberView{}, Decisions: []decisionView{}}
	for _, m := range st.Members {
		mv := memberView{Node: m.Node, Draining: m.Draining, Ready: m.Ready, Claims: len(m.Claims), Failing: m.Failing, Links: []linkView{}}
		for _, l := range m.Links {
			mv.Links = append(mv.Links, linkView{l.Name, hardware(l.MAC), l.Up, l.Prefixes})
		}
		v.Members = append(v.Members, mv)
	}
	self := lb.Member{Claims: st.Claims}
	for _, d := range st.Decisions {
		dv := decisionView{VIP: d.VIP, Via: string(d.Via), Announce: d.Announce, Owner: d.Owner, Interfaces: d.Interfaces,
			Services: names(d.Services), Epoch: self.Claim(d.VIP), Reason: d.Reason, Message: d.Message}
		v.Decisions = append(v.Decisions, dv)
	}
	return v
}

type datapathView struct {
	Engine     string       `json:"engine"`
	Ready      bool         `json:"ready"`
	Error      string       `json:"error,omitempty"`
	Programmed []netip.Addr `json:"programmed"`
	Failing    []netip.Addr `json:"failing,omitempty"`
	Servers    []serverView `json:"servers"`
}

type serverView struct {
	Listener     string            `json:"listener"`
	Service      string            `json:"service"`
	Scheduler    string            `json:"scheduler"`
	Verdict      string            `json:"verdict"`
	Affinity     string            `json:"affinity,omitempty"`
	Masquerade   bool              `json:"masquerade"`
	SourceRanges []netip.Prefix    `json:"sourceRanges,omitempty"`
	Destinations []destinationView `json:"destinations"`
}

type destinationView struct {
	Addr   netip.AddrPort `json:"addr"`
	Weight int            `json:"weight"`
	Method string         `json:"method"`
	Conns  int            `json:"conns"`
}

func (s *Speaker) datapathView() datapathView {
	s.mu.Lock()
	r := s.report
	s.mu.Unlock()
	v := datapathView{Engine: s.engineName(), Ready: r.ready, Programmed: []netip.Addr{}, Failing: r.failing, Servers: []serverView{}}
	if r.err != nil {
		v.Error = r.err.Error()
	}
	for _, vip := range r.reached.VIPs {
		if r.programmed[vip] {
			v.Programmed = append(v.Programmed, vip)
		}
	}
	for _, srv := range r.reached.Servers {
		sv := serverView{Listener: srv.Listener.String(), Service: srv.Service.String(), Scheduler: srv.Scheduler, Verdict: string(srv.Verdict),
			Masquerade: srv.Masquerade, SourceRanges: srv.SourceRanges, Destinations: []destinationView{}}
		if srv.Affinity > 0 {
			sv.Affinity = srv.Affinity.String()
		}
		for _, d := range srv.Destinations {
			sv.Destinations = append(sv.Destinations, destinationView{d.Addr, d.Weight, string(d.Method), d.Conns})
		}
		v.Servers = append(v.Servers, sv)
	}
	return v
}
