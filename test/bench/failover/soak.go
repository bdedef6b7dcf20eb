package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/test/bed"
)

// soak has speakers and keepalived stand side by side, disturbs them in a way that is no failure, and counts how often an
// address moves all the same. With cpu, the first speaker runs in that cgroup.
func (b *bench) soak(name, cpu string, disturb func()) {
	l := bed.New(b)
	peers := []int{1, 2, 3}
	for _, i := range peers {
		o := bed.NodeOptions{Number: i, Peers: peers, VIPs: 6, IPv6: true, Heartbeat: heartbeat}
		if i == 1 {
			o.CPU = cpu
		}
		l.Start(o)
	}
	ours, theirs := l.Settled(settleTime, peers...), map[netip.Addr]int{}
	if b.c.reference {
		theirs = keepaliveds(l, "keepalived", 31, 51, false).owners()
	}
	capture := l.Capture()
	disturb()
	for end := time.Now().Add(b.c.soak); time.Now().Before(end); {
		time.Sleep(min(time.Minute, time.Until(end)))
		b.logf("%s: %d takeovers so far, keepalived %d", name, changes(capture.Claims(), ours), changes(capture.Claims(), theirs))
	}
	claims := capture.Stop()
	b.out.add(name+".speakers-3.takeovers", "takeovers", float64(changes(claims, ours)))
	if b.c.reference {
		b.out.add(name+".keepalived.takeovers", "takeovers", float64(changes(claims, theirs)))
	}
	b.out.add(name+".length", "s", b.c.soak.Seconds())
}

// hogs: the machine's CPUs are busy.
func hogs(b *bench) {
	b.soak("hogs", "", func() {
		for range 16 {
			b.hog("")
		}
	})
}

// hog starts a process that computes until the section ends, in a cgroup if one is given.
func (b *bench) hog(cpu string) {
	script := "while :; do :; done"
	if cpu != "" {
		script = "echo 0 > " + cpu + "/cgroup.procs; " + script
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	b.check(cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
	})
}

// loss: the bridge drops 2 % of all packets, at random.
func loss(b *bench) {
	b.soak("loss", "", func() {
		chains := ""
		for _, hook := range []string{"forward", "input", "output"} {
			chains += fmt.Sprintf("  chain %s {\n    type filter hook %s priority 0;\n    numgen random mod 100 < 2 drop\n  }\n", hook, hook)
		}
		b.nft("table bridge loss {\n" + chains + "}\n")
		b.Cleanup(func() { b.nft("delete table bridge loss\n") })
	})
}

func (b *bench) nft(script string) {
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("running nft: %w: %s", err, out)
	}
}

// quota: the first speaker shares a tenth of a CPU with a process that wants all of it, as with a limit of 100m and a busy pod.
func quota(b *bench) {
	if b.c.cpu == "" {
		b.logf("not available: no cgroup with a CPU quota can be made here")
		return
	}
	b.soak("quota", b.c.cpu, func() { b.hog(b.c.cpu) })
}

// cgroupVar tells the inner process where the cgroup is.
const cgroupVar = "FAIRLEAD_FAILOVER_CGROUP"

// withCgroup makes a cgroup with a tenth of a CPU, which a helper removes when this process has ended, however it ends. The
// cgroup outlives namespaces, so this must be done outside of them. Without the right to do it, section quota is not available.
func withCgroup() error {
	dir := fmt.Sprintf("fairlead-failover-%d", os.Getpid())
	settings := map[string]string{"cpu.max": "10000 100000"} // cgroup v2
	if _, err := os.Stat("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"); err == nil {
		dir = "/sys/fs/cgroup/cpu/" + dir
		settings = map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "10000"}
	} else {
		dir = "/sys/fs/cgroup/" + dir
	}
	var ends [2]int // the second stays open as long as this process lives; its children do not inherit it
	if err := syscall.Pipe2(ends[:], syscall.O_CLOEXEC); err != nil {
		return fmt.Errorf("making a pipe: %w", err)
	}
	helper := exec.Command("sh", "-c", `read -r _; for _ in $(seq 50); do rmdir "$0" 2>/dev/null && break; sleep 0.1; done`, dir)
	helper.Stdin, helper.SysProcAttr = os.NewFile(uintptr(ends[0]), "pipe"), &syscall.SysProcAttr{Setsid: true}
	if err := helper.Start(); err != nil {
		return fmt.Errorf("starting the helper that removes the cgroup: %w", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("making a cgroup: %w", err)
	}
	for name, value := range settings {
		if err := os.WriteFile(dir+"/"+name, []byte(value), 0); err != nil {
			return fmt.Errorf("setting %s: %w", name, err)
		}
	}
	return os.Setenv(cgroupVar, dir)
}
