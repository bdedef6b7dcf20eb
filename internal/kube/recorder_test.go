package kube

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestRecorder(t *testing.T) {
	sink := events.NewFakeRecorder(10)
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	r := &Recorder{client: fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(svc).Build(), events: sink}
	r.Event(lb.ServiceKey{Namespace: "default", Name: "gone"}, false, "Announcing", "nothing")
	r.Event(lb.ServiceKey{Namespace: "default", Name: "web"}, false, "Announcing", "100% on node-1")
	r.Event(lb.ServiceKey{Namespace: "default", Name: "web"}, true, "AddressConflict", "somebody else")
	for _, want := range []string{"Normal Announcing 100% on node-1", "Warning AddressConflict somebody else"} {
		if got := <-sink.Events; got != want {
			t.Errorf("recorded %q, want %q", got, want)
		}
	}
	if len(sink.Events) != 0 {
		t.Errorf("%d more Events", len(sink.Events))
	}
}
