package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// SpeakerReport is what a speaker says about itself.
type SpeakerReport struct {
	Version  string
	Ready    bool
	Draining bool
	Problem  lb.Refusal // the first thing that is not as it should be; the sessions' own are found here

	Engine              string // "none" = somebody else forwards
	Programmed, Failing int    // addresses
	Members, Layer2     int    // living speakers; addresses announced by layer 2

	Sessions     []bgp.Session     // sorted by peer
	PeerAddrs    map[string]string // of the peers, by name
	BGPAddresses int               // announced to at least one peer
}

// SpeakerStatusWriter keeps the SpeakerStatus of one node up to date. It must not be used concurrently.
type SpeakerStatusWriter struct {
	live   client.Client
	cached client.Reader // for the Node
	name   client.ObjectKey

	last    *v1beta1.SpeakerStatusStatus // as written; nil = nothing yet
	written time.Time
}

// countsRest is how long mere counts, such as the prefixes that a peer has sent, may be out of date.
const countsRest = time.Minute

// NewSpeakerStatusWriter writes through live; the Node, which the object belongs to, is looked up in cached.
func NewSpeakerStatusWriter(live client.Client, cached client.Reader, node lb.NodeName, opts Options) *SpeakerStatusWriter {
	return &SpeakerStatusWriter{live: live, cached: cached, name: client.ObjectKey{Namespace: opts.Namespace, Name: string(node)}}
}

// Write brings the object up to date, and makes it if there is none. What is as it was is not written; if only counts differ, or
// the time of an error that was there before, a minute must have passed.
func (w *SpeakerStatusWriter) Write(ctx context.Context, r SpeakerReport, now time.Time) error {
	want := SpeakerStatus(r)
	if w.last != nil {
		quiet := equality.Semantic.DeepEqual(*w.last, want)
		if quiet || now.Sub(w.written) < countsRest && equality.Semantic.DeepEqual(withoutCounts(*w.last), withoutCounts(want)) {
			return nil
		}
	}
	err := w.patch(ctx, want)
	if apierrors.IsNotFound(err) {
		if err = w.create(ctx); err == nil {
			err = w.patch(ctx, want)
		}
	}
	if err != nil {
		return fmt.Errorf("writing SpeakerStatus %s: %w", w.name.Name, err)
	}
	w.last, w.written = &want, now
	return nil
}

func (w *SpeakerStatusWriter) patch(ctx context.Context, want v1beta1.SpeakerStatusStatus) error {
	body, err := json.Marshal([]map[string]any{{"op": "add", "path": "/status", "value": want}}) // which replaces what is there
	if err != nil {
		return err
	}
	object := &v1beta1.SpeakerStatus{ObjectMeta: metav1.ObjectMeta{Namespace: w.name.Namespace, Name: w.name.Name}}
	return w.live.Status().Patch(ctx, object, client.RawPatch(types.JSONPatchType, body))
}

// create makes the object, which goes with its Node.
func (w *SpeakerStatusWriter) create(ctx context.Context) error {
	var node corev1.Node
	if err := w.cached.Get(ctx, client.ObjectKey{Name: w.name.Name}, &node); err != nil {
		return fmt.Errorf("getting Node: %w", err)
	}
	err := w.live.Create(ctx, &v1beta1.SpeakerStatus{ObjectMeta: metav1.ObjectMeta{Namespace: w.name.Namespace, Name: w.name.Name,
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}}}})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// SpeakerStatus converts r. Of the states of a session that is being tried, which follow each other all the time, it says Active.
func SpeakerStatus(r SpeakerReport) v1beta1.SpeakerStatusStatus {
	out := v1beta1.SpeakerStatusStatus{
		Version: r.Version, State: v1beta1.SpeakerNotReady, Problem: string(r.Problem.Reason), Message: r.Problem.Message,
		Datapath: v1beta1.SpeakerDatapath{Engine: r.Engine, Programmed: int32(r.Programmed), Failing: int32(r.Failing)},
		Layer2:   v1beta1.SpeakerLayer2{Announced: int32(r.Layer2), Members: int32(r.Members)},
	}
	switch {
	case r.Draining:
		out.State = v1beta1.SpeakerDraining
	case r.Ready:
		out.State = v1beta1.SpeakerReady
	}
	if len(r.Sessions) == 0 {
		return out
	}
	out.BGP = &v1beta1.SpeakerBGP{Announced: int32(r.BGPAddresses)}
	up := 0
	for _, x := range r.Sessions {
		session := bgpSession(x, r.PeerAddrs[x.Peer])
		if x.State == bgp.Established {
			up++
		}
		if session.Reason != "" && out.Problem == "" {
			out.Problem, out.Message = session.Reason, fmt.Sprintf("BGPPeer %s: %s", x.Peer, session.Message)
		}
		out.BGP.Sessions = append(out.BGP.Sessions, session)
	}
	out.BGP.Summary = fmt.Sprintf("%d/%d", up, len(r.Sessions))
	return out
}

func bgpSession(x bgp.Session, addr string) v1beta1.BGPSession {
	out := v1beta1.BGPSession{
		Peer: x.Peer, Address: addr, State: string(x.State), Since: timeOf(x.Since), PeerASN: x.PeerASN, PeerID: x.PeerID, BFD: x.BFD,
		PrefixesSent: int32(x.Sent), PrefixesReceived: int32(x.PrefixesIn), Flaps: int64(x.Flaps), LastError: x.LastError, LastErrorTime: timeOf(x.LastErrorAt),
		Reason: string(x.Reason), Message: x.Message,
	}
	if x.State != bgp.Established && x.State != bgp.Idle {
		out.State = string(bgp.Active)
	}
	return out
}

// timeOf drops what the API server would drop.
func timeOf(t time.Time) *metav1.Time {
	if t.IsZero() {
		return nil
	}
	return &metav1.Time{Time: t.Truncate(time.Second)}
}

func withoutCounts(s v1beta1.SpeakerStatusStatus) v1beta1.SpeakerStatusStatus {
	out := *s.DeepCopy()
	out.Datapath.Programmed, out.Layer2.Announced = 0, 0
	if out.BGP == nil {
		return out
	}
	out.BGP.Announced = 0
	for i := range out.BGP.Sessions {
		x := &out.BGP.Sessions[i]
		x.PrefixesReceived, x.PrefixesSent, x.LastErrorTime = 0, 0, nil
	}
	return out
}
