// Package kubeapi is the little that the supervisor itself asks of the API server:
// whether it is ready, to have Node objects with fixed pod ranges, and whether the
// nodes are Ready. It is plain JSON over HTTPS, because client-go would make the
// supervisor, which is also every member's init, a hundred megabytes large.
package kubeapi
