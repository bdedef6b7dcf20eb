package nft

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// How often at most the table is compared with what was written, and only after somebody changed nftables: the rules, which is where
// a flush shows; and every element. And how often the kernel is asked for the same when somebody else's transactions interrupt its answers.
const (
	verifyEvery = time.Second
	readEvery   = 5 * time.Minute
	mostLooks   = 3
)

// lost reports whether the kernel no longer has what was written. As long as nobody writes to nftables it costs one small netlink
// request.
func (t *Table) lost(now time.Time) bool {
	if !t.known || now.Sub(t.verified) < verifyEvery {
		return false
	}
	t.verified = now
	current, err := t.kernel.generation()
	if err != nil || current == t.seen && !t.unsure && !t.foreign {
		return false
	}
	t.foreign = true
	if current != t.seen || t.unsure {
		t.seen, t.unsure = current, false
		t.onwards.known = t.onwards.known && !t.onwardLost()
		if t.flushed(&t.unsure) {
			return true
		}
	}
	if now.Sub(t.read) < readEvery {
		return false
	}
	t.read, t.foreign = now, false
	return t.thinned(&t.foreign)
}

// differs reports whether the kernel holds something else than was written, or nothing, by a look at it. One that somebody else's transaction
// interrupts tells nothing. If all are, it is said where to remember that: what is lost is found next time.
func differs(interrupted *bool, look func() (same bool, err error)) bool {
	for range mostLooks {
		if same, err := look(); !errors.Is(err, unix.EINTR) {
			return err != nil || !same
		}
	}
	*interrupted = true
	return false
}

// flushed reports whether a chain lacks rules, or has more than were written.
func (t *Table) flushed(interrupted *bool) bool {
	return differs(interrupted, func() (bool, error) {
		rules, err := t.kernel.rules(tableFamily)
		for name, n := range t.rules {
			if rules[name].rules != n {
				return false, err
			}
		}
		return true, err
	})
}

// thinned reports whether a set lacks elements, or has more than were written.
func (t *Table) thinned(interrupted *bool) bool {
	for name, n := range t.count {
		if differs(interrupted, func() (bool, error) {
			left := n
			err := t.kernel.elements(name, func(_, _ []byte, _, _ uint64) { left-- })
			return left == 0, err
		}) {
			return true
		}
	}
	return false
}

// onwardLost reports whether a table that hands packets on is no longer as it was written.
func (t *Table) onwardLost() bool {
	for family, n := range t.onwards.rules {
		if differs(&t.unsure, func() (bool, error) {
			rules, err := t.kernel.rules(family)
			return rules[onwardChain].rules == n, err
		}) {
			return true
		}
	}
	return false
}

// damaged reports whether the kernel, which has refused a change, may hold something else than was written. To write everything again is better
// then than to accuse a Service, so a look that was interrupted counts.
func (t *Table) damaged() bool {
	interrupted := false
	return t.flushed(&interrupted) || t.thinned(&interrupted) || interrupted
}
