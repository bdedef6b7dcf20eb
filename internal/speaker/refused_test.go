package speaker

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// TestWhatIsLeftOutIsTold: a Service whose port another one has on the same address hears of it once, and again if it
// comes back.
func TestWhatIsLeftOutIsTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		told := func() int {
			count := 0
			for _, e := range n.events {
				if strings.HasPrefix(e, "default/xenon true ListenerTaken: ") {
					count++
				}
			}
			return count
		}
		rival := func(f *kube.Facts) {
			i := slices.IndexFunc(f.Services, func(s lb.Service) bool { return s.Key == web })
			s := f.Services[i]
			s.Key.Name = "xenon"
			f.Services = append(f.Services, s)
		}
		alone := func(f *kube.Facts) {
			f.Services = slices.DeleteFunc(f.Services, func(s lb.Service) bool { return s.Key.Name == "xenon" })
		}
		for i, edit := range []func(*kube.Facts){rival, alone, rival} {
			w.change(edit)
			pass(time.Minute)
			if want := []int{1, 1, 2}[i]; told() != want {
				t.Errorf("after change %d: told %d times, want %d: %q", i, told(), want, n.events)
			}
		}
	})
}

// TestWhatTheFactsLackIsTold: the Service hears of it once, and the debug endpoint says it as long as it is so.
func TestWhatTheFactsLackIsTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		lacking := map[lb.ServiceKey]lb.Refusal{web: {Reason: lb.TooManyEndpoints, Message: "there are too many"}}
		for i, facts := range []map[lb.ServiceKey]lb.Refusal{nil, lacking, lacking, nil} {
			w.change(func(f *kube.Facts) {
				f.LeftOut = facts
				f.Endpoints.Set(web, []lb.Endpoint{endpoint("n1")}) // other memory
			})
			pass(time.Minute)
			told := 0
			for _, e := range n.events {
				if e == "default/web true TooManyEndpoints: there are too many" {
					told++
				}
			}
			if debug := len(n.datapathView("").LeftOut); told != min(i, 1) || debug != len(facts) {
				t.Errorf("step %d: told %d times, debug names %d; events %q", i, told, debug, n.events)
			}
		}
	})
}

// TestWhatTheKernelRefusesIsTold: the Service hears of it once, and so do status, metrics and the debug endpoint, as long as it is so. The
// other Services of the node go on.
func TestWhatTheKernelRefusesIsTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := w.nodes["n1"]
		w.change(func(f *kube.Facts) {
			i := slices.IndexFunc(f.Services, func(s lb.Service) bool { return s.Key == web })
			s := f.Services[i]
			s.Key.Name = "rich"
			s.Ingress = []lb.Ingress{{Addr: netip.MustParseAddr("192.0.2.209"), Mode: lb.ModeProxy}}
			f.Services = append(f.Services, s)
			f.Endpoints.Set(s.Key, f.Endpoints.Of(web))
		})
		reject := func(svc lb.ServiceKey) {
			w.mu.Lock()
			n.reject = svc
			w.mu.Unlock()
			pass(time.Minute)
		}
		for i, svc := range []lb.ServiceKey{{}, {Namespace: web.Namespace, Name: "rich"}, {}} {
			reject(svc)
			lacking := i == 1
			told := slices.IndexFunc(n.events, func(e string) bool { return strings.HasPrefix(e, "default/rich true KernelRefuses: ") }) >= 0
			report := n.selfReport()
			status := report.Problem.Reason == lb.KernelRefuses && strings.Contains(report.Problem.Message, "default/rich") && report.Failing == 1 && report.Ready
			metric := seriesOf(t, n, "fairlead_datapath_left_out") == 1
			debug := len(n.datapathView("").LeftOut) == 1
			if told != (i >= 1) || status != lacking || metric != lacking || debug != lacking {
				t.Errorf("step %d: told %t, status %t (%+v), metric %t, debug %t; want them to say so: %t", i, told, status, report.Problem, metric, debug, lacking)
			}
			if got := w.answering(netip.MustParseAddr("192.0.2.200")); got != "n1" {
				t.Errorf("step %d: the other Service's address is announced by %q", i, got)
			}
		}
	})
}

// seriesOf returns how many series a metric has.
func seriesOf(t *testing.T, n *node, name string) int {
	t.Helper()
	families, err := n.o.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return len(f.Metric)
		}
	}
	return 0
}
