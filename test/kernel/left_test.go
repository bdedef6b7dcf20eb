//go:build kernel

package kernel

import (
	"fmt"
	"net/netip"
	"os/exec"
	"testing"

	"github.com/fairlead-lb/fairlead/datapath"
	"github.com/fairlead-lb/fairlead/datapath/engine"
	"github.com/fairlead-lb/fairlead/datapath/ipvs"
	"github.com/fairlead-lb/fairlead/datapath/link"
)

// modules prints the names of the modules that are loaded; a kernel may have none.
func modules(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", "if [ -e /proc/modules ]; then cut -d' ' -f1 /proc/modules | sort; fi").CombinedOutput()
	if err != nil {
		t.Fatalf("listing modules: %v\n%s", err, out)
	}
	return string(out)
}

// cleanLeft has what is left of an engine removed, and returns what that was.
func cleanLeft(t *testing.T) []string {
	t.Helper()
	left, err := engine.CleanupLeft(t.Context(), link.ProcSys)
	if err != nil {
		t.Fatalf("removing %q: %v", left, err)
	}
	return left
}

// TestWhatAnotherModeLeftIsRemoved: whoever is next in line forwards from then on, here one who does as kube-proxy, and what nft translates
// goes on.
func TestWhatAnotherModeLeftIsRemoved(t *testing.T) {
	forEach(t, func(t *testing.T, b *bed, f family) {
		ip := map[string]string{"IPv4": "ip", "IPv6": "ip6"}[f.name]
		foreign(t, fmt.Sprintf(`nft -f - <<-'END'
			table %[1]s proxy {
				chain services { type nat hook prerouting priority -100; %[1]s daddr %[2]s tcp dport 80 dnat to %[3]s; }
			}
			END`, ip, f.vip, to(f.pods["pod-b"], "8080")), "nft delete table "+ip+" proxy")
		before := kernelDump(t)
		onward := datapath.Onward{Known: true, IPv4: datapath.Way{First: datapath.Hop{Addr: netip.MustParseAddr(families[0].pods["far"]), Link: 2}}}
		for name, s := range map[string]datapath.State{
			"a VIP":              f.state(f.server(f.vip, "80", nil, "pod-a"), f.server(f.vip, "80", both(forInside, masquerade(datapath.Pods)), "far")),
			"the node's address": f.state(f.server(f.node, "8090", masquerade(datapath.Everybody), "pod-a")),
			"nothing":            f.state(),
		} {
			s.Onward = onward
			b.hold(t, s)
			c, err := dial("client", "tcp", "", to(f.vip, "80"), patience)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			defer c.Close()
			first, err := say(c, patience)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if left := cleanLeft(t); len(left) < 2 { // the table, and the one for packets of connections that moved
				t.Errorf("%s: only %q was found", name, left)
			}
			if after := kernelDump(t); after != before {
				t.Errorf("%s: something is left. Before:\n%s\nafter:\n%s", name, before, after)
			}
			if a, err := say(c, patience); err != nil || a != first {
				t.Errorf("%s: the connection to %s: %v, %v", name, first.pod, a, err)
			}
			if a := mustAsk(t, "client", "tcp", to(f.vip, "80")); a.pod != "pod-b" {
				t.Errorf("%s: then %s answered, want pod-b", name, a.pod)
			}
			b.restart(t, b.Name())
		}
	})
}

// TestWhereNothingIsLeftNothingChanges, and no module is loaded; a single thing that is left is enough.
func TestWhereNothingIsLeftNothingChanges(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		foreign(t, `nft "add table inet other; add chain inet other fairlead; add table ip6 fairlead-too"
			ip route add local 198.51.100.7 dev lo table local`,
			`nft "delete table inet other; delete table ip6 fairlead-too"; ip route del local 198.51.100.7 dev lo table local`)
		dump := func() string { return kernelDump(t) + modules(t) }
		before := dump()
		if left := cleanLeft(t); len(left) > 0 || dump() != before {
			t.Errorf("%q was found on a clean node. Before:\n%s\nafter:\n%s", left, before, dump())
		}
		leave := map[string]string{
			"table inet fairlead": "nft add table inet fairlead; nft add chain inet fairlead c",
			"table ip fairlead":   "nft add table ip fairlead; nft add chain ip fairlead c; nft add rule ip fairlead c drop",
			"1 local routes":      "ip -6 route add local fd00:ff::77 dev lo table local proto 76",
		}
		if missing, err := link.MissingModules(); err != nil {
			t.Fatal(err)
		} else if len(missing) == 0 {
			leave["device fairlead6"] = "ip link add fairlead6 type ip6tnl mode ip6ip6 local 100::76"
		}
		for what, script := range leave {
			before := kernelDump(t)
			foreign(t, script, "true")
			if left := cleanLeft(t); len(left) != 1 || left[0] != what {
				t.Errorf("%q was found, want %s", left, what)
			}
			if after := kernelDump(t); after != before {
				t.Errorf("%s is left. Before:\n%s\nafter:\n%s", what, before, after)
			}
			if left := cleanLeft(t); len(left) > 0 {
				t.Errorf("after %s was removed %q was found", what, left)
			}
		}
	})
}

// TestRemovalLeavesTheServersOfKubeProxy: where engine nft was, what IPVS has at our addresses is somebody else's. It needs a kernel with IPVS,
// as the VM has.
func TestRemovalLeavesTheServersOfKubeProxy(t *testing.T) {
	forEachEngine(t, func(t *testing.T, b *bed) {
		if b.Name() == "ipvs" || ipvs.Probe(t.Context()) != nil {
			return
		}
		foreign(t, "ipvsadm -A -t "+vip+":80 -s rr; ipvsadm -a -t "+vip+":80 -r 10.244.1.2:8080 -m", "ipvsadm -D -t "+vip+":80")
		before := kernelDump(t)
		b.sync(t, snapshot(service(nil, "pod-a")))
		if left := cleanLeft(t); len(left) == 0 || kernelDump(t) != before {
			t.Errorf("%q was found. Before:\n%s\nafter:\n%s", left, before, kernelDump(t))
		}
	})
}
