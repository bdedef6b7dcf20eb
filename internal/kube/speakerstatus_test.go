package kube

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

func speakerReport() SpeakerReport {
	return SpeakerReport{Version: "v1", Ready: true, Engine: "ipvs", Programmed: 3, Members: 2, Layer2: 1, BGPAddresses: 2,
		PeerAddrs: map[string]string{"a": "192.0.2.1", "b": "192.0.2.2"},
		Sessions: []bgp.Session{
			{Peer: "a", State: bgp.Established, Since: time.Unix(100, 5), PeerASN: 64513, PeerID: "9.9.9.9", BFD: "Up", Sent: 2, PrefixesIn: 7, Flaps: 1, LastError: "Hold Timer Expired", LastErrorAt: time.Unix(90, 0)},
			{Peer: "b", State: bgp.OpenSent, Since: time.Unix(50, 0), Reason: "BGPWrongASN", Message: "as it is"},
		}}
}

func TestSpeakerStatus(t *testing.T) {
	got := SpeakerStatus(speakerReport())
	want := v1beta1.SpeakerStatusStatus{
		Version: "v1", State: "Ready", Problem: "BGPWrongASN", Message: "BGPPeer b: as it is",
		Datapath: v1beta1.SpeakerDatapath{Engine: "ipvs", Programmed: 3}, Layer2: v1beta1.SpeakerLayer2{Announced: 1, Members: 2},
		BGP: &v1beta1.SpeakerBGP{Summary: "1/2", Announced: 2, Sessions: []v1beta1.BGPSession{
			{Peer: "a", Address: "192.0.2.1", State: "Established", Since: &metav1.Time{Time: time.Unix(100, 0)}, PeerASN: 64513, PeerID: "9.9.9.9", BFD: "Up", PrefixesSent: 2, PrefixesReceived: 7,
				Flaps: 1, LastError: "Hold Timer Expired", LastErrorTime: &metav1.Time{Time: time.Unix(90, 0)}},
			{Peer: "b", Address: "192.0.2.2", State: "Active", Since: &metav1.Time{Time: time.Unix(50, 0)}, Reason: "BGPWrongASN", Message: "as it is"},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		report SpeakerReport
		state  string
	}{{SpeakerReport{}, "NotReady"}, {SpeakerReport{Ready: true, Draining: true}, "Draining"}} {
		if got := SpeakerStatus(c.report); got.State != c.state || got.BGP != nil {
			t.Errorf("%+v is %+v", c.report, got)
		}
	}
	own := speakerReport()
	own.Problem = lb.Refusal{Reason: lb.DatapathNotReady, Message: "no"}
	if got := SpeakerStatus(own); got.Problem != "DatapathNotReady" {
		t.Errorf("the speaker's own problem comes second: %+v", got)
	}
}

// Writes are bounded: the first at once, then those with news, and mere counts once in a minute.
func TestSpeakerStatusWrites(t *testing.T) {
	writes := 0
	c := fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1"}}).
		WithStatusSubresource(&v1beta1.SpeakerStatus{}).
		WithInterceptorFuncs(interceptor.Funcs{SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			err := c.SubResource(sub).Patch(ctx, o, p, opts...)
			if err == nil {
				writes++
			}
			return err
		}}).Build()
	w := NewSpeakerStatusWriter(c, c, "n1", Options{Namespace: home})
	now := time.Unix(1000, 0)
	write := func(name string, want int, edit func(*SpeakerReport)) {
		t.Helper()
		r := speakerReport()
		edit(&r)
		writes = 0
		if err := w.Write(t.Context(), r, now); err != nil || writes != want {
			t.Errorf("%s: %d writes, want %d, %v", name, writes, want, err)
		}
	}
	stored := func() v1beta1.SpeakerStatus {
		t.Helper()
		var s v1beta1.SpeakerStatus
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: home, Name: "n1"}, &s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	more := func(r *SpeakerReport) { r.Sessions[0].PrefixesIn, r.Sessions[1].LastErrorAt = 8, now }
	write("first", 1, func(*SpeakerReport) {})
	if s := stored(); s.Status.BGP.Summary != "1/2" || len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != "u1" {
		t.Errorf("stored %+v", s)
	}
	write("the same", 0, func(*SpeakerReport) {})
	write("counts", 0, more)
	now = now.Add(countsRest)
	write("counts a minute later", 1, more)
	write("tried again", 0, func(r *SpeakerReport) { more(r); r.Sessions[1].State = bgp.Connect })
	write("a session", 1, func(r *SpeakerReport) {
		more(r)
		r.Sessions[1].State, r.Sessions[1].Reason, r.Sessions[1].Message = bgp.Established, "", ""
	})
	if s := stored().Status; s.Problem != "" || s.Message != "" || s.BGP.Summary != "2/2" {
		t.Errorf("an old problem has stayed: %+v", s)
	}
	write("no peers any more", 1, func(r *SpeakerReport) { r.Sessions = nil })
	if s := stored().Status; s.BGP != nil {
		t.Errorf("old sessions have stayed: %+v", s)
	}
	if err := c.Delete(t.Context(), &v1beta1.SpeakerStatus{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "n1"}}); err != nil {
		t.Fatal(err)
	}
	write("deleted", 1, func(r *SpeakerReport) { r.Version = "v2" })

	stranger := NewSpeakerStatusWriter(c, c, "n9", Options{Namespace: home})
	if err := stranger.Write(t.Context(), speakerReport(), now); err == nil || !strings.Contains(err.Error(), "getting Node") {
		t.Errorf("without a Node: %v", err)
	}
}
