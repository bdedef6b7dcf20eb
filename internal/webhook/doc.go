// Package webhook keeps the validating admission webhook of lbcontroller going. It answers the API server's questions with
// what package admission decides, and a [Keeper] sees to the certificates that package pki plans: it renews the Secret,
// hands the serving certificate to the server from memory, and writes the authorities into the webhook's configuration.
//
// Every replica does all of this, whether it leads or not. Replicas meet in the Secret: each write builds on the version
// that was read, and whoever comes second reads again. The configuration is read before the Secret and written on that
// version, so that an old bundle never replaces a newer one.
//
// cmd/lbcontroller starts it. Nothing else waits for it: without certificate, configuration or answer the API server goes
// on as if there were no webhook (failurePolicy Ignore).
package webhook
