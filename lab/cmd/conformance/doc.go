// Command conformance runs Kubernetes' own end-to-end specs of sig-network, unmodified, against a lab that it starts, and prints what
// became of each: passed, failed, skipped by the suite itself, or left out by us with the reason.
//
// The mode says who forwards: full (Fairlead alone), external (Fairlead beside kube-proxy in mode nftables) or kube-proxy (that kube-proxy
// alone; Fairlead assigns and announces). The last one is the control: what fails there too is a fault of the lab.
//
// The suite runs on the lab's client, as an outsider who also reaches the API server. Specs that the lab cannot serve are in left-out.txt.
package main
