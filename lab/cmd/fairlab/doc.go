// Fairlab runs a real Kubernetes cluster on one Linux machine, for trying, testing
// and measuring Fairlead: see ../../README.md for the commands.
//
// The same program is the command line, the supervisor of a lab (`supervise`), the
// init of its members (`member`) and what becomes a container (`container`,
// `pause`); the last four are started by fairlab itself. It imports nothing of
// Kubernetes, because the inits and containers of a lab have to be small and start
// fast; fairlab-kube is the other half.
package main
