package kube

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/tools/leaderelection/resourcelock"

	"github.com/fairlead-lb/fairlead/lb"
)

// leading returns a lease that is held for so long.
func leading(d time.Duration) *Lease {
	return &Lease{until: time.Now().Add(d)}
}

// lock is a Lease object in the API server that takes its time to answer, or fails.
type lock struct {
	resourcelock.Interface
	holder string
	takes  time.Duration
	fail   error
}

func (k *lock) Identity() string { return "me" }

func (k *lock) Get(context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	return &resourcelock.LeaderElectionRecord{HolderIdentity: k.holder}, nil, k.fail
}

func (k *lock) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	return k.Update(ctx, r)
}

func (k *lock) Update(_ context.Context, r resourcelock.LeaderElectionRecord) error {
	time.Sleep(k.takes)
	if k.fail == nil {
		k.holder = r.HolderIdentity
	}
	return k.fail
}

var mine, nobodys = resourcelock.LeaderElectionRecord{HolderIdentity: "me"}, resourcelock.LeaderElectionRecord{}

func TestLeaseFencesWrites(t *testing.T) {
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
				ctx, ended, err := l.writing(t.Context())
				if story.want == 0 {
					if !errors.Is(err, errNotLeading) {
						t.Fatalf("a write may begin: %v", err)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				defer ended(nil)
				start := time.Now()
				<-ctx.Done()
				if got := time.Since(start); got != story.want {
					t.Errorf("a write may last %v, want %v", got, story.want)
				}
			})
		})
	}
}

// What the last holder sent is over before the next one reads what there is.
func TestANewHolderWaitsForTheLastOnesWrites(t *testing.T) {
	for name, story := range map[string]struct {
		holder string // before
		want   time.Duration
	}{
		"handed back":                     {"", 0},
		"run out":                         {"another", deliveryLimit},
		"taken without hearing of it":     {"me", deliveryLimit},
		"its own pod's earlier process's": {"me_before", deliveryLimit},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &Lease{Interface: &lock{holder: story.holder}}
				for range 2 { // taking it, and a renewal on the slow path, which changes nothing
					_, _, _ = l.Get(t.Context())
					if err := l.Update(t.Context(), mine); err != nil {
						t.Fatal(err)
					}
				}
				start := time.Now()
				if err := l.settle(t.Context()); err != nil {
					t.Fatal(err)
				}
				if got := time.Since(start); got != story.want {
					t.Errorf("waited %v, want %v", got, story.want)
				}
			})
		})
	}
}

// The worst case: the last renewal is seen at once, the last write is sent as late as may be, takes as long on the way as the
// kernel allows, and the API server as long as it is told.
func TestTheLastWriteIsOverBeforeTheNextHolderReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &lock{}
		before, after := &Lease{Interface: k}, &Lease{Interface: k}
		if err := before.Update(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		var over time.Time
		for {
			time.Sleep(time.Millisecond)
			ctx, ended, err := before.writing(t.Context())
			if err != nil {
				break
			}
			until, _ := ctx.Deadline()
			over = time.Now().Add(deliveryLimit).Add(time.Until(until))
			ended(nil)
		}
		k.holder = "another"
		_, _, _ = after.Get(t.Context())
		time.Sleep(time.Until(start.Add(leaseDuration)))
		if err := after.Update(t.Context(), mine); err != nil {
			t.Fatal(err)
		}
		if err := after.settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if slack := time.Since(over); slack < writeMargin {
			t.Errorf("the new holder reads %v after the last write of the old one can have taken effect, want %v", slack, writeMargin)
		}
	})
}

func TestTheLeaseIsHandedBackWhenNoWriteIsLeft(t *testing.T) {
	unavailable := apierrors.NewInternalError(errors.New("etcd is slow"))
	for name, story := range map[string]struct {
		takes  time.Duration // of the write that is under way
		result error
		want   time.Duration
		kept   bool
	}{
		"answered":     {time.Second, nil, time.Second, false},
		"refused":      {time.Second, apierrors.NewConflict(schema.GroupResource{}, "web", nil), time.Second, false},
		"cut off":      {2 * time.Second, io.ErrUnexpectedEOF, 4500*time.Millisecond + deliveryLimit, false},
		"server fault": {2 * time.Second, unavailable, 4500*time.Millisecond + deliveryLimit, false},
		"too late":     {0, io.ErrUnexpectedEOF, renewDeadline, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := &lock{}
				l := &Lease{Interface: k}
				_ = l.Update(t.Context(), mine)
				start := time.Now()
				_, ended, err := l.writing(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(story.takes, func() { ended(story.result) })
				patience := 10 * time.Second
				if story.kept {
					patience = renewDeadline
				}
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				synctest.Wait()
				err = l.Update(ctx, nobodys)
				if got := time.Since(start); got != story.want || (err != nil) != story.kept || (k.holder == "me") != story.kept {
					t.Errorf("after %v: %v, the holder is %q; want %v", got, err, k.holder, story.want)
				}
			})
		})
	}
}

// A holder that was away while others led knows too little to go on, and has nothing to release.
func TestALostLeaseIsNotTouched(t *testing.T) {
	for _, now := range []string{"", "another"} {
		k := &lock{}
		l := &Lease{Interface: k}
		_ = l.Update(t.Context(), mine)
		k.holder = now
		_, _, _ = l.Get(t.Context())
		for _, r := range []resourcelock.LeaderElectionRecord{mine, nobodys} {
			if err := l.Update(t.Context(), r); !errors.Is(err, errNotLeading) || k.holder != now {
				t.Errorf("held by %q: update to %q gives %v, then held by %q", now, r.HolderIdentity, err, k.holder)
			}
		}
	}
}

func TestAStopLetsWritesEndButNoneBegin(t *testing.T) {
	l := leading(time.Hour)
	stopped, stop := context.WithCancel(t.Context())
	ctx, ended, err := l.writing(stopped)
	if err != nil {
		t.Fatal(err)
	}
	defer ended(nil)
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
