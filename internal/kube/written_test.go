package kube

import (
	"errors"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestNewest(t *testing.T) {
	at := func(version string) *corev1.Service {
		return web(func(s *corev1.Service) { s.ResourceVersion = version })
	}
	key := lb.ServiceKey{Namespace: "default", Name: "web"}
	for name, c := range map[string]struct {
		cached, written *corev1.Service
		want            string
		kept            bool
	}{
		"nothing written":       {cached: at("7"), want: "7"},
		"cache behind":          {cached: at("99"), written: at("100"), want: "100", kept: true},
		"cache caught up":       {cached: at("100"), written: at("100"), want: "100"},
		"somebody wrote since":  {cached: at("101"), written: at("100"), want: "101"},
		"gone":                  {written: at("100")},
		"versions are no count": {cached: at("x"), written: at("100"), want: "x"},
	} {
		t.Run(name, func(t *testing.T) {
			var w written
			if c.written != nil {
				w.put(key, c.written)
			}
			var got string
			if s := w.newest(key, c.cached); s != nil {
				got = s.ResourceVersion
			}
			if got != c.want || (len(w.services) > 0) != c.kept {
				t.Errorf("version %q, kept %d; want %q, %v", got, len(w.services), c.want, c.kept)
			}
		})
	}
}

// A cache that is behind our own write causes neither a second write nor a second Event, and no decision on old facts.
func TestOwnWriteBeforeTheCache(t *testing.T) {
	cluster, api, recorder := newTestCluster(web())
	key := lb.ServiceKey{Namespace: "default", Name: "web"}
	var before corev1.Service
	if err := api.Get(t.Context(), objectKey(key), &before); err != nil {
		t.Fatal(err)
	}
	cluster.cached = NewReader(newFake(&before), cluster.opts)                                        // a cache that stands still
	v := refused(Verdict{Ours: true, Addrs: []netip.Addr{addr("192.0.2.1")}}, lb.UnknownPool, "no q") // no pool: the fake's status takes no annotations
	if wrote, err := write(t, cluster, key, v); !wrote || err != nil {
		t.Fatalf("first write: %v, %v", wrote, err)
	}
	if wrote, err := write(t, cluster, key, v); wrote || err != nil {
		t.Errorf("second write: %v, %v", wrote, err)
	}
	if w, err := cluster.Service(t.Context(), key); err != nil || len(w.Service.Ingress) != 1 {
		t.Errorf("the next decision sees %+v, %v", w.Service, err)
	}
	if wrote, err := write(t, cluster, key, refused(v, lb.UnknownPool, "no r")); !wrote || err != nil {
		t.Errorf("another decision is not written over our own write: %v, %v", wrote, err)
	}
	if n := len(recorded(recorder)); n != 2 {
		t.Errorf("%d Events, want 2", n)
	}
}

func TestWriteServiceRefusesToOverwrite(t *testing.T) {
	cluster, api, recorder := newTestCluster(web())
	key := lb.ServiceKey{Namespace: "default", Name: "web"}
	w, err := cluster.Service(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var s corev1.Service
	if err := api.Get(t.Context(), objectKey(key), &s); err != nil {
		t.Fatal(err)
	}
	stale := s.DeepCopy()
	if err := api.Patch(t.Context(), &s, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"a":"b"}}}`))); err != nil {
		t.Fatal(err)
	}
	_, err = cluster.WriteService(t.Context(), key, w.Version, allocated("p", "192.0.2.1"))
	if !errors.Is(err, ErrOutdated) || apierrors.IsConflict(err) {
		t.Errorf("writing over a Service that the cache knows to have changed: %v", err)
	}
	cluster.cached = NewReader(newFake(stale), cluster.opts)
	_, err = cluster.WriteService(t.Context(), key, w.Version, allocated("p", "192.0.2.1"))
	if !errors.Is(err, ErrOutdated) || !apierrors.IsConflict(err) {
		t.Errorf("writing over a Service that has changed unseen: %v", err)
	}
	if n := len(recorded(recorder)); n > 0 {
		t.Errorf("%d Events", n)
	}
}
