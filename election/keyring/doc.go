// Package keyring knows the keys that the speakers share: how a Secret holds them, how each use gets a key of its own
// (HKDF, RFC 5869, with SHA-256), and when a rotation takes its next step. It is pure: the controller (internal/kube) reads
// and writes the Secret, the speakers read it (internal/speaker) and encrypt with it (election/gossip).
//
// # Rotation
//
// A rotation has three steps, each no earlier than everybody can have taken the one before: a new key is added beside the
// current one (install), the two change places (promote), the old one is dropped (retire). The Secret's entries are the
// state: with "next" a rotation is being installed, with "previous" being retired. A speaker that holds a key accepts it;
// which one it encrypts with is also a matter of whether the others hold it, see election/gossip.
package keyring
