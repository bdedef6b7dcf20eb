// Package reaper starts and waits for processes in a process that is pid 1 of a pid
// namespace. Such a process inherits every orphan and must wait for it, and a wait
// for any child would steal the status that os/exec waits for: so here is the only
// place that waits. A program that uses a Reaper must start all of its processes
// with Reaper.Start and never call exec.Cmd.Run, Output or Wait.
package reaper
