package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/ipam"
	"github.com/fairlead-lb/fairlead/lb"
)

// decide returns how long the allocator alone takes for n Services.
func decide(n int) time.Duration {
	now := time.Now()
	alloc := ipam.New(time.Minute)
	alloc.SetPools([]lb.Pool{{Name: "bench", AutoAssign: true, Ranges: []lb.Range{{
		From: netip.MustParseAddr("198.18.0.0"), To: netip.MustParseAddr("198.19.255.255")}}}}, now)
	start := time.Now()
	for i := range n {
		_, refusal := alloc.Ensure(lb.Service{
			Key:          lb.ServiceKey{Namespace: namespace, Name: fmt.Sprint("web-", i)},
			Families:     []lb.Family{lb.IPv4},
			FamilyPolicy: lb.SingleStack,
			Ports:        []lb.Port{{Protocol: lb.TCP, Port: 80}},
		}, now)
		if !refusal.OK() {
			panic("allocation: a pool of 131072 addresses refuses: " + refusal.String())
		}
	}
	return time.Since(start)
}
