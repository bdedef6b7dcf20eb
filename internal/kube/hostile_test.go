package kube

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

// large returns slices of Service web with so many endpoints each, no address twice, and so many ports, which all of them have.
func large(count, endpoints, ports int) (out []*discoveryv1.EndpointSlice) {
	for i := range count {
		s := slice(80)
		s.Name, s.Ports = fmt.Sprint("web-", i), nil
		for p := range ports {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: ptr(fmt.Sprintf("p%05d", p)), Protocol: ptr(corev1.ProtocolTCP), Port: ptr(int32(1 + p))})
		}
		for e := range endpoints {
			n := i*endpoints + e
			s.Endpoints = append(s.Endpoints, pod(fmt.Sprintf("10.%d.%d.%d", n>>16, n>>8&255, n&255), "n1", "r"))
		}
		out = append(out, s)
	}
	return out
}

// shuffled returns the same slices, and in each the same endpoints and ports, in another order.
func shuffled(r *rand.Rand, in []*discoveryv1.EndpointSlice) (out []*discoveryv1.EndpointSlice) {
	for _, i := range r.Perm(len(in)) {
		s := in[i].DeepCopy()
		r.Shuffle(len(s.Ports), func(i, j int) { s.Ports[i], s.Ports[j] = s.Ports[j], s.Ports[i] })
		r.Shuffle(len(s.Endpoints), func(i, j int) { s.Endpoints[i], s.Endpoints[j] = s.Endpoints[j], s.Endpoints[i] })
		out = append(out, s)
	}
	return out
}

// TestHostileSlices: what the endpoints of one Service can cost is bounded, every node leaves out the same, and says so.
func TestHostileSlices(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for name, tc := range map[string]struct {
		slices    []*discoveryv1.EndpointSlice
		ports     int // of which something is left
		endpoints int // of each of them
		total     int // in the message; 0 = there is none
	}{
		"as many as may be":               {large(1, 1000, 200), 200, 1000, 0},
		"one slice of twenty million":     {large(1, 1000, 20000), 200, 1000, 20_000_000},
		"many slices, each within bounds": {large(30, 100, 200), 66, 3000, 600_000},
		"many slices, none of them":       {large(2, 1000, 2000), 100, 2000, 4_000_000},
		"a port that alone has too many":  {large(250, 1000, 1), 1, 200_000, 250_000},
	} {
		t.Run(name, func(t *testing.T) {
			want := ""
			if tc.total > 0 {
				want = fmt.Sprintf("TooManyEndpoints: its endpoints times its ports are %d, of which %d are used, those of the first ports by name; split the Service",
					tc.total, tc.ports*tc.endpoints)
			}
			in, other := shuffled(r, tc.slices), shuffled(r, tc.slices)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			got, refusal := Endpoints(in)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if text := refusal.String(); !refusal.OK() && text != want || refusal.OK() && want != "" {
				t.Errorf("refusal %q, want %q", text, want)
			}
			if len(got) != tc.ports*tc.endpoints {
				t.Errorf("%d records, want %d", len(got), tc.ports*tc.endpoints)
			}
			for p := range tc.ports {
				if n := len(lb.OfPort(got, lb.Port{Name: fmt.Sprintf("p%05d", p), Protocol: lb.TCP})); n != tc.endpoints {
					t.Fatalf("port %d has %d endpoints, want %d", p, n, tc.endpoints)
				}
			}
			if used := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 20*time.Second || used > 1024 {
				t.Errorf("took %s and %d MiB", took, used)
			}
			// The speaker converts slice by slice, and another node in another order.
			speaker := fullReader(t)
			tell(t, speaker, nil, inside("web"))
			var all []any
			for _, s := range other {
				all = append(all, kept(t, speaker.opts, s))
				speaker.record.slice(nil, all[len(all)-1])
			}
			f, err := speaker.Facts(t.Context())
			key := lb.ServiceKey{Namespace: "default", Name: "web"}
			if err != nil || !slices.Equal(f.Endpoints.Of(key), got) || f.LeftOut[key] != refusal {
				t.Errorf("the speaker has %d records and says %q (%v), not the same", len(f.Endpoints.Of(key)), f.LeftOut[key], err)
			}
			for _, s := range all {
				speaker.record.slice(s, nil)
			}
			if f, err = speaker.Facts(t.Context()); err != nil || f.Endpoints.Of(key) != nil || f.LeftOut != nil {
				t.Errorf("after the slices: %d records, %v (%v)", len(f.Endpoints.Of(key)), f.LeftOut, err)
			}
		})
	}
}
