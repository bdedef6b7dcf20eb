package supervisor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/fairlead-lb/fairlead/lab/config"
	"github.com/fairlead-lb/fairlead/lab/controlplane"
	"github.com/fairlead-lb/fairlead/lab/daemon"
	"github.com/fairlead-lb/fairlead/lab/member"
	"github.com/fairlead-lb/fairlead/lab/nodeconfig"
	"github.com/fairlead-lb/fairlead/lab/router"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// powerOn boots a member that is off.
func (s *supervisor) powerOn(name string) error {
	plan, err := s.planOf(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.machines[name].Running() {
		return fmt.Errorf("%s is on already", name)
	}
	config, err := s.memberConfig(plan)
	if err != nil {
		return err
	}
	if err := s.network.Unplug(plan); err != nil { // left over when its init was killed from elsewhere
		return err
	}
	machine, begin, err := member.Start(s.reaper, config, s.Dir.Member(name), s.Dir.MemberLogs(name))
	if err != nil {
		return err
	}
	if err := s.network.Plug(plan, machine.NetNS()); err != nil {
		return errors.Join(err, machine.Kill())
	}
	if err := begin(); err != nil {
		return errors.Join(err, machine.Kill())
	}
	s.machines[name] = machine
	s.Log.Info("member on", "member", name, "pid", machine.Init.Pid)
	return nil
}

// powerOff takes the member's carriers and kills all of its processes.
func (s *supervisor) powerOff(name string) error {
	plan, err := s.planOf(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	machine := s.machines[name]
	if !machine.Running() {
		return fmt.Errorf("%s is off already", name)
	}
	// Links first: what a dying node still says must not be heard.
	var errs []error
	for _, cable := range plan.Links {
		errs = append(errs, s.network.SetPort(cable.Port, false))
	}
	errs = append(errs, machine.Kill(), s.network.Unplug(plan))
	delete(s.machines, name)
	s.Log.Info("member off", "member", name)
	return errors.Join(errs...)
}

// setLANLink cuts or heals the LAN link of a member that is on.
func (s *supervisor) setLANLink(name string, up bool) error {
	plan, err := s.planOf(name)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.machines[name].Running() {
		return fmt.Errorf("%s is off", name)
	}
	for _, cable := range plan.Links {
		if cable.Segment == topology.LAN {
			s.Log.Info("LAN link set", "member", name, "up", up)
			return s.network.SetPort(cable.Port, up)
		}
	}
	return fmt.Errorf("%s has no LAN link", name)
}

// planOf finds a member that can be switched on and off.
func (s *supervisor) planOf(name string) (topology.Member, error) {
	names := make([]string, 0, len(s.plan))
	for _, plan := range s.plan[1:] {
		if plan.Name == name {
			return plan, nil
		}
		names = append(names, plan.Name)
	}
	return topology.Member{}, fmt.Errorf("no member %q; there are %s", name, strings.Join(names, ", "))
}

// memberConfig says what a member runs, and writes the files for it.
func (s *supervisor) memberConfig(plan topology.Member) (member.Config, error) {
	c := member.Config{Name: plan.Name, Sysctls: plan.Sysctls}
	switch plan.Name {
	case topology.Client:
		return c, nil
	case topology.Router:
		return s.routerConfig(c)
	}
	n, err := strconv.Atoi(strings.TrimPrefix(plan.Name, topology.NodePrefix))
	if err != nil {
		panic("supervisor: member " + plan.Name + " is no node")
	}
	return s.nodeConfig(c, n)
}

func (s *supervisor) routerConfig(c member.Config) (member.Config, error) {
	setup := router.New(s.Lab.Router, s.Dir.Member(c.Name), s.Dir.MemberLogs(c.Name))
	c.Dirs, c.Daemons = setup.Dirs, setup.Daemons
	if setup.File == "" {
		return c, nil
	}
	if err := writeFile(setup.File, []byte(setup.Text)); err != nil {
		return member.Config{}, err
	}
	return c, member.Chown(setup.File, setup.User)
}

func (s *supervisor) nodeConfig(c member.Config, n int) (member.Config, error) {
	dir, logs := s.Dir.Member(c.Name), s.Dir.MemberLogs(c.Name)
	file := filepath.Join(dir, "node.json")
	var dns []string
	if s.Lab.DNS {
		dns = []string{topology.DNSAddr().String()}
	}
	data, err := json.MarshalIndent(nodeconfig.Config{
		Name:           c.Name,
		Kubeconfig:     s.Dir.ComponentKubeconfig(c.Name),
		RootDir:        filepath.Join(dir, "root"),
		LogDir:         filepath.Join(logs, "pods"),
		BinDir:         s.Lab.BinDir,
		NodeIPs:        topology.NodeIPs(n, s.Lab.DualStack),
		PodCIDRs:       topology.PodCIDRs(n, s.Lab.DualStack),
		ClusterDNS:     dns,
		ClientCAFile:   controlplane.ClientCA(s.Dir),
		ServerCertFile: s.Dir.Cert(controlplane.Kubelet(c.Name)),
		ServerKeyFile:  s.Dir.Key(controlplane.Kubelet(c.Name)),
		LANInterface:   "eth0",
	}, "", "  ")
	if err != nil {
		return member.Config{}, fmt.Errorf("encoding configuration of %s: %w", c.Name, err)
	}
	if err := writeFile(file, data); err != nil {
		return member.Config{}, err
	}
	kube := s.program("fairlab-kube")
	c.Daemons = []daemon.Spec{{
		Name: "kubelet", Log: filepath.Join(logs, "kubelet.log"),
		Argv: []string{kube, "node", "--config", file},
	}}
	if mode := s.Lab.KubeProxy; mode != config.KubeProxyNone {
		args := controlplane.KubeProxyArgs(s.controlPlaneOptions(), c.Name, string(mode))
		c.Daemons = append(c.Daemons, daemon.Spec{
			Name: controlplane.KubeProxy, Log: filepath.Join(logs, controlplane.KubeProxy+".log"),
			Argv: append([]string{kube, controlplane.KubeProxy}, args...),
		})
	}
	return c, nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making directory: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("writing configuration: %w", err)
	}
	return nil
}
