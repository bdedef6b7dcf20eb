package conntrack

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// getStats is IPCTNL_MSG_CT_GET_STATS of nfnetlink_conntrack.h.
const getStats = 5

// Load has the kernel load its connection tracking, if it is a module: without it the settings below net/netfilter are not there. It asks
// for a number and throws it away.
func Load() error {
	if _, err := request(getStats, unix.NLM_F_ACK, header(unix.AF_UNSPEC)).Execute(unix.NETLINK_NETFILTER, 0); err != nil {
		return fmt.Errorf("asking for the state of conntrack: %w", err)
	}
	return nil
}

// netfilter is the kernel of the calling thread's network namespace.
type netfilter struct{}

func (netfilter) dump(family uint8, each func(message []byte) (more bool)) error {
	return request(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, header(family)).ExecuteIter(unix.NETLINK_NETFILTER, 0, each)
}

// delete asks for the deletion of the entry that a message of a dump describes; by the id in it, not of another in its place. One without a tuple
// would have the kernel delete all of them, but parse takes no such.
func (netfilter) delete(message []byte) error {
	_, err := request(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, message).Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func request(kind, flags int, message []byte) *nl.NetlinkRequest {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|kind, flags)
	req.AddRawData(message)
	return req
}

func header(family uint8) []byte {
	return (&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0}).Serialize()
}
