package kube

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
// they saw it; so this process always stops first. What it has sent by then is over deliveryLimit later: the holder that
// follows waits for that ([Lease.settle]), unless the lease was handed back, which waits for it too. It is safe for
// concurrent use.
type Lease struct {
	resourcelock.Interface

	mu         sync.Mutex
	until      time.Time // when the last write is given up; zero unless held
	held       bool      // this process has held it
	holder     string    // as far as this process knows
	settled    time.Time // when no request of an earlier holder can take effect any more
	unanswered time.Time // when no write of ours can that has not been answered
	begun      sync.WaitGroup
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

// LeaseLost reports whether a manager ended because the lease is over; controller-runtime says that only in words.
func LeaseLost(err error) bool {
	return err != nil && strings.Contains(err.Error(), "leader election lost")
}

// Get is called by the elector before it takes or releases the Lease.
func (l *Lease) Get(ctx context.Context) (*resourcelock.LeaderElectionRecord, []byte, error) {
	r, raw, err := l.Interface.Get(ctx)
	if err == nil {
		l.mu.Lock()
		l.holder = r.HolderIdentity
		l.mu.Unlock()
	}
	return r, raw, err
}

// Create is called by the elector when there is no Lease yet.
func (l *Lease) Create(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	start := time.Now()
	err := l.Interface.Create(ctx, r)
	l.note(start, err)
	return err
}

// Update is called by the elector to take, renew or release the Lease. Once lost it is not taken again, and not released
// over another's head: what this process knows is outdated.
func (l *Lease) Update(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	lost := l.held && l.holder != l.Identity()
	l.mu.Unlock()
	if lost {
		return errNotLeading
	}
	if r.HolderIdentity != l.Identity() {
		return l.release(ctx, r)
	}
	start := time.Now()
	err := l.Interface.Update(ctx, r)
	l.note(start, err)
	return err
}

// note remembers until when the Lease lets this process write, and from when on.
func (l *Lease) note(start time.Time, err error) {
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.held && l.holder != "" {
		l.settled = time.Now().Add(deliveryLimit)
	}
	l.until, l.held, l.holder = start.Add(leaseDuration-writeMargin), true, l.Identity()
}

// release hands the Lease back when all that this process has written is done, or cannot come to be any more. If that takes
// longer than ctx, the Lease is not handed back but runs out.
func (l *Lease) release(ctx context.Context, r resourcelock.LeaderElectionRecord) error {
	l.mu.Lock()
	l.until = time.Time{}
	l.mu.Unlock()
	l.begun.Wait() // not long: they end when the lease does
	l.mu.Lock()
	unanswered := l.unanswered
	l.mu.Unlock()
	if err := sleepUntil(ctx, unanswered); err != nil {
		return fmt.Errorf("waiting for writes without an answer: %w", err)
	}
	return l.Interface.Update(ctx, r)
}

// settle waits until nothing that an earlier holder has sent can take effect any more.
func (l *Lease) settle(ctx context.Context) error {
	l.mu.Lock()
	settled := l.settled
	l.mu.Unlock()
	if err := sleepUntil(ctx, settled); err != nil {
		return fmt.Errorf("waiting for the writes of the lease's last holder: %w", err)
	}
	return nil
}

func sleepUntil(ctx context.Context, t time.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Until(t)):
		return nil
	}
}

// writing returns the context for one write, which ends before another replica may lead, and a function to be called with
// the write's error. That ctx ends does not break off a write that has begun, so that after a planned stop no write is left
// of which nobody knows whether it came to be.
func (l *Lease) writing(ctx context.Context) (context.Context, func(error), error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	until := l.until
	if !time.Now().Before(until) {
		return nil, nil, errNotLeading
	}
	l.begun.Add(1)
	ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), until)
	return ctx, func(err error) {
		cancel()
		l.mu.Lock()
		defer l.mu.Unlock()
		if !answered(err) {
			l.unanswered = until.Add(deliveryLimit)
		}
		l.begun.Done()
	}, nil
}

// answered reports whether the API server has said what became of a request that ended with err.
func answered(err error) bool {
	var status apierrors.APIStatus
	return err == nil || errors.As(err, &status) && status.Status().Code < http.StatusInternalServerError
}
