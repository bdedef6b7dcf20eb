package main

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/moby/ipvs"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// programmed says how much of the Services is in the kernel: how many listeners, and how many endpoints the i-th one's has. Only a change
// of the second number matters.
type programmed interface {
	listeners() (int, error)
	endpoints(i int) (int, error)
}

// table is nftables as kube-proxy or Fairlead write it.
type table struct {
	family nftables.TableFamily
	name   string
	set    string // holds one element per listener

	// sockets stay open: to close one makes the kernel wait until what was deleted last is gone, 15 to 30 ms.
	sockets map[int]*nl.SocketHandle
}

func (t *table) listeners() (int, error) {
	c, err := nftables.New()
	if err != nil {
		return 0, err
	}
	elements, err := c.GetSetElements(&nftables.Set{Table: &nftables.Table{Name: t.name, Family: t.family}, Name: t.set})
	return len(elements), err
}

// endpoints returns the generation of nftables instead, which grows with every transaction: nobody else writes here.
func (t *table) endpoints(int) (int, error) {
	if t.sockets == nil {
		s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
		if err != nil {
			return 0, err
		}
		t.sockets = map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}
	}
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETGEN, 0)
	req.Sockets = t.sockets
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: unix.NFNETLINK_V0})
	answers, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil || len(answers) == 0 || len(answers[0]) < 12 {
		return 0, fmt.Errorf("reading the generation of nftables: %d answers, %w", len(answers), err)
	}
	return int(binary.BigEndian.Uint32(answers[0][8:])), nil // the first attribute
}

// virtual is IPVS; address says where the i-th Service's listener is.
type virtual struct {
	handle  *ipvs.Handle
	address func(i int) string
}

func (v *virtual) open() error {
	if v.handle != nil {
		return nil
	}
	h, err := ipvs.New("")
	v.handle = h
	return err
}

func (v *virtual) listeners() (int, error) {
	if err := v.open(); err != nil {
		return 0, err
	}
	list, err := v.handle.GetServices()
	return len(list), err
}

func (v *virtual) endpoints(i int) (int, error) {
	if err := v.open(); err != nil {
		return 0, err
	}
	addr := v.address(i)
	list, err := v.handle.GetDestinations(&ipvs.Service{Address: net.ParseIP(addr).To4(), Port: 80, Protocol: unix.IPPROTO_TCP, AddressFamily: unix.AF_INET})
	if err != nil {
		return 0, fmt.Errorf("reading the destinations of %s: %w", addr, err)
	}
	n := 0
	for _, d := range list {
		if d.Weight > 0 {
			n++
		}
	}
	return n, nil
}
