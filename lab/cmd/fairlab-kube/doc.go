// Fairlab-kube is the Kubernetes half of the lab in one static program: the
// first argument names the component, the rest are that component's own,
// unchanged flags.
//
//	fairlab-kube etcd --data-dir DIR
//	fairlab-kube kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy FLAGS
//	fairlab-kube node --config FILE
//	fairlab-kube kubectl ARGS
//
// Everything but etcd's thin wrapper and the node agent is upstream's code
// (k8s.io/kubernetes), so its flags, defaults and behaviour are the real ones.
// One process runs one component: feature gates, logging and metrics registries
// are global to a process. fairlab starts and stops these processes.
package main
