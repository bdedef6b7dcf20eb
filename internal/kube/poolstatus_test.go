package kube

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

func testPool(namespace, name string, addresses ...string) *v1beta1.IPAddressPool {
	return &v1beta1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Generation: 2}, Spec: v1beta1.IPAddressPoolSpec{Addresses: addresses}}
}

func TestWritePools(t *testing.T) {
	ctx := t.Context()
	cluster, api, recorder := newTestCluster(
		testPool(home, "good", "192.0.2.0/28"), testPool(home, "bad", "192.0.2.9-192.0.2.1"),
		testPool(home, "over", "198.51.100.0/28"), testPool(home, "lap", "198.51.100.1/32"), testPool("default", "astray", "203.0.113.0/24"),
		&v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Namespace: home, Name: "l2"}},
		&v1beta1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "astray"}},
	)
	counts := []PoolCounts{{Pool: "good", IPv4: AddressCounts{Total: 16, Assigned: 1, Available: 15, Resting: 2}, IPv6: AddressCounts{Total: 3, Available: 3}}, {Pool: "astray", IPv4: AddressCounts{Assigned: 9}}}
	if err := cluster.WritePools(ctx, counts); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var pools v1beta1.IPAddressPoolList
	if err := api.List(ctx, &pools); err != nil {
		t.Fatal(err)
	}
	for _, p := range pools.Items {
		c := meta.FindStatusCondition(p.Status.Conditions, ConditionReady)
		got[p.Name] = string(c.Status) + " " + c.Reason
		if p.Name == "good" && (p.Status.AssignedIPv4 != 1 || p.Status.AvailableIPv4 != 15 || p.Status.TotalIPv4 != 16 || p.Status.RestingIPv4 != 2 || p.Status.AvailableIPv6 != 3 || c.ObservedGeneration != 2) {
			t.Errorf("good has status %+v", p.Status)
		}
		if p.Name == "astray" && p.Status.AssignedIPv4 != 0 {
			t.Errorf("astray has status %+v", p.Status)
		}
	}
	want := map[string]string{"good": "True Ready", "bad": "False InvalidSpec", "over": "True PoolOverlap", "lap": "True PoolOverlap", "astray": "False WrongNamespace"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("conditions: -want +got:\n%s", diff)
	}
	if n := len(recorded(recorder)); n != 5 {
		t.Errorf("%d events, want one for each of four pools and one advertisement", n)
	}
	var l2 v1beta1.L2Advertisement
	if err := api.Get(ctx, client.ObjectKey{Namespace: home, Name: "l2"}, &l2); err != nil || !meta.IsStatusConditionTrue(l2.Status.Conditions, ConditionReady) {
		t.Errorf("advertisement: %v, %+v", err, l2.Status)
	}
	before := l2.ResourceVersion
	if err := cluster.WritePools(ctx, counts); err != nil || len(recorded(recorder)) > 0 {
		t.Errorf("a second time: %v", err)
	}
	if err := api.Get(ctx, client.ObjectKey{Namespace: home, Name: "l2"}, &l2); err != nil || l2.ResourceVersion != before {
		t.Errorf("a second time wrote again: %v", err)
	}
}

