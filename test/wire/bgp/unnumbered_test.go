//go:build wire

package bgp

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/announce/bgp/session"
	"github.com/fairlead-lb/fairlead/announce/bgp/unnumbered"
	"github.com/fairlead-lb/fairlead/test/router"
)

// TestFRRUnnumbered: neither end has more than the name of its interface.
func TestFRRUnnumbered(t *testing.T) {
	h := router.NewHost(t)
	router.Cable(t, nil, "v0", nil, h, "eth0", nil)
	f := router.StartFRR(h, strings.Join([]string{"router bgp 64513", " bgp router-id 192.0.2.2", " no bgp ebgp-requires-policy", " neighbor eth0 interface remote-as external",
		" neighbor eth0 timers connect 1", " address-family ipv6 unicast", "  neighbor eth0 activate", " exit-address-family", ""}, "\n"))
	log := slog.New(slog.NewTextHandler(logs{t}, nil))
	sessions, err := session.New(session.Options{Log: log})
	router.Check(t, err)
	r := unnumbered.New(sessions, log)
	p := peer("frr", them4)
	p.Addr, p.Interface, p.PeerASN, p.Dynamic = bgp.Peer{}.Addr, "v0", 0, bgp.External
	p.Paths = paths("198.51.100.7/32", "2001:db8:5::1/128")
	r.Set(complete(p))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()
	stop := sync.OnceFunc(func() { cancel(); router.Check(t, <-ended) })
	t.Cleanup(stop)
	defer func() {
		if t.Failed() {
			t.Logf("%+v\n%s\n%s", r.Report(), f.Show("bgpd", "show bgp neighbors eth0"), f.BGPd.Output())
		}
	}()
	took := router.Until(t, "the session", func() bool {
		list := r.Report().Sessions
		return len(list) == 1 && list[0].State == bgp.Established && list[0].Pending == 0
	})
	t.Logf("established after %s", took)
	router.Until(t, "both routes in FRR", func() bool { return slices.Equal(f.Prefixes(), []string{"198.51.100.7/32", "2001:db8:5::1/128"}) })
	router.Until(t, "both routes in the kernel of FRR's host", func() bool { return f.Installed() == 2 })
}
