// Package controlplane says how the parts of the control plane are started: their
// arguments, their certificates and the kubeconfigs. It is pure but for the random
// keys; the supervisor writes the files and runs the processes.
//
// The processes share one network namespace: etcd and the health ports of
// kube-controller-manager and kube-scheduler are on its loopback, the API server is
// on 10.96.0.1:443 and the management segment. RBAC and the Node authorizer are on:
// what lacks a permission in a cluster lacks it here.
package controlplane
