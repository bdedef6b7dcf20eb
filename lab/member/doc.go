// Package member is a machine of the lab that has processes of its own: a node, the
// router, the client. Its pid 1 (Run, started as `fairlab member`) furnishes the
// namespaces, waits until the supervisor has plugged the cables in, runs the
// member's daemons and reaps orphans. Power (Start, Machine.Kill) is the
// supervisor's side of it: killing pid 1 makes the kernel kill every process of the
// member at once, which is what a power failure does.
package member
