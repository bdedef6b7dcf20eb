// Command speaker runs on every node. It elects, together with its peers, who announces which address of a LoadBalancer
// Service, answers ARP for those that this node owns, and programs the node's datapath, which forwards them to the
// endpoints.
//
// On SIGTERM it hands its addresses over to other nodes and leaves the datapath in place for the connections that it
// carries, unless the DaemonSet that it belongs to was deleted: then no other process will follow, and it removes everything that it
// ever wrote to the node. A second SIGTERM ends it at once. With --cleanup it does nothing but remove everything.
//
// "speaker bgp" is another process, in a container of its own: the BGP sessions with the routers, without any privilege. The two
// meet at a unix socket; see announce/bgp/process for what becomes of the routes when one of them ends.
//
// It serves /metrics, /healthz and /livez (as kube-proxy does: docs/healthchecks.md), /readyz (it could announce), /debug/decisions (each address with the
// reason why it is announced here or not) and /debug/datapath over HTTP, on port 9381 of the node by default.
package main
