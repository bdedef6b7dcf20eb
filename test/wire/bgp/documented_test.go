//go:build wire

package bgp

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
	"github.com/fairlead-lb/fairlead/lb"
	"github.com/fairlead-lb/fairlead/test/router"
)

// documented returns the configuration that docs/bgp.md shows below a heading.
func documented(t *testing.T, heading string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "bgp.md"))
	router.Check(t, err)
	_, rest, ok := strings.Cut(string(page), "\n### "+heading+"\n```\n")
	config, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("docs/bgp.md has no configuration below %q", heading)
	}
	return config
}

// TestDocumentedConfigurations: what the page shows works as it stands: password, TTL, both families, BFD, and graceful restart when
// the process is killed.
func TestDocumentedConfigurations(t *testing.T) {
	for _, c := range []struct {
		name     string
		password string
		ttl      uint8
		bfd      bool
		families []lb.Family
		begin    func(*router.Host, string) func() []string
	}{
		{"FRR", "SECRET", 1, true, []lb.Family{lb.IPv4, lb.IPv6}, func(h *router.Host, config string) func() []string { return router.StartFRR(h, config).Prefixes }},
		{"BIRD 2", "SECRET", 1, true, []lb.Family{lb.IPv4, lb.IPv6}, func(h *router.Host, config string) func() []string { return router.StartBIRD(h, config).Prefixes }},
		{"GoBGP", "", 0, false, []lb.Family{lb.IPv4}, func(h *router.Host, config string) func() []string { return router.StartGoBGP(h, config).Prefixes }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := router.NewHost(t)
			router.Cable(t, nil, "v0", []string{"192.0.2.11/24", us6.String() + "/64"}, h, "eth0", []string{"192.0.2.1/24", them6.String() + "/64"})
			prefixes := c.begin(h, documented(t, c.name))
			w := &watching{t: t, pod: startPod(t, 0), peer: graceful()}
			w.pod.end()
			w.peer.Addr, w.peer.Password, w.peer.TTLSecurity, w.peer.Families = netip.MustParseAddr("192.0.2.1"), c.password, c.ttl, c.families
			if c.bfd {
				w.peer.BFD = &bgp.BFD{Receive: 50 * time.Millisecond, Transmit: 50 * time.Millisecond, Multiplier: 3}
			}
			if len(c.families) == 1 {
				w.peer.Paths = paths("198.51.100.7/32")
			}
			w.begin()
			w.up(c.name)
			if c.bfd {
				w.bfd("Up")
			}
			want := len(w.peer.Paths)
			router.Until(t, "the routes", func() bool { return len(prefixes()) == want })
			w.pod.kill()
			for range 20 {
				if got := prefixes(); len(got) != want {
					t.Fatalf("after the process was killed there is %v", got)
				}
			}
			w.up(c.name)
		})
	}
}
