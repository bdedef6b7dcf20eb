// Command kubectl-fairlead is a kubectl plugin: `kubectl fairlead COMMAND` where it is in the PATH. It says what Fairlead does
// and why, what manifests would do, and turns MetalLB's objects into Fairlead's. It changes nothing in a cluster.
//
// What it decides is decided in internal/dryrun, internal/explain and internal/migrate, which are pure; here files are read, the
// API server is asked, and answers are printed. The exit code is 0 if all is well, 1 if something is found (a refusal, a
// difference, a step of the chain that says no), and 2 if the question could not be answered.
package main
