package v1beta1

import (
	"errors"
	"strconv"
	"strings"
)

// ParseCommunity reads a:b (RFC 1997) and returns its two numbers, or large:a:b:c (RFC 8092) and returns its three. The error says
// how to write it, without naming the text.
func ParseCommunity(text string) ([]uint32, error) {
	if rest, ok := strings.CutPrefix(text, "large:"); ok {
		n, ok := numbers(rest, 3, 32)
		if !ok {
			return nil, errors.New("must be large:a:b:c with numbers up to 4294967295")
		}
		return n, nil
	}
	n, ok := numbers(text, 2, 16)
	if !ok {
		return nil, errors.New("must be a:b with numbers up to 65535 or large:a:b:c with numbers up to 4294967295")
	}
	return n, nil
}

// numbers reads n decimal numbers of so many bits between colons.
func numbers(text string, n, bits int) ([]uint32, bool) {
	longest := map[int]int{16: len("65535"), 32: len("4294967295")}[bits]
	parts := strings.Split(text, ":")
	if len(parts) != n {
		return nil, false
	}
	out := make([]uint32, n)
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, bits) // which takes neither signs nor spaces
		if err != nil || len(p) > longest {
			return nil, false
		}
		out[i] = uint32(v)
	}
	return out, true
}
