package kube

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/lb"
)

func namespace(pairs ...string) *corev1.Namespace {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default", Annotations: map[string]string{}}}
	for i := 0; i < len(pairs); i += 2 {
		ns.Annotations[pairs[i]] = pairs[i+1]
	}
	return ns
}

func TestQuota(t *testing.T) {
	for name, c := range map[string]struct {
		ns     *corev1.Namespace
		max    int
		source string // a part of it
	}{
		"not said": {namespace(), 5, "overrides --max-addresses-per-namespace"},
		"said":     {namespace("fairlead.dev/max-addresses", "7"), 7, "annotation fairlead.dev/max-addresses of the Namespace"},
		"none":     {namespace("fairlead.dev/max-addresses", "0"), 0, ""},
		"no word":  {namespace("fairlead.dev/max-addresses", "many"), 5, `which is "many", not a number from 0`},
		"negative": {namespace("fairlead.dev/max-addresses", "-1"), 5, `which is "-1"`},
		"empty":    {namespace("fairlead.dev/max-addresses", ""), 5, `which is ""`},
	} {
		got, refusal := Quota(c.ns, 5)
		if got.Max != c.max || !strings.Contains(got.Source, c.source) {
			t.Errorf("%s: %+v, want %d and %q", name, got, c.max, c.source)
		}
		if unreadable := strings.Contains(c.source, "which is"); refusal.OK() == unreadable || unreadable && refusal.Reason != lb.BadRequest {
			t.Errorf("%s: refusal %v", name, refusal)
		}
	}
	cluster, _, _ := newTestCluster(web(), namespace("fairlead.dev/max-addresses", "3"))
	w, err := cluster.Service(t.Context(), lb.ServiceKey{Namespace: "default", Name: "web"})
	if err != nil || w.Service.Quota.Max != 3 {
		t.Errorf("the Service says %+v, %v", w.Service.Quota, err)
	}
	existing, err := cluster.Existing(t.Context())
	if err != nil || len(existing) != 1 || existing[0].Service.Quota.Max != 3 {
		t.Errorf("the existing Services say %+v, %v", existing, err)
	}
	lonely, _, _ := newTestCluster(web())
	lonely.opts.MaxPerNamespace = 4
	if existing, err = lonely.Existing(t.Context()); err != nil || len(existing) != 1 || existing[0].Service.Quota.Max != 4 {
		t.Errorf("of a Namespace that the cache has not seen yet: %+v, %v", existing, err)
	}
}

// While nobody is refused by it, nothing but an Event tells that a quota is not in force.
func TestANamespaceIsToldOnceThatItsQuotaCannotBeRead(t *testing.T) {
	const name = "fairlead.dev/max-addresses"
	cluster, c, recorder := newTestCluster(namespace(name, "many"), testPool(home, "p", "192.0.2.0/28"))
	for _, step := range []struct{ value, want string }{
		{"many", `Warning BadRequest annotation fairlead.dev/max-addresses is "many", not a number from 0 (no quota) up, so that --max-addresses-per-namespace of lbcontroller counts`},
		{"many", ""},
		{"2", ""},
		{"", `Warning BadRequest annotation fairlead.dev/max-addresses is "", not a number from 0 (no quota) up, so that --max-addresses-per-namespace of lbcontroller counts`},
		{"many", `Warning BadRequest annotation fairlead.dev/max-addresses is "many", not a number from 0 (no quota) up, so that --max-addresses-per-namespace of lbcontroller counts`},
	} {
		if err := c.Update(t.Context(), namespace(name, step.value)); err != nil {
			t.Fatal(err)
		}
		if err := cluster.WritePools(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		got := slices.DeleteFunc(recorded(recorder), func(e string) bool { return !strings.Contains(e, name) })
		if strings.Join(got, "; ") != step.want {
			t.Errorf("with %q: Events %q, want %q", step.value, got, step.want)
		}
	}
}

func TestNamespaceMatters(t *testing.T) {
	labelled := namespace()
	labelled.Labels = map[string]string{"a": "b"}
	for name, c := range map[string]struct {
		old, now any
		want     bool
	}{
		"new":           {nil, namespace(), true},
		"deleted":       {namespace(), nil, true},
		"nothing":       {namespace(), namespace(), false},
		"labels":        {namespace(), labelled, true},
		"another's":     {namespace(), namespace("example.org/owner", "x"), false},
		"quota set":     {namespace(), namespace("fairlead.dev/max-addresses", ""), true},
		"quota raised":  {namespace("fairlead.dev/max-addresses", "1"), namespace("fairlead.dev/max-addresses", "2"), true},
		"quota deleted": {namespace("fairlead.dev/max-addresses", "1"), namespace(), true},
	} {
		if got := namespaceMatters(c.old, c.now); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestPerFamily(t *testing.T) {
	for value, want := range map[string]int{"1": 1, "16": 16, "0": 0, "17": 0, "-1": 0, "two": 0, "": 0, "1.5": 0} {
		got, refusal := Service(web(annotated("fairlead.dev/addresses-per-family", value)), nil)
		bad := want == 0
		if got.PerFamily != want || (refusal.Reason == lb.BadRequest) != bad || bad && !strings.Contains(refusal.Message, `fairlead.dev/addresses-per-family is "`+value+`"; write a number from 1 to 16`) {
			t.Errorf("%q: %d, %q", value, got.PerFamily, refusal)
		}
	}
	many := strings.TrimSuffix(strings.Repeat("2001:db8::N,", 17), ",")
	for i := range 17 {
		many = strings.Replace(many, "N", string(rune('0'+i%10))+string(rune('a'+i%6)), 1)
	}
	if _, refusal := Service(web(annotated("fairlead.dev/loadBalancerIPs", many)), nil); !strings.Contains(refusal.Message, "lists 17 IPv6 addresses; list 16 at most") {
		t.Errorf("seventeen of a family: %q", refusal)
	}
}
