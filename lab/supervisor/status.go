package supervisor

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"regexp"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/lab/control"
	"github.com/fairlead-lb/fairlead/lab/controlplane"
	"github.com/fairlead-lb/fairlead/lab/kubeapi"
	"github.com/fairlead-lb/fairlead/lab/netns"
	"github.com/fairlead-lb/fairlead/lab/topology"
)

// probeTimeout bounds one health check of `fairlab status`.
const probeTimeout = 3 * time.Second

// speakerPort serves the speaker's metrics on every node.
const speakerPort = 9381

// members is the cheap part of the status.
func (s *supervisor) members() []control.Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	members := make([]control.Member, 0, len(s.plan))
	for _, plan := range s.plan {
		m := control.Member{Name: plan.Name}
		if plan.Name == topology.ControlPlane {
			m.Up, m.NetNS = true, controlPlaneNS
		} else if machine := s.machines[plan.Name]; machine.Running() {
			m.Up, m.Pid, m.NetNS = true, machine.Init.Pid, machine.NetNS()
		}
		for _, cable := range plan.Links {
			m.Links = append(m.Links, control.Link{Name: cable.Name, Segment: cable.Segment, Up: s.network.PortUp(cable.Port)})
			for _, addr := range cable.Addrs {
				m.Addrs = append(m.Addrs, addr.Addr())
			}
		}
		for _, addr := range plan.Loopback {
			m.Addrs = append(m.Addrs, addr.Addr())
		}
		members = append(members, m)
	}
	return members
}

// status asks everything for its health, all at once.
func (s *supervisor) status(ctx context.Context) control.Status {
	ctx, cancel := context.WithTimeout(ctx, s.Lab.Timeout(probeTimeout))
	defer cancel()
	status := control.Status{Lab: s.Lab, Ready: s.progress.isReady(), Kubeconfig: s.Dir.Kubeconfig(), Members: s.members()}
	checks := []struct{ name, url string }{
		{controlplane.Etcd, controlplane.EtcdHealth},
		{controlplane.APIServer, controlplane.APIServerHealth},
		{controlplane.ControllerManager, controlplane.ControllerManagerHealth},
		{controlplane.Scheduler, controlplane.SchedulerHealth},
	}
	status.ControlPlane = make([]control.Component, len(checks))
	var wg sync.WaitGroup
	for i, check := range checks {
		wg.Go(func() { status.ControlPlane[i] = s.componentStatus(ctx, check.name, check.url) })
	}
	engines := make([]string, len(status.Members))
	for i, m := range status.Members {
		if m.Up && m.Pid != 0 {
			wg.Go(func() { engines[i] = engine(ctx, m.NetNS) })
		}
	}
	var nodes []kubeapi.Node
	wg.Go(func() { nodes, _ = s.api.Nodes(ctx) }) // an API server that is down is shown as such
	wg.Wait()
	for i := range status.Members {
		for _, node := range nodes {
			if m := &status.Members[i]; m.Name == node.Name {
				m.Node = &control.Node{Ready: node.Ready, Reason: node.Reason, Engine: engines[i]}
			}
		}
	}
	return status
}

func (s *supervisor) componentStatus(ctx context.Context, name, url string) control.Component {
	c := control.Component{Name: name, Health: "stopped"}
	d, started := s.component(name)
	if !started || d.Pid() == 0 {
		return c
	}
	c.Pid, c.Health = d.Pid(), "ok"
	if err := s.health(ctx, url); err != nil {
		c.Health = err.Error()
	}
	return c
}

// health asks a health port of the control plane, whose certificate on the
// loopback nobody has signed.
func (s *supervisor) health(ctx context.Context, url string) error {
	return get(ctx, s.dial, url, func(io.Reader) error { return nil })
}

// engine reads the datapath engine from a speaker's metrics, "" when no speaker answers.
func engine(ctx context.Context, namespace string) string {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return netns.Dial(ctx, namespace, network, address)
	}
	var found string
	url := fmt.Sprintf("http://%s/metrics", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), speakerPort))
	err := get(ctx, dial, url, func(body io.Reader) error {
		found = parseEngine(body)
		return nil
	})
	if err != nil {
		return ""
	}
	return found
}

// parseEngine finds fairlead_datapath_engine_info{engine="NAME"} 1 in metrics.
func parseEngine(metrics io.Reader) string {
	pattern := regexp.MustCompile(`^fairlead_datapath_engine_info\{(?:.*,)?engine="([^"]+)".*\} 1(?:\.0+)?$`)
	scanner := bufio.NewScanner(metrics)
	for scanner.Scan() {
		if match := pattern.FindStringSubmatch(scanner.Text()); match != nil {
			return match[1]
		}
	}
	return ""
}

func get(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), url string, read func(io.Reader) error) error {
	client := http.Client{Transport: &http.Transport{
		DialContext:       dial,
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true}, // self-signed, on a loopback that only the lab is on
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("making request: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking %s: %w", url, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("asking %s: answer %s", url, response.Status)
	}
	return read(response.Body)
}
