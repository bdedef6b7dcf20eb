// Package daemon keeps one program of a lab running, as systemd would: started,
// logged to a file, restarted with a growing pause when it ends by itself, stopped
// and started again on request. The supervisor runs the control plane's components
// with it, a member's init the kubelet, kube-proxy and routing daemons.
package daemon
