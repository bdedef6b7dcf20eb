package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// Handler does the work of the queue's items, one at a time but for Write. An error has the item come again, after a growing
// delay.
type Handler interface {
	Service(ctx context.Context, key lb.ServiceKey) error // something about the Service has changed
	Pools(ctx context.Context) error                      // pools, or labels or quotas of namespaces, have changed
	Counts(ctx context.Context) error                     // the pools' status is due

	// Write writes what was decided about the Service. It is called from several goroutines, beside the other methods, but
	// never for one Service at the same time.
	Write(ctx context.Context, key lb.ServiceKey) error
}

// item is one piece of work: a Service, or else the pools, or else the counts.
type item struct {
	service lb.ServiceKey
	task    task
}

type task int

const (
	doService task = iota
	doPools
	doCounts
)

const (
	firstRetry  = 5 * time.Millisecond
	lastRetry   = 10 * time.Second
	afterClash  = 50 * time.Millisecond // until the cache has caught up with whoever wrote before us
	countsDelay = time.Second           // pool status is written at most this often
)

// writers is how many Services are written at a time. A write waits for the API server and its disk nearly all of its time
// (3 to 8 ms in the lab), so this divides the time that many take; it is also all the load that a flood of Services can put on
// the API server, as there is no other limit of requests per second.
const writers = 16

// Queue holds the work that is to be done; an item that is in it already is not added again. It is safe for concurrent use.
type Queue struct {
	queue  workqueue.TypedRateLimitingInterface[item]
	writes workqueue.TypedRateLimitingInterface[lb.ServiceKey]
}

// NewQueue returns an empty queue, to be given to the handler and to [Serve].
func NewQueue() *Queue {
	return &Queue{newWorkQueue[item](), newWorkQueue[lb.ServiceKey]()}
}

func newWorkQueue[T comparable]() workqueue.TypedRateLimitingInterface[T] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[T](firstRetry, lastRetry))
}

// Writes has the Services written, in this order but several at a time. One whose write is under way is written again when
// that has ended.
func (q *Queue) Writes(keys ...lb.ServiceKey) {
	for _, key := range keys {
		q.writes.Add(key)
	}
}

// Services has the Services looked at again, in this order.
func (q *Queue) Services(keys ...lb.ServiceKey) {
	for _, key := range keys {
		q.queue.Add(item{service: key})
	}
}

// Counts has the counts written soon.
func (q *Queue) Counts() { q.queue.AddAfter(item{task: doCounts}, countsDelay) }

// CountsAfter has the counts written after d, or sooner if they are due by then.
func (q *Queue) CountsAfter(d time.Duration) { q.queue.AddAfter(item{task: doCounts}, d) }

// Serve feeds q from mgr's caches and has h work on it while mgr runs and leads, one decision at a time, and never before the
// caches have synced. When mgr stops, writes that have begun end first; what is left, the successor decides anew.
func Serve(mgr manager.Manager, q *Queue, h Handler) error {
	warm := true // replicas that wait for the lease keep their caches ready
	decisions, err := controller.NewTyped("allocation", mgr, controller.TypedOptions[item]{
		MaxConcurrentReconciles: 1,
		EnableWarmup:            &warm,
		CacheSyncTimeout:        syncPatience,
		NewQueue:                given(q.queue),
		Reconciler:              reconcile.TypedFunc[item](func(ctx context.Context, i item) (reconcile.Result, error) { return work(ctx, h, i) }),
	})
	if err != nil {
		return fmt.Errorf("setting up the queue of decisions: %w", err)
	}
	for _, s := range sources(mgr.GetCache()) {
		if err := decisions.Watch(s); err != nil {
			return fmt.Errorf("watching %s: %w", s, err)
		}
	}
	_, err = controller.NewTyped("status", mgr, controller.TypedOptions[lb.ServiceKey]{
		MaxConcurrentReconciles: writers,
		NewQueue:                given(q.writes),
		Reconciler: reconcile.TypedFunc[lb.ServiceKey](func(ctx context.Context, key lb.ServiceKey) (reconcile.Result, error) {
			if ctx.Err() != nil { // a queue that is shut down is emptied first
				return reconcile.Result{}, nil
			}
			return reconcile.Result{}, h.Write(ctx, key)
		}),
	})
	if err != nil {
		return fmt.Errorf("setting up the queue of writes: %w", err)
	}
	return nil
}

