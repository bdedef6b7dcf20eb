package admission

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/api/v1beta1"
	"github.com/fairlead-lb/fairlead/lb"
)

// FuzzDecide feeds objects as they come off the wire. Whatever they are, there is an answer; a change that changes nothing
// passes, and no warning has a line break, which HTTP headers cannot carry.
func FuzzDecide(f *testing.F) {
	seed := `{"metadata":{"namespace":"fairlead-system","name":"p"},"spec":{"addresses":["192.0.2.0/24","2001:db8::/64"],"serviceAllocation":{"namespaces":["shop"],"serviceSelectors":[{"matchLabels":{"a":"b"}}]}}}`
	f.Add(seed, strings.Replace(seed, "192.0.2.0/24", "192.0.2.128-192.0.2.255", 1), "192.0.2.7", 0)
	f.Add(`{}`, seed, "2001:db8::1", 1)
	f.Add(seed, `{"metadata":{"deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{"addresses":["0.0.0.0/0","::/0"]}}`, "0.0.0.0", 2)
	f.Add(`{"spec":{"addresses":["-","/","1-","::ffff:1.2.3.4/96","255.255.255.255-255.255.255.255",""]}}`, seed, "", 2)
	f.Fuzz(func(t *testing.T, oldText, newText, address string, operation int) {
		old, now := parsed(oldText), parsed(newText)
		addr, _ := netip.ParseAddr(address)
		facts := Facts{
			Namespace: "fairlead-system",
			Pools:     []lb.Pool{old.Parsed, {Name: "q", Ranges: []lb.Range{{From: addr, To: addr}}}},
			Services:  []lb.Service{{Key: lb.ServiceKey{Namespace: "shop", Name: "web"}, Pool: "p", Ingress: []lb.Ingress{{Addr: addr}}}},
			Reserved:  []Reserved{{lb.Range{From: addr, To: addr}, "an address"}},
		}
		op := []Operation{Create, Update, Delete, "CONNECT", ""}[uint(operation)%5]
		for _, r := range []Request{
			{Operation: op, OldPool: old, NewPool: now},
			{Operation: op, NewPool: now},
			{Operation: op, OldPool: old},
			{Operation: op, OldAdvertisement: advert(oldText), NewAdvertisement: advert(newText)},
		} {
			for _, w := range Decide(r, facts).Warnings {
				if strings.ContainsAny(w.Message, "\r\n") {
					t.Errorf("a line break in %q", w.Message)
				}
			}
		}
		if d := Decide(Request{Operation: Update, OldPool: now, NewPool: parsed(newText)}, facts); !d.Allowed() {
			t.Errorf("a change that changes nothing is refused: %v", d.Refusals)
		}
	})
}

func parsed(text string) *Pool {
	p := &Pool{Object: &v1beta1.IPAddressPool{}}
	_ = json.Unmarshal([]byte(text), p.Object) // as far as it goes
	p.Parsed = named(p.Object.Name, p.Object.Spec.Addresses...).Parsed
	if a := p.Object.Spec.ServiceAllocation; a != nil {
		p.Parsed.Namespaces = a.Namespaces
	}
	return p
}

func advert(text string) *v1beta1.L2Advertisement {
	a := &v1beta1.L2Advertisement{}
	_ = json.Unmarshal([]byte(text), a)
	return a
}
