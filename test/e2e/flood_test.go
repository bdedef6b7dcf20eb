//go:build e2e

package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/cluster"
)

// aFlood is many Services created at once, and all that was seen of them.
type aFlood struct {
	ns       string
	services int
	history  *cluster.History
	created  chan error
}

const floodRange = "198.18.0.0/16" // large enough, and on no segment; RFC 2544: for benchmarks

// flood begins to create Services in a new namespace with a pool of its own.
func flood(t *testing.T, services int) *aFlood {
	t.Helper()
	return floodIn(t, namespace(t, floodRange), services)
}

func floodIn(t *testing.T, ns string, services int) *aFlood {
	t.Helper()
	history, err := lab.Watch(t.Context(), ns)
	must(t, err)
	f := &aFlood{ns, services, history, make(chan error, 1)}
	t.Cleanup(func() { // before the pool goes, which would have the controller write to each
		if err := lab.Client.DeleteAllOf(cleanupContext(t), &corev1.Service{}, client.InNamespace(ns)); err != nil {
			t.Error(err)
		}
	})
	go func() {
		f.created <- lab.Flood(t.Context(), ns, services, func(error) bool { // whatever the test does to the API server
			time.Sleep(100 * time.Millisecond)
			return true
		})
	}()
	return f
}

// served waits until so many Services have an address.
func (f *aFlood) served(t *testing.T, n int, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func() error {
		if got := f.history.Served(); got < n {
			return fmt.Errorf("%d of %d Services have an address, want %d", got, f.services, n)
		}
		return nil
	})
}

// end waits until all are created and have an address, and checks that each was written once, no address was ever on two of
// them, and nothing happens afterwards.
func (f *aFlood) end(t *testing.T, limit time.Duration) {
	t.Helper()
	select {
	case err := <-f.created:
		must(t, err)
	case <-time.After(limit * cluster.Slow()):
		t.Fatalf("the Services are not created within %v", limit)
	}
	last := time.Now()
	f.served(t, f.services, limit)
	t.Logf("last address %.1f s after the last Service", max(0, f.history.LastChange().Sub(last).Seconds()))
	time.Sleep(2 * time.Second)
	must(t, f.history.Check(true))
}
