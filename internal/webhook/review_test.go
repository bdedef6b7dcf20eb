package webhook

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/admission"
	"github.com/fairlead-lb/fairlead/lb"
)

// reader has one set of facts in its cache and another behind it.
type reader struct {
	cached, fresh admission.Facts
	err, freshErr error
	reads         []bool
}

func (r *reader) Facts(ctx context.Context, fresh bool) (admission.Facts, error) {
	r.reads = append(r.reads, fresh)
	if _, bounded := ctx.Deadline(); !bounded {
		return admission.Facts{}, errors.New("the read has no time limit")
	}
	if fresh {
		return r.fresh, r.freshErr
	}
	return r.cached, r.err
}

// samples returns the values of all metrics, by name and labels.
func samples(t *testing.T, w *Webhook) map[string]float64 {
	t.Helper()
	families, err := w.opts.Registerer.(*prometheus.Registry).Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			out[f.GetName()+" "+strings.Join(labels, ",")] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func reviewed(t *testing.T, r *reader, q admission.Request) (*Webhook, admission.Decision, error) {
	t.Helper()
	w, err := New(r, nil, Options{Log: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.Review(t.Context(), q)
	return w, d, err
}

func TestReview(t *testing.T) {
	p := &admission.Pool{Object: &v1beta1.IPAddressPool{Spec: v1beta1.IPAddressPoolSpec{Addresses: []string{"192.0.2.1/32"}}}}
	p.Object.Namespace, p.Object.Name = "ns", "p"
	one := lb.Range{From: netip.MustParseAddr("192.0.2.1"), To: netip.MustParseAddr("192.0.2.1")}
	p.Parsed = lb.Pool{Name: "p", Ranges: []lb.Range{one}}
	facts := func(change func(*admission.Facts)) admission.Facts {
		f := admission.Facts{Namespace: "ns", Pools: []lb.Pool{p.Parsed}}
		change(&f)
		return f
	}
	idle := facts(func(*admission.Facts) {})
	busy := facts(func(f *admission.Facts) {
		f.Services = []lb.Service{{Key: lb.ServiceKey{Namespace: "shop", Name: "web"}, Pool: "p", Ingress: []lb.Ingress{{Addr: one.From}}}}
	})
	taken := facts(func(f *admission.Facts) {
		f.Reserved = []admission.Reserved{{Range: one, What: "an address of Node n"}}
	})
	create, deletion := admission.Request{Operation: admission.Create, NewPool: p}, admission.Request{Operation: admission.Delete, OldPool: p}
	unknown := &v1beta1.L2Advertisement{Spec: v1beta1.L2AdvertisementSpec{IPAddressPools: []string{"q"}}}
	unknown.Namespace = "ns"
	for name, c := range map[string]struct {
		reader  reader
		request admission.Request
		reads   int
		want    string // the metric's labels
	}{
		"allowed":             {reader{cached: idle}, create, 1, "decision=allowed,kind=IPAddressPool,operation=CREATE"},
		"other operation":     {reader{cached: idle}, admission.Request{Operation: "anything"}, 1, "decision=allowed,kind=,operation=other"},
		"refused":             {reader{cached: taken}, create, 1, "decision=refused,kind=IPAddressPool,operation=CREATE"},
		"warned":              {reader{cached: idle}, admission.Request{Operation: admission.Create, NewAdvertisement: unknown}, 1, "decision=warned,kind=L2Advertisement,operation=CREATE"},
		"unused":              {reader{cached: idle, fresh: busy}, deletion, 1, "decision=allowed,kind=IPAddressPool,operation=DELETE"},
		"in use":              {reader{cached: busy, fresh: busy}, deletion, 2, "decision=refused,kind=IPAddressPool,operation=DELETE"},
		"the cache is late":   {reader{cached: busy, fresh: idle}, deletion, 2, "decision=allowed,kind=IPAddressPool,operation=DELETE"},
		"only the cache":      {reader{cached: busy, freshErr: errors.New("too slow")}, deletion, 2, "decision=refused,kind=IPAddressPool,operation=DELETE"},
		"nothing can be read": {reader{err: errors.New("no API server")}, create, 1, "decision=error,kind=IPAddressPool,operation=CREATE"},
	} {
		t.Run(name, func(t *testing.T) {
			w, d, err := reviewed(t, &c.reader, c.request)
			if (err != nil) != (c.reader.err != nil) || d.Allowed() == strings.Contains(c.want, "refused") {
				t.Errorf("decision %+v, %v", d, err)
			}
			if len(c.reader.reads) != c.reads || c.reader.reads[0] {
				t.Errorf("read %v, want %d times, cached first", c.reader.reads, c.reads)
			}
			if diff := cmp.Diff(map[string]float64{"fairlead_webhook_requests_total " + c.want: 1, "fairlead_webhook_certificate_expiry_seconds ": 0}, samples(t, w)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
