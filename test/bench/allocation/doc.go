// Command allocation measures the controller with many Services in a lab of its own: how soon all have an address, how many
// writes and how much memory and CPU that costs. It prints lines "name value unit" for scripts/bench. It needs root and the
// binaries of `make build`.
//
// First the Services are created while the controller runs. Then their addresses are taken away while none runs, and one is
// started. Creating Services is slower than giving them addresses, so only the second shows what the controller can do. The Services have no endpoints and their addresses are on no segment, so that speakers see them all but announce none.
package main
