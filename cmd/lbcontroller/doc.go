// Command lbcontroller gives addresses to Services of type LoadBalancer. Several replicas may run; one of them holds the
// lease and works. One that loses the lease begins anew, by exec. It announces and forwards nothing: that is the speakers' part.
//
// With --dashboard-addr every replica serves a web page over HTTP that shows the installation and changes nothing.
//
// It serves /metrics, /healthz (the process answers) and /readyz (its caches have synced) over HTTP, 9380 by default, and every
// replica the validating admission webhook over HTTPS, 9443 by default.
package main