func TestStockConditions(t *testing.T) {
	for name, c := range map[string]struct {
		counts PoolCounts
		want   []string // the conditions that are true
	}{
		"empty":           {counts: PoolCounts{IPv4: AddressCounts{Total: 10, Available: 10}}},
		"below the mark":  {counts: PoolCounts{IPv4: AddressCounts{Total: 20, Assigned: 17, Available: 3}}},
		"nearly full":     {counts: PoolCounts{IPv4: AddressCounts{Total: 20, Assigned: 18, Available: 2}}, want: []string{"NearlyFull PoolNearlyFull 18 of 20 IPv4 addresses are in use; add addresses or delete Services"}},
		"one family full": {counts: PoolCounts{IPv4: AddressCounts{Total: 9, Available: 9}, IPv6: AddressCounts{Total: 1, Assigned: 1}}, want: []string{"Exhausted PoolExhausted 1 of 1 IPv6 addresses are in use; add addresses or delete Services", "NearlyFull PoolNearlyFull 1 of 1 IPv6 addresses are in use; add addresses or delete Services"}},
		"a week left":     {counts: PoolCounts{IPv4: AddressCounts{Total: 20, Assigned: 5, Available: 15}, DaysLeft: map[lb.Family]int{lb.IPv4: 7}}},
		"days left":       {counts: PoolCounts{IPv4: AddressCounts{Total: 20, Assigned: 5, Available: 15}, DaysLeft: map[lb.Family]int{lb.IPv4: 6}}, want: []string{"NearlyFull PoolNearlyFull at the rate of the last days no IPv4 address is left in 6 days; add addresses or delete Services"}},
	} {
		var got []string
		for _, condition := range stockConditions(c.counts, 7) {
			if condition.Status == metav1.ConditionTrue {
				got = append(got, condition.Type+" "+condition.Reason+" "+condition.Message)
			}
			if condition.ObservedGeneration != 7 || condition.Reason == "" {
				t.Errorf("%s: %+v", name, condition)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// poolEnv is an API server in memory with one pool, whose status is written.
type poolEnv struct {
	t       *testing.T
	cluster *Cluster
	api     client.Client
	events  *events.FakeRecorder
}

// write writes the counts and returns the pool's status and the Events.
func (e poolEnv) write(counts ...PoolCounts) (*v1beta1.IPAddressPool, []string) {
	e.t.Helper()
	if err := e.cluster.WritePools(e.t.Context(), counts); err != nil {
		e.t.Fatal(err)
	}
	var p v1beta1.IPAddressPool
	if err := e.api.Get(e.t.Context(), client.ObjectKey{Namespace: home, Name: "p"}, &p); err != nil {
		e.t.Fatal(err)
	}
	return &p, recorded(e.events)
}

func TestPoolEventsTellOfChangesOnce(t *testing.T) {
	cluster, api, recorder := newTestCluster(testPool(home, "p", "192.0.2.0/28"))
	e := poolEnv{t, cluster, api, recorder}
	used := func(n int64) PoolCounts {
		return PoolCounts{Pool: "p", IPv4: AddressCounts{Total: 16, Assigned: n, Available: 16 - n}}
	}
	for i, c := range []struct {
		counts PoolCounts
		want   []string
	}{
		{used(0), nil},
		{used(15), []string{"Warning PoolNearlyFull 15 of 16 IPv4 addresses are in use; add addresses or delete Services"}},
		{used(16), []string{"Warning PoolExhausted 16 of 16 IPv4 addresses are in use; add addresses or delete Services"}},
		{used(16), nil},
		{used(15), []string{"Normal AddressesLeft there are addresses of each family again"}},
		{used(3), nil},
		{used(16), []string{"Warning PoolExhausted 16 of 16 IPv4 addresses are in use; add addresses or delete Services", "Warning PoolNearlyFull 16 of 16 IPv4 addresses are in use; add addresses or delete Services"}},
	} {
		p, got := e.write(c.counts)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("step %d: events: -want +got:\n%s", i, diff)
		}
		for _, condition := range p.Status.Conditions {
			if condition.ObservedGeneration != p.Generation {
				t.Errorf("step %d: %s is of generation %d, the pool of %d", i, condition.Type, condition.ObservedGeneration, p.Generation)
			}
		}
	}
	p, _ := e.write(used(16))
	p.Generation, p.Spec.Addresses = 3, []string{"192.0.2.0/28", "nonsense"}
	if err := api.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	p, got := e.write(used(16))
	if len(got) != 1 || !strings.HasPrefix(got[0], "Warning InvalidSpec") {
		t.Errorf("events of a wrong entry: %q", got)
	}
	p.Generation, p.Labels = 4, map[string]string{"a": "b"}
	if err := api.Update(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if p, got = e.write(used(16)); len(got) > 0 || p.Status.Conditions[0].ObservedGeneration != 4 {
		t.Errorf("an edit that changes nothing: events %q, conditions %+v", got, p.Status.Conditions)
	}
}

func TestPoolStatusKeepsTheForecast(t *testing.T) {
	cluster, api, recorder := newTestCluster(testPool(home, "p", "192.0.2.0/28"))
	e := poolEnv{t, cluster, api, recorder}
	day := func(n int) time.Time { return time.Date(2026, 1, n, 6, 30, 0, 0, time.UTC) }
	counts := PoolCounts{
		Pool: "p", IPv4: AddressCounts{Total: 16, Assigned: 9, Available: 7}, DaysLeft: map[lb.Family]int{lb.IPv4: 9, lb.IPv6: 0},
		History: []lb.Sample{{At: day(1), IPv4: 5}, {At: day(2), IPv4: 7, IPv6: 2}},
	}
	p, _ := e.write(counts)
	if s := p.Status; s.DaysLeftIPv4 == nil || *s.DaysLeftIPv4 != 9 || s.DaysLeftIPv6 == nil || *s.DaysLeftIPv6 != 0 {
		t.Errorf("days left %v, %v", s.DaysLeftIPv4, s.DaysLeftIPv6)
	}
	version := p.ResourceVersion
	if p, _ = e.write(counts); p.ResourceVersion != version {
		t.Error("the same status was written again")
	}
	pools, err := cluster.Pools(t.Context())
	if err != nil || len(pools) != 1 {
		t.Fatalf("%+v, %v", pools, err)
	}
	if diff := cmp.Diff(counts.History, pools[0].History); diff != "" {
		t.Errorf("history: -want +got:\n%s", diff)
	}
	if p, _ = e.write(); len(p.Status.UsageHistory) != 2 || p.Status.AssignedIPv4 != 9 {
		t.Errorf("a pool that nobody has counted lost what was known: %+v", p.Status)
	}
	counts.DaysLeft = nil
	if p, _ = e.write(counts); p.Status.DaysLeftIPv4 != nil || p.Status.DaysLeftIPv6 != nil || len(p.Status.UsageHistory) != 2 {
		t.Errorf("without a forecast: %+v", p.Status)
	}
	facts, err := cluster.cached.Facts(t.Context())
	if err != nil || len(facts.Pools) != 1 || facts.Pools[0].History != nil {
		t.Errorf("the speakers' facts change with every sample: %+v, %v", facts.Pools, err)
	}
}
