// Package state is the state directory of a lab: where each file is, who may
// change the lab at a time (Lock), and which process is its supervisor (Process).
// Removing the directory removes all that a lab leaves on disk.
package state