// given has a controller use q, which carries its own limiter.
func given[T comparable](q workqueue.TypedRateLimitingInterface[T]) func(string, workqueue.TypedRateLimiter[T]) workqueue.TypedRateLimitingInterface[T] {
	return func(string, workqueue.TypedRateLimiter[T]) workqueue.TypedRateLimitingInterface[T] { return q }
}

func work(ctx context.Context, h Handler, i item) (reconcile.Result, error) {
	if ctx.Err() != nil {
		return reconcile.Result{}, nil
	}
	var err error
	switch i.task {
	case doService:
		err = h.Service(ctx, i.service)
	case doPools:
		err = h.Pools(ctx)
	case doCounts:
		err = h.Counts(ctx)
	}
	if apierrors.IsConflict(err) {
		return reconcile.Result{RequeueAfter: afterClash}, nil
	}
	return reconcile.Result{}, err
}

func sources(c cache.Cache) []source.TypedSyncingSource[item] {
	pools := item{task: doPools}
	return []source.TypedSyncingSource[item]{
		source.TypedKind(c, &corev1.Service{}, enqueue(func(s *corev1.Service) item {
			return item{service: lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}}
		}), onlyIf[*corev1.Service](serviceConcerns)),
		source.TypedKind(c, &corev1.Namespace{}, enqueue(func(*corev1.Namespace) item { return pools }), onlyIf[*corev1.Namespace](namespaceMatters)),
		source.TypedKind(c, &v1beta1.IPAddressPool{}, enqueue(func(*v1beta1.IPAddressPool) item { return pools }), onlyIf[*v1beta1.IPAddressPool](specChanged)),
		source.TypedKind(c, &v1beta1.L2Advertisement{}, enqueue(func(*v1beta1.L2Advertisement) item { return pools }), onlyIf[*v1beta1.L2Advertisement](specChanged)),
		counted[*v1beta1.BGPPeer](c, &v1beta1.BGPPeer{}),
		counted[*v1beta1.BGPAdvertisement](c, &v1beta1.BGPAdvertisement{}),
		counted[*v1beta1.BFDProfile](c, &v1beta1.BFDProfile{}),
		counted[*v1beta1.Community](c, &v1beta1.Community{}),
	}
}

// counted has the status of pools and all else written when an object of a kind changes on which no allocation depends.
func counted[T client.Object](c cache.Cache, kind T) source.TypedSyncingSource[item] {
	return source.TypedKind(c, kind, enqueue(func(T) item { return item{task: doCounts} }), onlyIf[T](specChanged))
}

func enqueue[T client.Object](toItem func(T) item) handler.TypedEventHandler[T, item] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, o T) []item { return []item{toItem(o)} })
}

// onlyIf lets an event pass if matters says so of the object before and after it; nil stands for none.
func onlyIf[T client.Object](matters func(old, now any) bool) predicate.TypedPredicate[T] {
	return predicate.TypedFuncs[T]{
		CreateFunc: func(e event.TypedCreateEvent[T]) bool { return matters(nil, e.Object) },
		UpdateFunc: func(e event.TypedUpdateEvent[T]) bool { return matters(e.ObjectOld, e.ObjectNew) },
		DeleteFunc: func(e event.TypedDeleteEvent[T]) bool { return matters(e.Object, nil) },
	}
}

// serviceConcerns leaves out Services that neither are nor were of our type.
func serviceConcerns(old, now any) bool {
	if !changed(old, now) {
		return false
	}
	for _, side := range []any{old, now} {
		if s, ok := side.(*corev1.Service); ok && (s.Spec.Type == corev1.ServiceTypeLoadBalancer || marked(s)) {
			return true
		}
	}
	return false
}

// specChanged leaves out what we write to a status ourselves.
func specChanged(old, now any) bool {
	a, hadOld := old.(client.Object)
	b, hasNow := now.(client.Object)
	return !hadOld || !hasNow || a.GetGeneration() != b.GetGeneration() || labelsChanged(old, now)
}
