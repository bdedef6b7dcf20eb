// Package datapath decides what a node's kernel must hold so that connections to the VIPs of LoadBalancer Services end at
// their endpoints: [Desired] turns facts into a [State], [Diff] turns two states into ordered operations.
//
// It knows the semantics of Services (externalTrafficPolicy, terminating endpoints, source ranges, session affinity; the
// S-numbers in comments and tests are the statements of the project's Service specification, KEP-1669 and KEP-1860 among their
// sources) and no kernel interface. It reads no clock and opens nothing: executors are datapath/ipvs, datapath/nft,
// datapath/link and datapath/conntrack, which never decide. internal/speaker calls Desired, the ipvs engine calls Diff.
package datapath
