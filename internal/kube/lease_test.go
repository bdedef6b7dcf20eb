package kube

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/fairlead-lb/fairlead/lb"
)

// leading returns a lease that is held for so long.
func leading(d time.Duration) *Lease {
	l, until := &Lease{}, time.Now().Add(d)
	l.until.Store(&until)
	return l
}

// lock is a Lease object in the API server that takes its time to answer, or fails.
type lock struct {
	resourcelock.Interface
	takes time.Duration
	fail  error
}

func (k *lock) Identity() string { return "me" }

func (k *lock) Create(context.Context, resourcelock.LeaderElectionRecord) error {
	time.Sleep(k.takes)
	return k.fail
}

func (k *lock) Update(context.Context, resourcelock.LeaderElectionRecord) error {
	time.Sleep(k.takes)
	return k.fail
}

func TestLeaseFencesWrites(t *testing.T) {
	mine, nobodys := resourcelock.LeaderElectionRecord{HolderIdentity: "me"}, resourcelock.LeaderElectionRecord{}
	away := errors.New("API server away")
	for name, story := range map[string]struct {
		do   func(*testing.T, *Lease, *lock)
		want time.Duration // that is left to write, 0 for none
	}{
		"never held": {func(*testing.T, *Lease, *lock) {}, 0},
		"created":    {func(t *testing.T, l *Lease, _ *lock) { _ = l.Create(t.Context(), mine) }, 4500 * time.Millisecond},
		"taken over": {func(t *testing.T, l *Lease, _ *lock) { _ = l.Update(t.Context(), mine) }, 4500 * time.Millisecond},
		"counts from before the request": {func(t *testing.T, l *Lease, k *lock) {
			k.takes = 2 * time.Second
			_ = l.Update(t.Context(), mine)
		}, 2500 * time.Millisecond},
		"renewed": {func(t *testing.T, l *Lease, _ *lock) {
			_ = l.Update(t.Context(), mine)
			time.Sleep(4 * time.Second)
			_ = l.Update(t.Context(), mine)
		}, 4500 * time.Millisecond},
		"not renewed": {func(t *testing.T, l *Lease, k *lock) {
			_ = l.Update(t.Context(), mine)
			time.Sleep(4 * time.Second)
			k.fail = away
			_ = l.Update(t.Context(), mine)
		}, 500 * time.Millisecond},
		"slept through its end": {func(t *testing.T, l *Lease, _ *lock) {
			_ = l.Update(t.Context(), mine)
			time.Sleep(leaseDuration)
		}, 0},
		"released": {func(t *testing.T, l *Lease, _ *lock) {
			_ = l.Update(t.Context(), mine)
			_ = l.Update(t.Context(), nobodys)
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &lock{}
				l := &Lease{Interface: k}
				story.do(t, l, k)
				ctx, cancel, err := l.writing(t.Context())
				if story.want == 0 {
					if !errors.Is(err, errNotLeading) {
						t.Fatalf("a write may begin: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer cancel()
				start := time.Now()
				<-ctx.Done()
				if got := time.Since(start); got != story.want {
					t.Errorf("a write may last %v, want %v", got, story.want)
				}
			})
		})
	}
}

func TestAStopLetsWritesEndButNoneBegin(t *testing.T) {
	l := leading(time.Hour)
	stopped, stop := context.WithCancel(t.Context())
	ctx, cancel, err := l.writing(stopped)
	if err != nil {
		t.Fatal(err)
	}
	defer cancel()
	stop()
	if ctx.Err() != nil {
		t.Error("the write that had begun was broken off")
	}
	if _, _, err := l.writing(stopped); !errors.Is(err, context.Canceled) {
		t.Errorf("a write may begin after the stop: %v", err)
	}
}

func TestNoWriteWithoutTheLease(t *testing.T) {
	cluster, _, recorder := newTestCluster(web(), testPool(home, "p", "192.0.2.0/28"))
	cluster.lease = &Lease{}
	if _, err := write(t, cluster, lb.ServiceKey{Namespace: "default", Name: "web"}, allocated("p", "192.0.2.1")); !errors.Is(err, errNotLeading) {
		t.Errorf("a Service was written: %v", err)
	}
	if err := cluster.WritePools(t.Context(), nil); !errors.Is(err, errNotLeading) {
		t.Errorf("a pool was written: %v", err)
	}
	if n := len(recorded(recorder)); n > 0 {
		t.Errorf("%d Events", n)
	}
}
