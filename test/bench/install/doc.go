// Command install measures, in a lab of its own of three nodes, how long it takes from `helm install` to the first answer from the
// quickstart's Service, and what controller and speakers cost while nothing happens. It prints lines "name value unit" for
// scripts/bench, of the idle costs one for each process. It needs root and the binaries of `make build`.
package main
