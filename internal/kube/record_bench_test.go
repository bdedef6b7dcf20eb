package kube

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BenchmarkEvery: what one changed endpoint costs among 10,000 Services of five endpoints, and what they hold in memory: the
// cache's objects, as they come off the wire, and the nouns made of them.
func BenchmarkEvery(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	r := NewSpeakerReader(newFake(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}), Options{Namespace: home, Full: true})
	var changing *discoveryv1.EndpointSlice
	var last any
	for i := range 10000 {
		name := fmt.Sprintf("s%05d", i)
		ip := fmt.Sprintf("10.96.%d.%d", i>>8, i&255)
		svc := arrived(b, inside(name, func(s *corev1.Service) { s.Spec.ClusterIP, s.Spec.ClusterIPs = ip, []string{ip} }), &corev1.Service{})
		var eps []discoveryv1.Endpoint
		for j := range 5 {
			eps = append(eps, pod(fmt.Sprintf("10.%d.%d.%d", 128+j, i>>8, i&255), fmt.Sprint("node-", j), "rst"))
		}
		s := slice(8080, eps...)
		s.Name, s.Labels = name+"-abcde", map[string]string{discoveryv1.LabelServiceName: name}
		changing = arrived(b, s, &discoveryv1.EndpointSlice{})
		last = kept(b, r.opts, changing)
		r.record.service(nil, kept(b, r.opts, svc))
		r.record.slice(nil, last)
	}
	close(r.record.filled)
	if _, err := r.Facts(b.Context()); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for i := 0; b.Loop(); i++ {
		now := changing.DeepCopy()
		now.ResourceVersion = fmt.Sprint(i)
		*now.Endpoints[i%5].Conditions.Ready = i%2 == 0
		was := last
		last = kept(b, r.opts, now)
		r.record.slice(was, last)
		if _, err := r.Facts(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB-held")
}

// arrived returns what arrives of object at a client.
func arrived[T interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}](b *testing.B, object, into T) T {
	b.Helper()
	wire, err := object.Marshal()
	if err == nil {
		err = into.Unmarshal(wire)
	}
	if err != nil {
		b.Fatal(err)
	}
	return into
}
