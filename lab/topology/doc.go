// Package topology is the plan of a lab's networks: which members there are, on
// which segments, with which addresses, routes and kernel settings. It is pure;
// package fabric carries it out, the supervisor and the tests read addresses from it.
//
//	lan   192.0.2.0/24 2001:db8:0:1::/64   router .1  node-N .(10+N)  client .100
//	mgmt  198.51.100.0/24                  control-plane .1  node-N .(10+N)
//	pods  10.244.N.0/24 fd00:10:244:N::/64 on node-N
//
// In IPv6 the host part reads like the IPv4 one: node-1 is 192.0.2.11 and
// 2001:db8:0:1::11. The API server is 10.96.0.1, the first address of the Service
// range, on the control plane's loopback, so that pods reach it with and without
// kube-proxy.
package topology
