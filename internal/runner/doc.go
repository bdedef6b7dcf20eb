// Package runner turns "something changed" into calls of one function: triggers that arrive while it runs or rests are
// merged into one further call, two calls that were asked for are never closer than a minimum, a call that failed is repeated with growing
// delay, and after a maximum without any trigger it is called anyway. It is the loop around each reconciler, as kube-proxy's
// BoundedFrequencyRunner is around its own.
//
// It does not queue work items and keeps no state for its function. internal/controller and internal/speaker call it.
package runner
