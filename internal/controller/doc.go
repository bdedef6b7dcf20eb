// Package controller is the allocation loop of lbcontroller: it asks package ipam which addresses each Service is to own,
// has internal/kube write the answer to the Service's status, and sees to it that whoever waits is asked again as soon as
// an address is free or the pools change.
//
// One goroutine decides, in the order of events, and several write: a decision takes microseconds, a write milliseconds. For
// each Service only the last decision is written, and no address appears in a status before it has left another's.
//
// It begins with what is there: before the first answer every address in a status is adopted, read past the cache, so that
// neither a restart nor a change of leader gives one away twice. The allocator's memory is the truth from then on; a write
// that failed is repeated until the status agrees.
//
// cmd/lbcontroller builds a [Controller] and hands it to kube.Serve, which calls it. How addresses are chosen is ipam's
// business, how they are written internal/kube's.
package controller
