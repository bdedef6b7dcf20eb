package speaker

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/lb"
)

// RivalSource knows what a node's kernel holds of another proxy for all Services, running or left behind; [Netlink] is one.
type RivalSource interface {
	Rivals() ([]string, error)
}

// rivalsEvery is how often it is asked. What it looks for is rare, and stays for minutes at least.
const rivalsEvery = 30 * time.Second

// reviewRivals asks whether there is another proxy, now and then, and tells when that changes. Nothing is done about it: both translate, and
// whoever took away what the other has written would do so again and again.
func (s *Speaker) reviewRivals(now time.Time) {
	if s.o.Rivals == nil || !s.rivalsRead.IsZero() && now.Sub(s.rivalsRead) < rivalsEvery {
		return
	}
	s.rivalsRead = now
	found, err := s.o.Rivals.Rivals()
	switch {
	case err != nil:
		s.o.Log.Warn("other proxies not looked for", "err", err)
		return
	case slices.Equal(found, s.rivals):
		return
	case len(found) == 0:
		s.o.Log.Info("other proxy gone")
	default:
		r := rivalProxy(found)
		s.o.Log.Warn("another proxy serves the same services", "reason", r.Reason, "message", r.Message)
	}
	s.rivals = found
}

// rivalProxy says what is wrong with another proxy, if there is one.
func rivalProxy(found []string) lb.Refusal {
	if len(found) == 0 {
		return lb.Refusal{}
	}
	return lb.Refusal{Reason: lb.RivalProxy, Message: fmt.Sprintf("datapath.mode is full, but kube-proxy serves the same Services here or has left its rules, as %s tells: "+
		"delete kube-proxy's DaemonSet and run kube-proxy --cleanup on this node, or reboot it; or set datapath.mode to external", strings.Join(found, ", "))}
}

// Rivals implements [RivalSource]. It finds kube-proxy by what it writes in its modes nftables and ipvs, and in mode iptables where the
// iptables are those that write to nftables.
func (Netlink) Rivals() ([]string, error) {
	var out []string
	if _, err := netlink.LinkByName("kube-ipvs0"); err == nil {
		out = append(out, "interface kube-ipvs0")
	}
	for _, f := range []struct {
		name    string
		nfproto uint8
	}{{"ip", unix.NFPROTO_IPV4}, {"ip6", unix.NFPROTO_IPV6}} {
		for _, x := range []struct {
			what  string
			kind  int
			names []*nl.RtAttr
		}{
			{"chain " + f.name + " nat KUBE-SERVICES", unix.NFT_MSG_GETCHAIN, []*nl.RtAttr{nl.NewRtAttr(unix.NFTA_CHAIN_TABLE, nl.ZeroTerminated("nat")),
				nl.NewRtAttr(unix.NFTA_CHAIN_NAME, nl.ZeroTerminated("KUBE-SERVICES"))}},
			{"table " + f.name + " kube-proxy", unix.NFT_MSG_GETTABLE, []*nl.RtAttr{nl.NewRtAttr(unix.NFTA_TABLE_NAME, nl.ZeroTerminated("kube-proxy"))}},
		} {
			has, err := nftablesHas(x.kind, f.nfproto, x.names)
			if err != nil {
				return nil, fmt.Errorf("looking for %s: %w", x.what, err)
			}
			if has {
				out = append(out, x.what)
			}
		}
	}
	return out, nil
}

// nftablesHas asks nftables for one object by its name.
func nftablesHas(kind int, family uint8, names []*nl.RtAttr) (bool, error) {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|kind, 0)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: unix.NFNETLINK_V0})
	for _, n := range names {
		req.AddData(n)
	}
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return err == nil, err
}
