// Command datapath measures Fairlead's datapath beside the real kube-proxy: the same API server, the same Services, the same machine, one
// after the other in the same run.
//
//	datapath -services 10000 -engine nft          # against kube-proxy in mode nftables; needs root and bin/fairlab-kube, bin/speaker
//	datapath -services 1000 -engine ipvs          # against mode ipvs, on a kernel that has it
//
// It works in a network namespace of its own, which is the node: etcd and the API server listen on its loopback, one namespace more holds
// a client, another the pods. Service i has the cluster IP that the API server gave it, which kube-proxy serves, and the address
// 198.18.x.y in its status with ipMode Proxy, which Fairlead serves; five endpoints each, of which those of the first Service exist.
// The API server's data are kept in -state and used again, because creating 10,000 Services takes minutes.
//
// Every line is "NAME VALUE UNIT". Only ratios between lines of one run mean anything on a shared machine.
package main
