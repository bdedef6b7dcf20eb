package kube

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/reference"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	eventBacklog = 10000           // Events that may wait, of some 500 bytes each: one for every Service of a large cluster
	eventTimeout = 5 * time.Second // for one Event
	maxNote      = 1024            // bytes, the API's limit
	lastEvents   = 2 * time.Second // for what waits when the process is told to end
)

// Events sends Events one after the other in the background. The recorders of client-go do not fit a controller that gives
// ten thousand Services their addresses at once: they send all Events at the same time, in the way of the writes that
// matter, drop beyond a thousand without a word, and fold a second Event with the same reason into the first, message lost.
type Events struct {
	client   client.Writer
	log      logr.Logger
	scheme   *runtime.Scheme
	instance string
	queue    chan *eventsv1.Event
	dropped  atomic.Uint64
}

func newEvents(c client.Writer, log logr.Logger, scheme *runtime.Scheme) *Events {
	host, _ := os.Hostname() // a name for people; the API only wants it not to be empty
	return &Events{client: c, log: log, scheme: scheme, instance: FieldOwner + "-" + host, queue: make(chan *eventsv1.Event, eventBacklog)}
}

// Dropped counts the Events that were not sent because too many waited or the API server refused them.
func (e *Events) Dropped() uint64 { return e.dropped.Load() }

// Eventf queues an Event about regarding and does not block. It implements client-go's EventRecorder; related is not used.
func (e *Events) Eventf(regarding, _ runtime.Object, kind, reason, action, format string, args ...any) {
	ref, err := reference.GetReference(e.scheme, regarding)
	if err != nil {
		panic("kube: an Event about " + err.Error())
	}
	note := fmt.Sprintf(format, args...)
	if len(note) > maxNote {
		note = note[:maxNote-3] + "..."
	}
	now := time.Now()
	namespace := ref.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	event := &eventsv1.Event{
		ObjectMeta:          metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s.%x", ref.Name, now.UnixNano())},
		EventTime:           metav1.NewMicroTime(now),
		ReportingController: FieldOwner,
		ReportingInstance:   e.instance,
		Action:              action,
		Reason:              reason,
		Regarding:           corev1.ObjectReference(*ref),
		Note:                note,
		Type:                kind,
	}
	select {
	case e.queue <- event:
	default:
		e.dropped.Add(1)
	}
}

// Start sends until ctx ends, then for two seconds what waits. It is one of the manager's runnables.
func (e *Events) Start(ctx context.Context) error {
	for ctx.Err() == nil {
		select {
		case event := <-e.queue:
			e.send(context.WithoutCancel(ctx), event)
		case <-ctx.Done():
		}
	}
	e.flush(context.WithoutCancel(ctx))
	return nil
}

func (e *Events) flush(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastEvents)
	defer cancel()
	for ctx.Err() == nil {
		select {
		case event := <-e.queue:
			e.send(ctx, event)
		default:
			return
		}
	}
}

// send does not try again: a Service's condition says the same, and is repeated until it is there.
func (e *Events) send(ctx context.Context, event *eventsv1.Event) {
	ctx, cancel := context.WithTimeout(ctx, eventTimeout)
	defer cancel()
	if err := e.client.Create(ctx, event); err != nil {
		e.dropped.Add(1)
		e.log.Error(err, "event not sent", "namespace", event.Namespace, "name", event.Regarding.Name, "reason", event.Reason)
	}
}
