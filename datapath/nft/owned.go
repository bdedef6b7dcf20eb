package nft

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/datapath"
)

// Owned returns the VIPs that the table in the kernel knows, and the listeners that it has at other addresses, which are the node's: those at
// one of them, and its node ports at each. All are sorted; none if there is no table.
func (t *Table) Owned(context.Context) (vips []netip.Addr, atNode []datapath.Listener, err error) {
	_, sets, err := t.kernel.names()
	if err != nil {
		return nil, nil, err
	}
	read := func(name string, each func(key []byte)) {
		if slices.Contains(sets, name) {
			err = errors.Join(err, t.kernel.elements(name, func(key, _ []byte, _, _ uint64) { each(key) }))
		}
	}
	addresses := func(name string) (out []netip.Addr) {
		read(name, func(key []byte) {
			if a, ok := netip.AddrFromSlice(key); ok {
				out = append(out, a)
			}
		})
		return sorted(out)
	}
	for _, f := range families() {
		ofFamily, nodes := addresses(f.vips()), addresses(f.nodes())
		vips = append(vips, ofFamily...)
		for _, set := range []string{f.listeners(true), f.splits(true), f.listeners(false)} { // the last one had all in earlier tables
			read(set, func(key []byte) {
				l, ok := f.listenerOf(key)
				if !ok {
					return
				}
				if !l.NodePort() {
					if _, vip := slices.BinarySearchFunc(ofFamily, l.Addr.Addr(), netip.Addr.Compare); !vip { // of VIPs there are thousands
						atNode = append(atNode, l)
					}
					return
				}
				for _, a := range nodes {
					atNode = append(atNode, datapath.Listener{Addr: netip.AddrPortFrom(a, l.Addr.Port()), Protocol: l.Protocol})
				}
			})
		}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("reading table %s: %w", TableName, err)
	}
	slices.SortFunc(atNode, datapath.Listener.Compare)
	return sorted(vips), slices.Compact(atNode), nil
}

// Found returns which tables of ours the network namespace of the calling thread has, and whether the first is a guard of IPVS, as one that was
// opened without Forward is. It changes nothing and loads no module.
func Found() (tables []string, guard bool, err error) {
	if !loaded() {
		return nil, false, nil
	}
	return found(&netfilter{})
}

func found(k kernel) (tables []string, guard bool, err error) {
	chains, sets, err := k.names()
	if errors.Is(err, unix.EINVAL) { // there is no nftables
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if len(chains)+len(sets) > 0 {
		tables = append(tables, "inet "+TableName)
	}
	for _, f := range families() {
		guard = guard || slices.Contains(sets, f.marks())
		rules, err := k.rules(f.nfproto)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, false, err
		}
		if len(rules) > 0 {
			tables = append(tables, map[string]string{"4": "ip ", "6": "ip6 "}[f.digit]+TableName)
		}
	}
	return tables, guard, nil
}

// loaded reports whether the kernel has nftables now; a question about tables would have it load the module. The kernel shows its modules, but
// not what is built into it, which needs none of them: where the one that nftables needs is shown, nftables is one too.
func loaded() bool {
	shown := func(module string) bool {
		_, err := os.Stat("/sys/module/" + module)
		return err == nil
	}
	return shown("nf_tables") || !shown("nfnetlink") && answersNetfilter()
}

// answersNetfilter reports whether the kernel has a socket of its own for questions about netfilter.
func answersNetfilter() bool {
	sockets, err := os.ReadFile("/proc/thread-self/net/netlink")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(sockets) {
		if f := bytes.Fields(line); len(f) > 1 && string(f[1]) == strconv.Itoa(unix.NETLINK_NETFILTER) {
			return true
		}
	}
	return false
}
