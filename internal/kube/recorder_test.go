package kube

import (
	"testing"

	"k8s.io/client-go/tools/events"

	"github.com/fairlead-lb/fairlead/lb"
)

func TestRecorder(t *testing.T) {
	sink := events.NewFakeRecorder(10)
	reader := watching(t, Options{Namespace: home})
	reader.record.service(nil, kept(t, reader.opts, web()))
	r := &Recorder{reader: reader, events: sink}
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
