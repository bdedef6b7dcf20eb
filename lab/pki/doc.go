// Package pki makes the certificates of a lab: two authorities (the cluster's and
// the front proxy's), and a leaf per component and node. Everything is ECDSA P-256,
// because making RSA keys would be most of the start time on a slow machine.
// Keys are PEM in memory; the supervisor decides where they are written.
package pki
