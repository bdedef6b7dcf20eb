// Package kernel proves both datapath engines on a real kernel: a client, a node with two pods, and a second node with one, all
// network namespaces that the test makes and that end with it; real sockets, and no knowledge of how an engine does it except where
// a test is about what is left behind.
//
//	sudo go test -tags kernel ./test/kernel                     every engine that the kernel offers; at least nft
//	sudo go test -tags kernel ./test/kernel -engine ipvs        this one or failure
//
// One test is not about an engine: an address that is announced on a VLAN of a bond. It needs the modules 8021q and bonding.
//
// Where the host's kernel has no IPVS, the same runs in a VM: go test -exec "$(pwd)/bin/vm run --" … (test/vm).
package kernel
