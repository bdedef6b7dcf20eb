package keyring

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
)

// Size is the length of a key in bytes (AES-256).
const Size = 32

// The entries of the Secret.
const (
	EntryKey      = "key"      // the current key
	EntryNext     = "next"     // the one that a rotation is bringing in
	EntryPrevious = "previous" // the one that a rotation is taking out
)

// ErrEntry says that the Secret was read and something in it is no key.
var ErrEntry = errors.New("no key")

// Key is one of the keys that the speakers share. Printed, it shows its ID only.
type Key struct {
	ID     uint32     // says which key it is and nothing about it: HKDF of the secret
	Secret [Size]byte // random
}

// New makes a key of Size random bytes.
func New(secret []byte) (Key, error) {
	if len(secret) != Size {
		return Key{}, fmt.Errorf("%d bytes, want %d random bytes or their base64: %w", len(secret), Size, ErrEntry)
	}
	if bytes.Count(secret, secret[:1]) == Size {
		return Key{}, fmt.Errorf("%d equal bytes, want random ones: %w", Size, ErrEntry)
	}
	return Key{binary.BigEndian.Uint32(derive(secret, "fairlead key id", 4)), [Size]byte(secret)}, nil
}

// String returns the ID.
func (k Key) String() string { return fmt.Sprintf("%08x", k.ID) }

// MarshalJSON keeps the secret out of logs.
func (k Key) MarshalJSON() ([]byte, error) { return []byte(`"` + k.String() + `"`), nil }

// GoString keeps the secret out of %#v.
func (k Key) GoString() string { return "keyring.Key(" + k.String() + ")" }

// Heartbeat returns the key with which heartbeats are authenticated while k is in use. From it nothing follows about k.
func (k Key) Heartbeat() [Size]byte {
	return [Size]byte(derive(k.Secret[:], "fairlead heartbeat", Size))
}

// Tunnel returns the key with which the probes of tunnels are signed while k is in use, under the same rule.
func (k Key) Tunnel() [Size]byte {
	return [Size]byte(derive(k.Secret[:], "fairlead tunnel", Size))
}

func derive(secret []byte, label string, size int) []byte {
	out, err := hkdf.Key(sha256.New, secret, nil, label, size)
	if err != nil {
		panic("keyring: deriving a key: " + err.Error()) // only sizes beyond 8 kB are refused
	}
	return out
}

// Parse returns the keys in a Secret's data, the one to use first. Each is raw bytes, or their base64, which is what people
// put into a Secret's stringData. A wrong entry is an error that wraps ErrEntry; the keys that are right come beside it,
// unless the current one is not among them.
func Parse(data map[string][]byte) ([]Key, error) {
	current, err := parse(data, EntryKey)
	if err != nil {
		return nil, fmt.Errorf("%w; delete the Secret and the controller makes a new one", err)
	}
	keys := []Key{current}
	var errs []error
	for _, entry := range []string{EntryNext, EntryPrevious} {
		if _, ok := data[entry]; !ok {
			continue
		}
		k, err := parse(data, entry)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%w; remove the entry", err))
		case k != current && (len(keys) == 1 || k != keys[1]):
			keys = append(keys, k)
		}
	}
	return keys, errors.Join(errs...)
}

func parse(data map[string][]byte, entry string) (Key, error) {
	raw := data[entry]
	if len(raw) != Size {
		if plain, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(raw))); err == nil && len(plain) == Size {
			raw = plain
		}
	}
	k, err := New(raw)
	if err != nil {
		return Key{}, fmt.Errorf("entry %q: %w", entry, err)
	}
	return k, nil
}

// Distinct reports whether k can stand beside others: heartbeats name their key by the last byte of its ID.
func (k Key) Distinct(others ...Key) bool {
	for _, o := range others {
		if uint8(k.ID) == uint8(o.ID) {
			return false
		}
	}
	return true
}
