// Package enter runs a command inside the namespaces of a member of a lab, as
// nsenter does, from outside of the lab. fairlab's exec and capture use it.
package enter
