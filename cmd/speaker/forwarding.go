package main

import (
	"flag"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// forwardingFlags adds the flags that say how the datapath forwards; kube-proxy has the same under other names.
func (c *config) forwardingFlags(fs *flag.FlagSet) {
	c.forwarding.Pods.NodeCIDRs = true
	fs.Func("pods", "how the node's own pods are recognised: node-cidrs (the node's spec.podCIDRs), none, ranges of all pods, or interfaces such as cni0 or cali*; separated by commas (default node-cidrs)",
		func(s string) (err error) { c.forwarding.Pods, err = parsePods(s); return err })
	fs.Func("nodeport-addresses", "at which addresses of the node node ports are: ranges separated by commas, or primary for those in the Node object; default: all, except loopback",
		func(s string) (err error) {
			c.forwarding.NodePorts, c.forwarding.NodePortsPrimary, err = parseNodePorts(s)
			return err
		})
	fs.Func("forwarding", "how connections to addresses reach pods where neither the Service nor the pool says it: nat or dsr (default nat)",
		func(s string) (err error) { c.forwarding.Method, err = parseMethod(s); return err })
	fs.BoolVar(&c.forwarding.HandOn, "hand-on", true, "hand packets of TCP connections that this node does not know on to the other nodes, so that connections go on when they move")
	fs.BoolVar(&c.forwarding.MasqueradeAll, "masquerade-all", false, "hide the clients of ClusterIPs from the pods, always; other addresses are not concerned")
}

func parseMethod(text string) (lb.Method, error) {
	if m := lb.Method(text); m.Known() {
		return m, nil
	}
	return "", fmt.Errorf("%q is neither %s nor %s", text, lb.NAT, lb.DSR)
}

func parsePods(text string) (lb.PodDetection, error) {
	var out lb.PodDetection
	words := strings.Split(text, ",")
	for _, word := range words {
		p, err := netip.ParsePrefix(word)
		switch {
		case word == "node-cidrs":
			out.NodeCIDRs = true
		case word == "none" && len(words) == 1:
		case err == nil:
			out.Ranges = append(out.Ranges, p)
		case interfaceName(word):
			out.Interfaces = append(out.Interfaces, word)
		default:
			return out, fmt.Errorf("%q is no range, no name of an interface, and not node-cidrs", word)
		}
	}
	return out, nil
}

// interfaceName reports whether Linux takes word as the name of an interface, or as the beginning of one, with "*" after it.
func interfaceName(word string) bool {
	name := strings.TrimSuffix(word, "*")
	return name != "" && name != "none" && len(name) < 16 && !strings.ContainsAny(name, "/: \t\n*\"\\")
}

func parseNodePorts(text string) (ranges []netip.Prefix, primary bool, err error) {
	if text == "primary" {
		return nil, true, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, false, fmt.Errorf("%q is no range, and not primary", word)
		}
		ranges = append(ranges, p.Masked())
	}
	return ranges, false, nil
}
