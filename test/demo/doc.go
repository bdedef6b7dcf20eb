// Command demo is `make demo`: it starts a lab, installs the chart, applies examples/quickstart and shows, one line per
// step with its time and evidence, an address assigned, announced and answering, and a node that loses power while a client
// keeps asking. It exits 0 only if every step was seen to be true. With -keep the lab stays up.
package main
