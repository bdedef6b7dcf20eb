// Package nodeconfig is the file that tells `fairlab-kube node` about its node: the supervisor writes it, package node reads
// it. It stands apart from package node because that brings a kubelet with it, which the supervisor is better without.
package nodeconfig
