// Package conformance is Kubernetes' own end-to-end suite as a program: the specs of sig-network at the version of the lab's control plane,
// unmodified. It is built with the tag conformance into bin/e2e.test, because it takes minutes and 120 MB; cmd/conformance
// runs it against a lab.
package conformance
