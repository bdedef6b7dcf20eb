// Package e2e holds the end-to-end tests: manifests go into a real API server, packets come out of a real node, and a client
// outside the cluster judges. They need root and the binaries of `make build`; build tag e2e.
//
// One lab serves all tests. Each test makes its own namespace and, where it needs addresses, its own pool that only this
// namespace may use, so that the order does not matter. Tests that leave nodes, speakers and controllers alone run last, in
// parallel: in the time that the rotation of the gossip key takes.
//
// The files semantics_*_test.go are the promises of the Service API, as Kubernetes' own e2e tests put them to the test. They run
// twice: in the lab of all tests, where Fairlead forwards LoadBalancer addresses beside a real kube-proxy (TestSemanticsExternal), and
// in one of their own without kube-proxy and with both IP families, where Fairlead forwards everything (TestModeFull). What holds there
// for kube-proxy as well is the check on the tests themselves. TestModeNone has a third lab. TestPages runs the commands of README, docs
// and examples in one that begins without Fairlead, the take-over from a real MetalLB among them. TestDirectAtLayer2 and TestDirectByRouters need
// engine ipvs: scripts/test-e2e-vm runs them. Environment:
//
//	FAIRLEAD_E2E_ENGINE      the datapath engine that must be in use: nft (default) or ipvs
//	FAIRLEAD_E2E_LAB         the lab's name, default e2e; another one lets two runs be on one machine; none: tests that make their own have no other beside it
//	FAIRLEAD_E2E_NODES       how many nodes, default 3
//	FAIRLEAD_E2E_KUBE_PROXY  value of fairlab up --kube-proxy, default nftables
//	FAIRLEAD_E2E_ROUTER      value of fairlab up --router, default frr, which the tests of BGP need
//	FAIRLEAD_E2E_OUTAGE      how long the API server is away in TestWithoutTheAPIServer, default 25s; 10m for a long run
//	FAIRLAB_SLOW             stretches every time limit
package e2e
