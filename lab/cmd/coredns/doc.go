// Command coredns is CoreDNS with the plugins that a cluster's DNS needs: the image coredns of the lab.
package main
