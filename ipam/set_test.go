package ipam

import (
	"math/rand/v2"
	"testing"
)

// FuzzSet compares the tree with a map. Every two bytes are one operation; last limits the numbers.
func FuzzSet(f *testing.F) {
	f.Add(uint64(0), []byte{0, 0, 1, 0, 0, 0})
	f.Add(uint64(63), []byte{0, 63, 0, 62, 1, 63})
	f.Add(uint64(70), []byte{0, 64, 0, 65, 1, 64, 2, 0, 2, 0})
	f.Add(uint64(1<<60-1), []byte{2, 0, 2, 0, 0, 7, 1, 1})
	f.Fuzz(func(t *testing.T, last uint64, ops []byte) {
		last %= 1 << 60
		s, model := newSet(last), map[uint64]bool{}
		for ; len(ops) >= 2; ops = ops[2:] {
			n := uint64(ops[1]) * 37 % (last/2 + 1) * 2 % (last + 1) // spread over several nodes
			switch ops[0] % 3 {
			case 0:
				s.add(n)
				model[n] = true
			case 1:
				s.remove(n)
				delete(model, n)
			case 2: // what the allocator does
				if free, ok := s.lowest(); ok {
					s.add(free)
					model[free] = true
				}
			}
			want, ok := uint64(0), true
			for model[want] {
				want++
			}
			ok = want <= last
			if got, gotOK := s.lowest(); gotOK != ok || ok && got != want {
				t.Fatalf("lowest of %v up to %d = %d, %v; want %d, %v", model, last, got, gotOK, want, ok)
			}
		}
	})
}

func TestSetFillsAndEmpties(t *testing.T) {
	const last = 100_000
	s := newSet(last)
	for want := range uint64(last + 1) {
		got, ok := s.lowest()
		if !ok || got != want {
			t.Fatalf("lowest = %d, %v, want %d", got, ok, want)
		}
		s.add(got)
	}
	if n, ok := s.lowest(); ok {
		t.Fatalf("lowest of a full set = %d", n)
	}
	for _, n := range rand.New(rand.NewPCG(1, 2)).Perm(last + 1) {
		s.remove(uint64(n))
	}
	if s.root.full != 0 || s.root.has != 0 {
		t.Errorf("an empty set keeps nodes: %+v", s.root)
	}
}
