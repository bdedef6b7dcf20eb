package bfd

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// AuthType is a kind of authentication as it is written on the wire (RFC 5880 section 4.1).
type AuthType uint8

// The kinds of authentication. MD5 and SHA1 sign the packet with a shared key; the meticulous forms refuse every replay, the
// other two those of an older packet only. A simple password protects from mistakes, not from anybody who can listen.
const (
	AuthNone AuthType = iota
	SimplePassword
	KeyedMD5
	MeticulousKeyedMD5
	KeyedSHA1
	MeticulousKeyedSHA1
)

// String returns the name of the kind.
func (t AuthType) String() string {
	if int(t) < len(authNames) {
		return authNames[t]
	}
	return fmt.Sprintf("AuthType(%d)", uint8(t))
}

var authNames = [...]string{"None", "SimplePassword", "KeyedMD5", "MeticulousKeyedMD5", "KeyedSHA1", "MeticulousKeyedSHA1"}

func (t AuthType) meticulous() bool { return t == MeticulousKeyedMD5 || t == MeticulousKeyedSHA1 }

// Sizes in bytes: of the sections with a digest as a whole, and of what precedes a password or a digest.
const (
	md5Len      = 24
	sha1Len     = 28
	passwordOff = 3
	digestOff   = 8
	maxPassword = 16
)

// Auth is an authentication section (RFC 5880 sections 4.2 to 4.4). The zero Auth stands for none.
type Auth struct {
	Type     AuthType
	KeyID    uint8
	Reserved uint8  // sent as 0 and ignored, but covered by the digest
	Sequence uint32 // of the keyed kinds
	Size     uint8  // how many bytes of Digest are used: 1 to 16 for a password, 16 for MD5, 20 for SHA1
	Digest   [sha1.Size]byte
}

// size returns how many bytes the section has on the wire.
func (a Auth) size() int {
	switch a.Type {
	case AuthNone:
		return 0
	case SimplePassword:
		return passwordOff + int(a.Size)
	}
	return digestOff + int(a.Size)
}

func (a Auth) append(b []byte) []byte {
	if a.Type == AuthNone {
		return b
	}
	b = append(b, byte(a.Type), byte(a.size()), a.KeyID)
	if a.Type != SimplePassword {
		b = append(b, a.Reserved)
		b = binary.BigEndian.AppendUint32(b, a.Sequence)
	}
	return append(b, a.Digest[:a.Size]...)
}

// parseAuth reads the section that fills b.
func parseAuth(b []byte) (Auth, bool) {
	if len(b) < passwordOff+1 || int(b[1]) != len(b) {
		return Auth{}, false
	}
	a := Auth{Type: AuthType(b[0]), KeyID: b[2]}
	off := digestOff
	switch a.Type {
	case SimplePassword:
		off = passwordOff
		if len(b) > passwordOff+maxPassword {
			return Auth{}, false
		}
	case KeyedMD5, MeticulousKeyedMD5:
		if len(b) != md5Len {
			return Auth{}, false
		}
	case KeyedSHA1, MeticulousKeyedSHA1:
		if len(b) != sha1Len {
			return Auth{}, false
		}
	default:
		return Auth{}, false
	}
	if off == digestOff {
		a.Reserved = b[3]
		a.Sequence = binary.BigEndian.Uint32(b[4:])
	}
	a.Size = uint8(copy(a.Digest[:], b[off:]))
	return a, true
}

// Key is a shared secret with the ID that names it on the wire.
type Key struct {
	ID     uint8
	Secret string // 1 to 16 bytes for a password and MD5, 1 to 20 for SHA1
}

// Keyring says how a session authenticates. The first key signs what is sent; every key is accepted in what is received.
// To change a key without an outage, add the new one behind the old one at both ends, then put it first at both, then remove
// the old one. The zero Keyring authenticates nothing and accepts only packets without authentication.
type Keyring struct {
	Type AuthType
	Keys []Key
}

func (k Keyring) validate() error {
	if k.Type == AuthNone {
		if len(k.Keys) > 0 {
			return fmt.Errorf("bfd: Auth has %d keys but no Type; choose one or remove the keys", len(k.Keys))
		}
		return nil
	}
	if k.Type > MeticulousKeyedSHA1 {
		return fmt.Errorf("bfd: Auth.Type %d is unknown; use 1 to 5", k.Type)
	}
	if len(k.Keys) == 0 {
		return fmt.Errorf("bfd: Auth.Type is %s but Keys is empty; give at least one key", k.Type)
	}
	seen := map[uint8]bool{}
	for _, key := range k.Keys {
		if n := len(key.Secret); n == 0 || n > k.Type.secretSize() {
			return fmt.Errorf("bfd: the secret of key %d has %d bytes; %s takes 1 to %d", key.ID, n, k.Type, k.Type.secretSize())
		}
		if seen[key.ID] {
			return fmt.Errorf("bfd: two keys have the ID %d; give each its own", key.ID)
		}
		seen[key.ID] = true
	}
	return nil
}

// secretSize returns the greatest length of a secret, which is the length of the field it is put into.
func (t AuthType) secretSize() int {
	if t == KeyedSHA1 || t == MeticulousKeyedSHA1 {
		return sha1.Size
	}
	return md5.Size // and of a password
}

// sign fills in the authentication section of p with the first key.
func (k Keyring) sign(p *Packet, sequence uint32) {
	if k.Type == AuthNone {
		return
	}
	key := k.Keys[0]
	p.Auth = Auth{Type: k.Type, KeyID: key.ID}
	if k.Type == SimplePassword {
		p.Auth.Size = uint8(copy(p.Auth.Digest[:], key.Secret))
		return
	}
	p.Auth.Sequence = sequence
	p.Auth.Size = uint8(k.Type.secretSize())
	p.Auth.Digest = digest(*p, key.Secret)
}

// verify checks everything but the sequence number (RFC 5880 section 6.7).
func (k Keyring) verify(p *Packet) Drop {
	if p.Auth.Type != k.Type {
		return DropAuthType
	}
	if k.Type == AuthNone {
		return ""
	}
	for _, key := range k.Keys {
		if key.ID != p.Auth.KeyID {
			continue
		}
		var want [sha1.Size]byte
		size := copy(want[:], key.Secret)
		if k.Type != SimplePassword {
			want, size = digest(*p, key.Secret), k.Type.secretSize()
		}
		if int(p.Auth.Size) != size || subtle.ConstantTimeCompare(p.Auth.Digest[:], want[:]) != 1 {
			return DropDigest
		}
		return ""
	}
	return DropKeyID
}

// digest hashes the packet with the secret, padded with zeros, in the place of the digest.
func digest(p Packet, secret string) [sha1.Size]byte {
	var buf [MaxSize]byte
	var out [sha1.Size]byte
	clear(p.Auth.Digest[:])
	copy(p.Auth.Digest[:], secret)
	b := p.Append(buf[:0])
	if p.Auth.Type == KeyedSHA1 || p.Auth.Type == MeticulousKeyedSHA1 {
		return sha1.Sum(b)
	}
	sum := md5.Sum(b)
	copy(out[:], sum[:])
	return out
}

// inWindow tells whether a sequence number may follow the last accepted one (RFC 5880 sections 6.7.3 and 6.7.4). The window
// is circular and three detection times of packets wide.
func inWindow(t AuthType, last, got uint32, multiplier uint8) bool {
	ahead := got - last
	if t.meticulous() && ahead == 0 {
		return false
	}
	return ahead <= 3*uint32(multiplier)
}
