// Package view has the JSON that a speaker serves on /debug/decisions and /debug/datapath: internal/speaker writes it,
// cmd/kubectl-fairlead reads it. It holds types only. A reader ignores fields that it does not know and takes absent ones for
// their zero value, so that the two may be of different versions.
package view
