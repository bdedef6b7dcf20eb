// Package bfd tests bfd/udp on the wire: against FRR's bfdd and BIRD's BFD, between our own processes that are stopped, killed and
// cut off, against hostile packets, and on a machine without a free CPU. Everything runs in network namespaces that end with the
// test.
//
// Run it as root, with the Debian packages frr and bird2 installed: scripts/test-wire, or go test -tags wire ./test/wire/bfd
package bfd
