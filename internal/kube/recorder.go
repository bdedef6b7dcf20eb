package kube

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// recorderTimeout bounds the look for the BGPPeer in the cache, which answers at once when it has synced.
const recorderTimeout = time.Second

// Recorder puts the speaker's Events on Services and BGPPeers.
type Recorder struct {
	reader *Reader
	events events.EventRecorder
}

// NewRecorder sends Events to the API server of cfg in the background until ctx ends, under the name component. What they
// are about is looked up with r, a speaker's.
func NewRecorder(ctx context.Context, cfg *rest.Config, r *Reader, component string) (*Recorder, error) {
	set, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("setting up the client for Events: %w", err)
	}
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: set.EventsV1()})
	if err := broadcaster.StartRecordingToSinkWithContext(ctx); err != nil {
		return nil, fmt.Errorf("starting to record Events: %w", err)
	}
	context.AfterFunc(ctx, broadcaster.Shutdown)
	return &Recorder{reader: r, events: broadcaster.NewRecorder(Scheme(), component)}, nil
}

// Event records what happened to the announcement of svc. It does not block on the API server; a Service that has gone gets
// none.
func (r *Recorder) Event(svc lb.ServiceKey, warning bool, reason, message string) {
	if s := r.reader.record.object(svc); s != nil {
		r.events.Eventf(s, nil, eventType(warning), reason, "Announce", "%s", message)
	}
}

// PeerEvent records what happened to a session with the BGPPeer of that name, as Event does.
func (r *Recorder) PeerEvent(peer string, warning bool, reason, message string) {
	ctx, cancel := context.WithTimeout(context.Background(), recorderTimeout)
	defer cancel()
	var list v1beta1.BGPPeerList // the cache holds those of our namespace only
	if err := r.reader.client.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return
	}
	for i := range list.Items {
		if list.Items[i].Name == peer {
			r.events.Eventf(&list.Items[i], nil, eventType(warning), reason, "Peer", "%s", message)
		}
	}
}

func eventType(warning bool) string {
	if warning {
		return corev1.EventTypeWarning
	}
	return corev1.EventTypeNormal
}
