package speaker

import (
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestKernelAnswers(t *testing.T) {
	v6 := netip.MustParseAddr("2001:db8::200")
	tests := []struct {
		name    string
		vip     netip.Addr
		holders []string
		ignore  int
		want    string // part of the sentence; "" = silent
	}{
		{name: "nobody has it", vip: vip},
		{name: "kube-proxy without strictARP", vip: vip, holders: []string{"kube-ipvs0"}, want: "kube-ipvs0 has the address: set ipvs.strictARP"},
		{name: "kube-proxy with strictARP", vip: vip, holders: []string{"kube-ipvs0"}, ignore: 1},
		{name: "the interface itself", vip: vip, holders: []string{"eth0"}, ignore: 1, want: "ip address del 192.0.2.200/32 dev eth0"},
		{name: "IPv6 elsewhere", vip: v6, holders: []string{"kube-ipvs0"}},
		{name: "IPv6 on the interface itself", vip: v6, holders: []string{"eth0", "kube-ipvs0"}, want: "ip address del 2001:db8::200/128 dev eth0"},
	}
	for _, tt := range tests {
		k := Kernel{Assigned: map[netip.Addr][]string{tt.vip: tt.holders}, ARPIgnore: map[string]int{"eth0": tt.ignore}}
		if got := k.answers(tt.vip, "eth0"); (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// holders is a KernelSource in which these interfaces have vip.
type holders struct{ now atomic.Pointer[[]string] }

// Kernel implements KernelSource.
func (h *holders) Kernel() (Kernel, error) {
	return Kernel{Assigned: map[netip.Addr][]string{vip: *h.now.Load()}}, nil
}

func TestAKernelThatAnswersIsReportedOnce(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		n, h := w.newNode("n1", 1), &holders{}
		h.now.Store(&[]string{"kube-ipvs0"})
		n.o.Kernel = h
		w.edit(func() { w.nodes["n1"] = n })
		n.start()
		look := func(ifaces ...string) {
			h.now.Store(&ifaces)
			n.linksChanged.Store(true)
			n.Trigger()
			pass(time.Second)
		}
		look("kube-ipvs0")
		look("kube-ipvs0")
		count := 0
		for _, e := range n.events {
			if strings.HasPrefix(e, "default/web true KernelAnswers: the kernel of n1 answers for 192.0.2.200") {
				count++
			}
		}
		if count != 1 || n.status.Load().KernelAnswers[vip] == "" {
			t.Errorf("%d Events, status %v; all Events: %q", count, n.status.Load().KernelAnswers, n.events)
		}
		look()
		if got := n.status.Load().KernelAnswers; len(got) != 0 {
			t.Errorf("still reported: %v", got)
		}
	})
}
