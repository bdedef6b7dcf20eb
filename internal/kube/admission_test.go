package kube

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/internal/admission"
)

func testNode() *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{"a": "b"}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24", "fd00:10:244:1::/64"}, Unschedulable: true},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeInternalIP, Address: "192.0.2.11"}, {Type: corev1.NodeHostName, Address: "192.0.2.11"},
			{Type: corev1.NodeExternalIP, Address: "203.0.113.7"}, {Type: corev1.NodeHostName, Address: "n1.example"},
		}},
	}
}

// admissionReader reads cached things from one API server in memory and everything else from another.
func admissionReader(cached, live client.Client) *AdmissionReader {
	opts := Options{Namespace: home}
	return &AdmissionReader{cluster: &Cluster{cached: NewReader(cached, opts), live: live, opts: opts}, nodes: cached}
}

func reservedTexts(f admission.Facts) map[string]string {
	out := map[string]string{}
	for _, r := range f.Reserved {
		out[r.Range.String()] = r.What
	}
	return out
}

func TestAdmissionFacts(t *testing.T) {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: home}}
	kubernetes := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}, Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1", "fd00:10:96::1"}}}
	cidr := &networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}}
	advertisement := &v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "a"}}
	ending := space.DeepCopy()
	ending.Finalizers = []string{"kubernetes"}
	ending.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	live := newFake(testPool(home, "p", "192.0.2.0/28"), testPool("default", "astray", "203.0.113.0/24"), advertisement, cidr, kubernetes, ending)
	r := admissionReader(newFake(web(), space, testNode()), live)

	f, err := r.Facts(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Pools) != 1 || f.Pools[0].Name != "p" || len(f.L2) != 1 || f.Namespace != home {
		t.Errorf("pools and advertisements are not those of the API server: %+v", f)
	}
	if len(f.Services) != 1 || f.Terminating {
		t.Errorf("Services and namespace are not those of the cache: %+v", f)
	}
	want := map[string]string{
		"192.0.2.11-192.0.2.11":                             "an address of Node n1",
		"203.0.113.7-203.0.113.7":                           "an address of Node n1",
		"10.244.1.0-10.244.1.255":                           "out of 10.244.1.0/24, from which Node n1 gives addresses to pods",
		"fd00:10:244:1::-fd00:10:244:1:ffff:ffff:ffff:ffff": "out of fd00:10:244:1::/64, from which Node n1 gives addresses to pods",
		"10.96.0.0-10.96.255.255":                           "out of 10.96.0.0/16, from which ServiceCIDR kubernetes gives ClusterIPs",
	}
	if diff := cmp.Diff(want, reservedTexts(f)); diff != "" || len(f.Reserved) != len(want) {
		t.Errorf("reserved, %d: -want +got:\n%s", len(f.Reserved), diff)
	}
	if f, err = r.Facts(t.Context(), true); err != nil || len(f.Services) != 0 || !f.Terminating {
		t.Errorf("Services and namespace are not fresh: %+v, %v", f, err)
	}
}

// listing returns an API server in memory that answers lists of ServiceCIDRs with the error.
func listing(err error, objects ...client.Object) client.Client {
	return fake.NewClientBuilder().WithScheme(Scheme()).WithObjects(objects...).WithInterceptorFuncs(interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if _, ok := list.(*networkingv1.ServiceCIDRList); ok {
				return err
			}
			return c.List(ctx, list, opts...)
		},
	}).Build()
}

func TestAdmissionFactsWithoutServiceCIDRs(t *testing.T) {
	space := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: home}}
	kubernetes := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"}, Spec: corev1.ServiceSpec{ClusterIPs: []string{"10.96.0.1", "fd00:10:96::1"}}}
	gone := apierrors.NewNotFound(schema.GroupResource{Group: "networking.k8s.io", Resource: "servicecidrs"}, "")
	f, err := admissionReader(newFake(space), listing(gone, kubernetes)).Facts(t.Context(), false)
	what := "the ClusterIP of Service default/kubernetes"
	if diff := cmp.Diff(map[string]string{"10.96.0.1-10.96.0.1": what, "fd00:10:96::1-fd00:10:96::1": what}, reservedTexts(f)); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	broken := errors.New("broken")
	if _, err := admissionReader(newFake(space), listing(broken)).Facts(t.Context(), false); !errors.Is(err, broken) {
		t.Errorf("got %v, want the API server's error", err)
	}
}

func TestOnlyAddresses(t *testing.T) {
	n := testNode()
	want := reservedByNode(n)
	if _, err := onlyAddresses(n); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, reservedByNode(n), compareAddrs); diff != "" || n.Labels["a"] != "b" || n.Spec.Unschedulable {
		t.Errorf("left %+v; -want +got:\n%s", n, diff)
	}
}
