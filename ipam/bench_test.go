package ipam

import (
	"fmt"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// giveAndTake is what is measured: an address for s, and its release.
func giveAndTake(b *testing.B, a *Allocator, s lb.Service) {
	b.ReportAllocs()
	for b.Loop() {
		if _, refusal := a.Ensure(s, epoch); !refusal.OK() {
			b.Fatal(refusal)
		}
		a.Release(s.Key, epoch)
	}
}

// BenchmarkEnsure gives out and takes back one address, beside as many others in use as the case says. The cost must not
// depend on them.
func BenchmarkEnsure(b *testing.B) {
	slash8 := newPoolNamed("p", "10.0.0.0-10.255.255.255")
	slash64 := newPoolNamed("p", "2001:db8::-2001:db8::ffff:ffff:ffff:ffff")
	for _, c := range []struct {
		name   string
		pool   lb.Pool
		inUse  int
		family lb.Family
	}{
		{"slash24 empty", newPoolNamed("p", "192.0.2.0-192.0.2.255"), 0, lb.IPv4},
		{"slash8 empty", slash8, 0, lb.IPv4},
		{"slash8 with 16000", slash8, 16_000, lb.IPv4},
		{"slash8 with 1000000", slash8, 1_000_000, lb.IPv4},
		{"slash64 with 100000", slash64, 100_000, lb.IPv6},
	} {
		b.Run(c.name, func(b *testing.B) {
			a := New(0)
			a.SetPools([]lb.Pool{c.pool}, epoch)
			for i := range c.inUse {
				a.Ensure(service(fmt.Sprint(i), dual(lb.SingleStack, c.family)), epoch)
			}
			s := service("last", dual(lb.SingleStack, c.family))
			giveAndTake(b, a, s)
		})
	}
}

// BenchmarkSlash8AlmostFull has one address in a thousand free, spread evenly.
func BenchmarkSlash8AlmostFull(b *testing.B) {
	a := New(0)
	a.SetPools([]lb.Pool{newPoolNamed("p", "10.0.0.0-10.255.255.255")}, epoch)
	span := a.pools[0].spans[0]
	for n := range uint64(1 << 24) {
		if n%1000 != 999 {
			span.taken.add(n)
		}
	}
	s := service("last")
	giveAndTake(b, a, s)
}

// Benchmark16000Services is the whole life of a large cluster's start: every Service once, then all again, unchanged.
func Benchmark16000Services(b *testing.B) {
	services := make([]lb.Service, 16_000)
	for i := range services {
		services[i] = service(fmt.Sprint(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		a := New(time.Minute)
		a.SetPools([]lb.Pool{newPoolNamed("p", "10.0.0.0-10.0.255.255")}, epoch)
		for range 2 {
			for _, s := range services {
				a.Ensure(s, epoch)
			}
		}
	}
}

// BenchmarkSharers is one more Service beside as many with the same key as the case says.
func BenchmarkSharers(b *testing.B) {
	pool := with(newPoolNamed("p", "10.0.0.0-10.255.255.255"), func(p *lb.Pool) { p.ShareAcross = true })
	for _, c := range []struct {
		name string
		port func(i int) uint16
	}{
		{"of one address", func(i int) uint16 { return uint16(i) }},
		{"of an address each", func(int) uint16 { return 80 }},
		{"in pairs", func(i int) uint16 { return uint16(80 + i%2) }},
	} {
		for _, n := range []int{100, 10_000} {
			b.Run(fmt.Sprint(n, " ", c.name), func(b *testing.B) {
				a := New(0)
				a.SetPools([]lb.Pool{pool}, epoch)
				for i := range n {
					a.Ensure(service(fmt.Sprint(i), shares("k"), in(fmt.Sprint("n", i%100)), port(c.port(i))), epoch)
				}
				s := service("last", shares("k"), port(c.port(n)))
				giveAndTake(b, a, s)
			})
		}
	}
}

// BenchmarkSetPools replaces 20 pools of 256 entries each under 10,000 owners, alone and sharing.
func BenchmarkSetPools(b *testing.B) {
	var pools []lb.Pool
	for i := range 20 {
		p := newPoolNamed(fmt.Sprint("p", i))
		for j := range 256 {
			p.Ranges = append(p.Ranges, rangeOf(fmt.Sprintf("10.%d.%d.0", i, j), fmt.Sprintf("10.%d.%d.9", i, j)))
		}
		pools = append(pools, p)
	}
	for name, edit := range map[string]func(*lb.Service){"alone": func(*lb.Service) {}, "sharing": shares("k")} {
		b.Run(name, func(b *testing.B) {
			a := New(time.Minute)
			a.SetPools(pools, epoch)
			for i := range 10_000 {
				a.Ensure(service(fmt.Sprint(i), edit), epoch)
			}
			b.ReportAllocs()
			for b.Loop() {
				a.SetPools(pools, epoch)
			}
		})
	}
}
