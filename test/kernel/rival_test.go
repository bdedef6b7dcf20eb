//go:build kernel

package kernel

import (
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/speaker"
)

// TestRivalsAreFound: what kube-proxy writes to a kernel is seen, and nothing where there is none of it.
func TestRivalsAreFound(t *testing.T) {
	if err := build(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		script, undo string
		want         []string
	}{
		{"nft add table ip other", "nft delete table ip other", nil},
		{"nft add table ip kube-proxy; nft add table ip6 kube-proxy", "nft delete table ip kube-proxy; nft delete table ip6 kube-proxy",
			[]string{"table ip kube-proxy", "table ip6 kube-proxy"}},
		{"nft add table ip nat; nft add chain ip nat KUBE-SERVICES", "nft delete table ip nat", []string{"chain ip nat KUBE-SERVICES"}},
		{"ip link add kube-ipvs0 type bridge", "ip link del kube-ipvs0", []string{"interface kube-ipvs0"}},
	} {
		t.Run(c.script, func(t *testing.T) {
			foreign(t, c.script, c.undo)
			if found, err := (speaker.Netlink{}).Rivals(); err != nil || !slices.Equal(found, c.want) {
				t.Errorf("found %q, %v; want %q", found, err, c.want)
			}
		})
	}
}
