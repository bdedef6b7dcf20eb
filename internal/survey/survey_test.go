package survey

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/explain"
	"github.com/fairlead-lb/fairlead/internal/view"
	"github.com/fairlead-lb/fairlead/lb"
)

// Every speaker is asked, at most so many at a time; one that says nothing useful is named and the others are told.
func TestAsk(t *testing.T) {
	var busy, most atomic.Int32
	speaker := http.NewServeMux()
	speaker.HandleFunc(view.DecisionsPath, func(w http.ResponseWriter, _ *http.Request) {
		if n := busy.Add(1); n > most.Load() {
			most.Store(n)
		}
		fmt.Fprint(w, `{"node": "n", "ready": true, "changes": [{"vip": "192.0.2.1", "announce": true}]}`)
		busy.Add(-1)
	})
	speaker.HandleFunc(view.DatapathPath, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"engine": "nft", "servers": [{"service": %q}]}`, r.URL.Query().Get(view.ServiceParam))
	})
	server := httptest.NewServer(speaker)
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	f := explain.Facts{Speakers: map[lb.NodeName]explain.Speaker{"away": {Pod: "p"}}}
	for i := range 20 {
		f.Speakers[lb.NodeName(fmt.Sprintf("n%d", i))] = explain.Speaker{Addr: at.Addr(), Error: "it was not asked"}
	}
	Ask(t.Context(), &f, Direct(server.Client(), int(at.Port())), 3, view.DecisionsPath, DatapathOf(lb.ServiceKey{Namespace: "shop", Name: "web"}))
	for node, s := range f.Speakers {
		switch {
		case node == "away":
			if !strings.Contains(s.Error, "asking pod p: it has no address yet") {
				t.Errorf("the one without an address: %q", s.Error)
			}
		case s.Error != "" || !s.Decisions.Ready || len(s.Decisions.Changes) != 1 || s.Datapath.Engine != "nft" || s.Datapath.Servers[0].Service != "shop/web":
			t.Errorf("%s: %+v", node, s)
		}
	}
	if most.Load() > 3 || len(f.Speakers) != 21 {
		t.Errorf("%d were asked at a time, want 3; %d are known, want 21", most.Load(), len(f.Speakers))
	}
}

func TestAskIsToldRubbish(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"no JSON":  {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "reading the answer of pod p"},
		"an error": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }, "it answers 503"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.answer)
			defer server.Close()
			at := netip.MustParseAddrPort(server.Listener.Addr().String())
			f := explain.Facts{Speakers: map[lb.NodeName]explain.Speaker{"n": {Pod: "p", Addr: at.Addr()}}}
			Ask(t.Context(), &f, Direct(server.Client(), int(at.Port())), 1, view.DecisionsPath)
			if got := f.Speakers["n"].Error; !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q in it", got, c.want)
			}
		})
	}
}

func TestAnswersAreBounded(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "0123456789") }))
	defer server.Close()
	for limit, ok := range map[int]bool{9: false, 10: true, 11: true} {
		if text, err := fetch(t.Context(), server.Client(), server.URL, limit); (err == nil) != ok || ok && string(text) != "0123456789" {
			t.Errorf("with a limit of %d bytes: %q, %v", limit, text, err)
		}
	}
}
