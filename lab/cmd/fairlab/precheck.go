package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/router"
	"github.com/fairlead-lb/fairlead/lab/state"
)

// precheck finds out what would make a lab fail later and less clearly.
func precheck(dir state.Dir, lab config.Lab) error {
	if os.Geteuid() != 0 {
		return errors.New("root is needed, for namespaces and links")
	}
	for _, path := range []string{string(dir), lab.BinDir} {
		if strings.HasPrefix(path, "/run/") || strings.HasPrefix(path, "/proc/") || strings.HasPrefix(path, "/sys/") {
			return fmt.Errorf("%s is in a directory that is another one in the lab", path)
		}
	}
	for _, name := range []string{"fairlab", "fairlab-kube"} {
		if _, err := os.Stat(filepath.Join(lab.BinDir, name)); err != nil {
			return fmt.Errorf("program of the lab is missing, build it with `make build` in the checkout: %w", err)
		}
	}
	setup := router.New(lab.Router, "", "")
	for _, name := range setup.Programs {
		if _, err := os.Stat(name); err != nil {
			return fmt.Errorf("router %s needs %s; install the Debian package %s", lab.Router, name, setup.Package)
		}
	}
	return checkKubeProxy(lab.KubeProxy)
}

// checkKubeProxy tries whether programs and kernel can do the mode.
func checkKubeProxy(mode config.KubeProxy) error {
	switch mode {
	case config.KubeProxyNFTables:
		if err := needPrograms(mode, map[string]string{"nft": "nftables"}); err != nil {
			return err
		}
		return tryInNamespace(mode, "nft", "add", "table", "ip", "probe")
	case config.KubeProxyIPTables:
		if err := needPrograms(mode, map[string]string{"iptables": "iptables", "conntrack": "conntrack"}); err != nil {
			return err
		}
		return tryInNamespace(mode, "iptables", "-t", "nat", "-S")
	case config.KubeProxyIPVS:
		return checkIPVS(mode)
	}
	return nil
}

func checkIPVS(mode config.KubeProxy) error {
	programs := map[string]string{"ipset": "ipset", "iptables": "iptables", "conntrack": "conntrack"}
	if err := needPrograms(mode, programs); err != nil {
		return err
	}
	if modprobe, err := exec.LookPath("modprobe"); err == nil {
		_ = exec.Command(modprobe, "-q", "ip_vs").Run() // built in, or not there: see below
	}
	if _, err := netlink.GenlFamilyGet("IPVS"); err != nil {
		return fmt.Errorf("kube-proxy mode %s needs IPVS, which this kernel does not have (module ip_vs): %w", mode, err)
	}
	return nil
}

// needPrograms maps programs to the Debian packages that have them.
func needPrograms(mode config.KubeProxy, programs map[string]string) error {
	for name, pkg := range programs {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("kube-proxy mode %s needs the program %s; install the Debian package %s", mode, name, pkg)
		}
	}
	return nil
}

// tryInNamespace runs a command in a network namespace that is gone afterwards.
func tryInNamespace(mode config.KubeProxy, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "XTABLES_LOCKFILE=/dev/null") // no lock file on the machine
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kube-proxy mode %s does not work with this kernel: %s: %w: %s", mode, cmd, err, strings.TrimSpace(string(output)))
	}
	return nil
}
