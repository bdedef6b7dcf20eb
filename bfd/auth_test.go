package bfd

import (
	"strings"
	"testing"
)

// Test6_7_Verify has a row for every Drop of the authentication but DropSequence.
func Test6_7_Verify(t *testing.T) {
	for kind := SimplePassword; kind <= MeticulousKeyedSHA1; kind++ {
		ring := ringOf(kind)
		rotated := Keyring{Type: kind, Keys: []Key{ring.Keys[1], ring.Keys[0]}}
		for _, c := range []struct {
			name   string
			sender Keyring
			change func(p *Packet)
			want   Drop
		}{
			{"first key", ring, nil, ""},
			{"the sender has changed its key", rotated, nil, ""},
			{"no authentication", Keyring{}, nil, DropAuthType},
			{"another type", ringOf(1 + kind%5), nil, DropAuthType},
			{"unknown key", Keyring{Type: kind, Keys: []Key{{9, "first"}}}, nil, DropKeyID},
			{"wrong secret", Keyring{Type: kind, Keys: []Key{{1, "farst"}}}, nil, DropDigest},
			{"longer secret", Keyring{Type: kind, Keys: []Key{{1, "first1"}}}, nil, DropDigest},
			{"flipped bit", ring, func(p *Packet) { p.Auth.Digest[4] ^= 1 }, DropDigest},
		} {
			p := up()
			c.sender.sign(&p, 7)
			if c.change != nil {
				c.change(&p)
			}
			if got := ring.verify(&p); got != c.want {
				t.Errorf("%s, %s: %q, want %q", kind, c.name, got, c.want)
			}
		}
		if kind != SimplePassword { // it signs nothing
			p := up()
			ring.sign(&p, 7)
			p.Diag++
			if got := ring.verify(&p); got != DropDigest {
				t.Errorf("%s: a changed packet: %q, want %q", kind, got, DropDigest)
			}
		}
	}
	p := up()
	ringOf(KeyedMD5).sign(&p, 7)
	if got := (Keyring{}).verify(&p); got != DropAuthType {
		t.Errorf("authentication where none is configured: %q, want %q", got, DropAuthType)
	}
}

func Test6_7_3And6_7_4_Window(t *testing.T) {
	const top = 1<<32 - 1
	for _, c := range []struct {
		kind      AuthType
		last, got uint32
		want      bool
	}{
		{KeyedSHA1, 100, 100, true}, {MeticulousKeyedSHA1, 100, 100, false},
		{KeyedMD5, 100, 100, true}, {MeticulousKeyedMD5, 100, 100, false},
		{KeyedSHA1, 100, 99, false}, {MeticulousKeyedSHA1, 100, 99, false},
		{KeyedSHA1, 100, 109, true}, {MeticulousKeyedSHA1, 100, 109, true},
		{KeyedSHA1, 100, 110, false}, {MeticulousKeyedSHA1, 100, 110, false},
		{MeticulousKeyedSHA1, top, 0, true}, {MeticulousKeyedSHA1, top, 8, true}, {MeticulousKeyedSHA1, top, 9, false},
		{MeticulousKeyedSHA1, 0, top, false},
	} {
		if got := inWindow(c.kind, c.last, c.got, 3); got != c.want {
			t.Errorf("%s: %d after %d: %t, want %t", c.kind, c.got, c.last, got, c.want)
		}
	}
}

func TestKeyringValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		ring Keyring
		want string // part of the message, "" = valid
	}{
		{"none", Keyring{}, ""},
		{"keys without type", Keyring{Keys: []Key{{1, "a"}}}, "no Type"},
		{"type without keys", Keyring{Type: KeyedMD5}, "Keys is empty"},
		{"unknown type", Keyring{Type: 6, Keys: []Key{{1, "a"}}}, "unknown"},
		{"empty secret", Keyring{Type: KeyedSHA1, Keys: []Key{{1, ""}}}, "has 0 bytes"},
		{"17 bytes for MD5", Keyring{Type: KeyedMD5, Keys: []Key{{1, strings.Repeat("a", 17)}}}, "takes 1 to 16"},
		{"20 bytes for SHA1", Keyring{Type: KeyedSHA1, Keys: []Key{{1, strings.Repeat("a", 20)}}}, ""},
		{"21 bytes for SHA1", Keyring{Type: KeyedSHA1, Keys: []Key{{1, strings.Repeat("a", 21)}}}, "takes 1 to 20"},
		{"same ID twice", Keyring{Type: KeyedSHA1, Keys: []Key{{1, "a"}, {1, "b"}}}, "two keys have the ID 1"},
	} {
		err := c.ring.validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
