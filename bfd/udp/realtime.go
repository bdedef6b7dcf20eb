package udp

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// realtime gives the calling thread, and if wanted every other of the process, the priority of the options. The goroutine must
// be locked to its thread.
func (o Options) realtime() error {
	if o.Priority == 0 {
		return nil
	}
	attr := &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: uint32(o.Priority)}
	if !o.Process {
		attr.Flags = unix.SCHED_FLAG_RESET_ON_FORK // for threads and programs that might be started from this one
		return sched(0, attr)
	}
	for range 2 { // a thread that was started meanwhile has inherited it from its parent, or is met in the second round
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("listing the threads of the process: %w", err)
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			if err := sched(id, attr); err != nil && !errors.Is(err, unix.ESRCH) { // ESRCH: the thread has ended since
				return err
			}
		}
	}
	return nil
}

func sched(thread int, attr *unix.SchedAttr) error {
	if err := unix.SchedSetAttr(thread, attr, 0); err != nil {
		return fmt.Errorf("setting SCHED_FIFO priority %d: %w", attr.Priority, err)
	}
	return nil
}

// lock keeps the process's pages in memory once they are used.
func (o Options) lock() error {
	if !o.LockMemory {
		return nil
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("locking the process's memory: %w", err)
	}
	return nil
}
