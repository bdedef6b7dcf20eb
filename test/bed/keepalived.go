package bed

import (
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Keepalived says how a node runs keepalived: VRRPv3, an advertisement each 100 ms by multicast, the node that has an address
// keeps it, as Fairlead's does. Give the nodes high priorities, which make the skew that VRRP adds to three
// intervals (RFC 9568 section 6.1) short, but 24 apart: that is 10 ms, so that two backups do not take over at once.
type Keepalived struct {
	Router   int          // virtual router identifier, 1 to 255, the same for both families
	Priority int          // 1 to 254
	Addrs    []netip.Addr // the addresses that move
	Tuned    bool         // gratuitous packets as keepalived's manual advises for modern switches, and real-time scheduling
}

// Keepalive starts keepalived on node i instead of a speaker, and waits until its VRRP process runs.
func (l *LAN) Keepalive(i int, k Keepalived) {
	l.t.Helper()
	base := fmt.Sprintf("/run/keepalived-%d", i)
	l.check(os.WriteFile(base+".conf", []byte(k.config()), 0o644))
	cmd := child(os.Environ(), "keepalived", "--dont-fork", "--vrrp", "--log-console", "--use-file="+base+".conf", "--pid="+base+".pid", "--vrrp_pid="+base+"-vrrp.pid")
	if os.Getenv("FAIRLEAD_WIRE_LOG") == "" {
		cmd.Stdout, cmd.Stderr = nil, nil
	}
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID // whoever kills it kills its child at the same instant
	for _, file := range []string{".pid", "-vrrp.pid"} {
		_ = os.Remove(base + file) // a killed predecessor's, which keepalived would take for a living one's
	}
	l.run(i, cmd)
	if _, ok := poll(5*time.Second, 10*time.Millisecond, func() bool { _, err := os.Stat(base + "-vrrp.pid"); return err == nil }); !ok {
		l.t.Fatalf("keepalived of node %d did not start; FAIRLEAD_WIRE_LOG=1 shows what it says", i)
	}
}

func (k Keepalived) config() string {
	global, instance := "", ""
	if k.Tuned {
		global = "  vrrp_rt_priority 50\n  vrrp_no_swap\n"
		instance = "  garp_master_delay 1\n  garp_master_repeat 1\n  garp_master_refresh 60\n  garp_master_refresh_repeat 1\n"
	}
	out := fmt.Sprintf("global_defs {\n  vrrp_version 3\n%s}\n", global)
	for _, addr := range k.Addrs {
		out += fmt.Sprintf(`vrrp_instance %s {
  state BACKUP
  nopreempt
  interface eth0
  virtual_router_id %d
  priority %d
  advert_int 0.1
%s  virtual_ipaddress {
    %s dev eth0
  }
}
`, map[bool]string{true: "four", false: "six"}[addr.Is4()], k.Router, k.Priority, instance, netip.PrefixFrom(addr, addr.BitLen()))
	}
	return out
}
