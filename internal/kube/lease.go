package kube

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// LeaseName is the name of the Lease by which the controllers elect one to allocate.
const LeaseName = "fairlead-controller"

// The lease's times. A standby takes over a dead leader's lease leaseDuration after it saw the last renewal; it looks once
// to twice per retryPeriod. A leader that could not renew for renewDeadline stops and exits. Each request about the lease
// may take half of renewDeadline.
const (
	leaseDuration = 5 * time.Second
	renewDeadline = 4 * time.Second
	retryPeriod   = time.Second
)

// writeMargin is how long before its lease ends a leader's last write is given up. It covers the way to the API server and
// clocks that tick at different speeds.
const writeMargin = 500 * time.Millisecond

// errNotLeading ends writes of a process whose lease is over, or was never there.
var errNotLeading = errors.New("the lease is over: another replica may lead")

// Lease is the controllers' Lease, and the fence around the writes of the one that holds it: none starts or goes on when
// another replica may lead. Losing the lease ends the process as well, but only after it has tried for seconds to hand the
// lease back, and a process that was suspended comes back in the middle of a write.
//
// The time counts from before the last successful renewal was sent, by the monotonic clock, while others count from when
// they saw it; so this process always stops first. It is safe for concurrent use.
type Lease struct {
	resourcelock.Interface
	until atomic.Pointer[time.Time]
}

func newLease(cfg *rest.Config, namespace string) (*Lease, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("finding the name of this host: %w", err)
	}
	id := resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, LeaseName, id, cfg, renewDeadline)
	if err != nil {
		return nil, fmt.Errorf("setting up the lease: %w", err)
	}
	return &Lease{Interface: lock}, nil
}

// Create is called by the elector when there is no Lease yet.
func (l *Lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	start := time.Now()
	err := l.Interface.Create(ctx, r)
	l.note(start, r, err)
	return err
}

// Update is called by the elector to take, renew or release the Lease.
func (l *Lease) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	start := time.Now()
	err := l.Interface.Update(ctx, r)
	l.note(start, r, err)
	return err
}

// note remembers until when the Lease lets this process write.
func (l *Lease) note(start time.Time, r resourcelock.LeaderElectionRecord, err error) {
	if err != nil {
		return
	}
	if r.HolderIdentity != l.Identity() { // released
		l.until.Store(nil)
		return
	}
	until := start.Add(leaseDuration - writeMargin)
	l.until.Store(&until)
}

// writing returns the context for one write: it ends before another replica may lead. That ctx ends does not break off a
// write that has begun, so that after a planned stop no write is left of which nobody knows whether it came to be.
func (l *Lease) writing(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	until := l.until.Load()
	if until == nil || !time.Now().Before(*until) {
		return nil, nil, errNotLeading
	}
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), *until)
	return ctx, cancel, nil
}
