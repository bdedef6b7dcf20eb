package speaker

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/announce"
	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// Handler serves /healthz and /livez (see HealthHandler), /readyz, /debug/decisions and /debug/datapath.
func (s *Speaker) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/healthz", s.HealthHandler())
	mux.Handle("/livez", s.HealthHandler())
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, s.Ready(), s.whyNotReady()) })
	mux.HandleFunc("GET "+view.DecisionsPath, func(w http.ResponseWriter, _ *http.Request) { reply(w, s.decisionsView()) })
	mux.HandleFunc("GET "+view.DatapathPath, func(w http.ResponseWriter, r *http.Request) {
		reply(w, s.datapathView(r.URL.Query().Get(view.ServiceParam)))
	})
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
	case st.Opening:
		return "the BGP sessions are being opened, which is waited for 10 s"
	case s.report.err != nil:
		return "the datapath does not work: " + s.report.err.Error()
	}
	return "the API server's facts have not arrived yet, or the datapath has not worked through them"
}

func (s *Speaker) decisionsView() view.Decisions {
	st := s.status.Load()
	v := view.Decisions{Node: st.Node, Draining: st.Draining, Ready: s.Ready(), Members: []view.Member{}, Decisions: []view.Decision{}, Changes: s.changes.newest()}
	for _, m := range st.Members {
		mv := view.Member{Node: m.Node, Draining: m.Draining, Ready: m.Ready, Claims: len(m.Claims), Failing: m.Failing, Links: []view.Link{}}
		for _, l := range m.Links {
			mv.Links = append(mv.Links, view.Link{Name: l.Name, MAC: hardware(l.MAC), Up: l.Up, Prefixes: l.Prefixes})
		}
		v.Members = append(v.Members, mv)
	}
	self := lb.Member{Claims: st.Claims}
	for _, d := range slices.Concat(st.Decisions, st.Routes) {
		dv := view.Decision{VIP: d.VIP, Via: string(d.Via), Announce: d.Announce, Owner: d.Owner, Interfaces: d.Interfaces,
			Services: names(d.Services), Epoch: self.Claim(d.VIP), Reason: d.Reason, Message: d.Message}
		if d.Via == announce.BGP {
			dv.Epoch, dv.Peers, dv.Drain = 0, d.Peers(), d.Drains()
		}
		v.Decisions = append(v.Decisions, dv)
	}
	return v
}

// datapathView tells what the kernel holds, of all Services or of one, namespace/name.
func (s *Speaker) datapathView(of string) view.Datapath {
	s.mu.Lock()
	r, want := s.report, s.want
	s.mu.Unlock()
	counts := map[datapath.Count]datapath.Count{} // by where it was counted
	places, _ := s.readTraffic()
	for _, c := range places {
		counts[datapath.Count{Listener: c.Listener, Destination: c.Destination}] = c
	}
	open := s.openConnections(r.reached)
	v := view.Datapath{Engine: s.engineName(), Ready: r.ready, Programmed: []netip.Addr{}, Failing: r.failing, Servers: []view.Server{}}
	v.Onward = strings.FieldsFunc(r.reached.Onward.String(), func(c rune) bool { return c == '\n' })
	v.HandedOn, _ = handedOn(s.o.Engine)
	if want != nil {
		v.Differs = differences(want.State, r.reached)
	}
	for _, out := range s.leftOut() {
		v.LeftOut = append(v.LeftOut, view.LeftOut{Service: out.Service.String(), Reason: out.Reason, Message: out.Message})
	}
	s.status.Load().addTunnels(&v)
	if r.err != nil {
		v.Error = r.err.Error()
	}
	for _, vip := range r.reached.VIPs {
		if r.programmed[vip] {
			v.Programmed = append(v.Programmed, vip)
		}
	}
	for _, srv := range r.reached.Servers {
		if of != "" && srv.Service.String() != of {
			continue
		}
		sv := view.Server{Listener: srv.Listener.String(), Service: srv.Service.String(), Scheduler: srv.Scheduler, Verdict: string(srv.Verdict),
			Direct: srv.Direct, Tunnelled: srv.Tunnelled,
			Masquerade: srv.Masquerade.String(), SourceRanges: srv.SourceRanges, Destinations: []view.Destination{}}
		if srv.Affinity > 0 {
			sv.Affinity = srv.Affinity.String()
		}
		for _, d := range srv.Destinations {
			c := counts[datapath.Count{Listener: srv.Listener, Destination: d.Addr}]
			sv.Destinations = append(sv.Destinations, view.Destination{Addr: d.Addr, Weight: d.Weight, Method: string(d.Method), Conns: open(srv.Listener, d),
				Opened: c.Conns, Bytes: c.Bytes})
		}
		v.Servers = append(v.Servers, sv)
	}
	return v
}
