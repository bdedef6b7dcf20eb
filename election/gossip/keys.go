package gossip

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/election/keyring"
)

// SetKeys replaces the keys, the one to use first. Messages under any of them are heard from now on, also while Run runs;
// under others no longer. Sent is with the first one that every other member has said it holds, also members that fell silent
// without goodbye within the last 24 h: so a member that has not heard of a rotation is neither deaf nor unheard, as long as
// its key is still among these. It does not block. Without any key it changes nothing.
func (g *Gossip) SetKeys(keys []keyring.Key) {
	if len(keys) == 0 {
		return
	}
	ids := make([]uint32, 0, len(keys))
	for _, k := range keys {
		ids = append(ids, k.ID)
	}
	slices.Sort(ids)
	g.mu.Lock()
	g.keys = slices.Clone(keys)
	if g.table.setKeys(ids) {
		g.wakeSender()
	}
	g.mu.Unlock()
	if g.running.Load() {
		g.useKeys()
	}
}

// useKeys brings the order of the keys up to date.
func (g *Gossip) useKeys() {
	g.keysMu.Lock() // so that the last call of KeysInUse is the last word
	defer g.keysMu.Unlock()
	g.mu.Lock()
	order := inOrder(g.keys, g.table.keysHeld(time.Now()))
	g.mu.Unlock()
	if slices.Equal(order, g.inUse) {
		return
	}
	if err := setRing(g.ring, order); err != nil {
		g.o.Log.Error("keys not taken into use", "err", err)
		return
	}
	if len(g.inUse) == 0 || g.inUse[0] != order[0] {
		g.o.Log.Info("gossip key in use", "key", order[0].String(), "held", len(order))
	}
	g.inUse = order
	g.o.KeysInUse(slices.Clone(order))
}

// inOrder moves the first key that all others hold to the front. If there is none, the order stays.
func inOrder(keys []keyring.Key, held [][]uint32) []keyring.Key {
	for i, k := range keys {
		if !slices.ContainsFunc(held, func(ids []uint32) bool { return !slices.Contains(ids, k.ID) }) {
			out := append([]keyring.Key{k}, keys[:i]...)
			return append(out, keys[i+1:]...)
		}
	}
	return keys
}

func newRing(keys []keyring.Key) (*memberlist.Keyring, error) {
	ring, err := memberlist.NewKeyring(nil, slices.Clone(keys[0].Secret[:]))
	if err != nil {
		return nil, fmt.Errorf("making the keyring: %w", err)
	}
	return ring, setRing(ring, keys)
}

// setRing makes the ring hold exactly these keys, the first one to send with. It never lacks a key that it had and keeps.
func setRing(ring *memberlist.Keyring, keys []keyring.Key) error {
	keep := map[[keyring.Size]byte]bool{}
	for _, k := range keys {
		keep[k.Secret] = true
		if err := ring.AddKey(slices.Clone(k.Secret[:])); err != nil {
			return fmt.Errorf("adding key %s: %w", k, err)
		}
	}
	if err := ring.UseKey(slices.Clone(keys[0].Secret[:])); err != nil {
		return fmt.Errorf("using key %s: %w", keys[0], err)
	}
	for _, old := range slices.Clone(ring.GetKeys()) { // RemoveKey writes to the slice
		if !keep[[keyring.Size]byte(old)] {
			if err := ring.RemoveKey(old); err != nil {
				return fmt.Errorf("removing a key: %w", err)
			}
		}
	}
	return nil
}
