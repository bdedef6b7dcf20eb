package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const restTime = time.Minute

// newPoolNamed makes a pool of entries "from-to" that assigns by itself.
func newPoolNamed(name string, entries ...string) lb.Pool {
	p := lb.Pool{Name: name, AutoAssign: true}
	for _, e := range entries {
		from, to, _ := strings.Cut(e, "-")
		p.Ranges = append(p.Ranges, rangeOf(from, to))
	}
	return p
}

func restful(name string, rest time.Duration, entries ...string) lb.Pool {
	return with(newPoolNamed(name, entries...), func(p *lb.Pool) { p.Rest = &rest })
}

func with(p lb.Pool, edits ...func(*lb.Pool)) lb.Pool {
	for _, edit := range edits {
		edit(&p)
	}
	return p
}

func service(name string, edits ...func(*lb.Service)) lb.Service {
	s := lb.Service{
		Key: lb.ServiceKey{Namespace: "default", Name: name}, UID: "uid-" + name,
		Families: []lb.Family{lb.IPv4}, FamilyPolicy: lb.SingleStack, ExternalTrafficPolicy: lb.Cluster,
		Ports: []lb.Port{{Name: "http", Protocol: lb.TCP, Port: 80}}, Selector: "app=" + name,
	}
	for _, e := range edits {
		e(&s)
	}
	return s
}

func addrs(texts ...string) []netip.Addr {
	var out []netip.Addr
	for _, text := range texts {
		out = append(out, netip.MustParseAddr(text))
	}
	return out
}

func asks(texts ...string) func(*lb.Service) {
	return func(s *lb.Service) { s.RequestedAddrs = addrs(texts...) }
}
func fromPool(name string) func(*lb.Service) { return func(s *lb.Service) { s.RequestedPool = name } }
func shares(key string) func(*lb.Service)    { return func(s *lb.Service) { s.SharingKey = key } }
func port(n uint16) func(*lb.Service) {
	return func(s *lb.Service) { s.Ports = []lb.Port{{Protocol: lb.TCP, Port: n}} }
}
func in(namespace string) func(*lb.Service) {
	return func(s *lb.Service) { s.Key.Namespace = namespace }
}
func released(s *lb.Service)         { s.Release = true }
func uid(u string) func(*lb.Service) { return func(s *lb.Service) { s.UID = u } }
func localPods(selector string) func(*lb.Service) {
	return func(s *lb.Service) { s.ExternalTrafficPolicy, s.Selector = lb.Local, selector }
}
func each(n int) func(*lb.Service) { return func(s *lb.Service) { s.PerFamily = n } }
func mayOwn(n int) func(*lb.Service) {
	return func(s *lb.Service) {
		s.Quota = lb.Quota{Max: n, Source: "annotation fairlead.dev/max-addresses of the Namespace"}
	}
}
func dual(p lb.FamilyPolicy, families ...lb.Family) func(*lb.Service) {
	return func(s *lb.Service) {
		s.FamilyPolicy, s.Families = p, families
		if len(families) == 0 {
			s.Families = []lb.Family{lb.IPv4, lb.IPv6}
		}
	}
}
func has(pool string, texts ...string) func(*lb.Service) {
	return func(s *lb.Service) {
		s.Pool, s.Ingress = pool, nil
		for _, a := range addrs(texts...) {
			s.Ingress = append(s.Ingress, lb.Ingress{Addr: a, Mode: lb.ModeProxy})
		}
	}
}

// step is one act in the life of an allocator, and what it must answer.
type step struct {
	after   time.Duration // since the start
	adopt   *lb.Service
	pools   []lb.Pool // replaces the pools if not nil
	release string
	ensure  *lb.Service
	pool    string
	addrs   []netip.Addr
	reason  lb.Reason
	message string // a part of it
}

func ensure(s lb.Service, pool string, texts ...string) step {
	return step{ensure: &s, pool: pool, addrs: addrs(texts...)}
}
func refuse(s lb.Service, reason lb.Reason, message string, kept ...string) step {
	return short(s, "", reason, message, kept...)
}
func adopt(s lb.Service, reason lb.Reason) step { return step{adopt: &s, reason: reason} }
func short(s lb.Service, pool string, reason lb.Reason, message string, texts ...string) step {
	return step{ensure: &s, pool: pool, reason: reason, message: message, addrs: addrs(texts...)}
}
func pools(list ...lb.Pool) step       { return step{pools: append([]lb.Pool{}, list...)} }
func (s step) at(d time.Duration) step { s.after = d; return s }
func (s step) inPool(name string) step { s.pool = name; return s }

func run(t *testing.T, steps []step) {
	t.Helper()
	a := New(restTime)
	for i, s := range steps {
		now := epoch.Add(s.after)
		var got Assignment
		var refusal lb.Refusal
		switch {
		case s.pools != nil:
			a.SetPools(s.pools, now)
			continue
		case s.release != "":
			a.Release(lb.ServiceKey{Namespace: "default", Name: s.release}, now)
			continue
		case s.adopt != nil:
			refusal = a.Adopt(*s.adopt)
		default:
			got, refusal = a.Ensure(*s.ensure, now)
		}
		if refusal.Reason != s.reason || !strings.Contains(refusal.Message, s.message) {
			t.Errorf("step %d: refusal %q, want %s with %q", i, refusal, s.reason, s.message)
		}
		if s.ensure == nil {
			continue
		}
		if !slices.Equal(got.Addrs, s.addrs) {
			t.Errorf("step %d: %s has %v, want %v", i, s.ensure.Key, got.Addrs, s.addrs)
		}
		if s.pool != got.Pool {
			t.Errorf("step %d: %s is from pool %q, want %q", i, s.ensure.Key, got.Pool, s.pool)
		}
	}
}
