// Package survey asks every speaker what it decided and programmed, and completes the facts of internal/explain with that.
// cmd/kubectl-fairlead asks through the API server's proxy to pods; the web page of cmd/lbcontroller asks the pods themselves.
package survey
