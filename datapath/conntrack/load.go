package conntrack

import (
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// getStats is IPCTNL_MSG_CT_GET_STATS of nfnetlink_conntrack.h.
const getStats = 5

// Load has the kernel load its connection tracking, if it is a module: without it the settings below net/netfilter are not there. It asks
// for a number and throws it away.
func Load() error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|getStats, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: unix.NFNETLINK_V0})
	if _, err := req.Execute(unix.NETLINK_NETFILTER, 0); err != nil {
		return fmt.Errorf("asking for the state of conntrack: %w", err)
	}
	return nil
}
