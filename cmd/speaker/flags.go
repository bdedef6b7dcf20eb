package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/bits"
	"net/netip"
	"os"
	"time"

	"github.com/fairlead-lb/fairlead/datapath/link"
	"github.com/fairlead-lb/fairlead/datapath/nft"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/lb"
)

// config is what the command line says.
type config struct {
	kube      kube.Options
	node      lb.NodeName
	nodeIP    netip.Addr
	stateDir  string
	daemonSet string

	gossipPort                       uint
	heartbeatPort                    uint
	heartbeatInterval                time.Duration
	heartbeatMultiplier              uint
	realtime                         bool
	probeInterval                    time.Duration
	probeTimeout                     time.Duration
	suspicionMult                    int
	mode, engine                     string
	forwarding                       lb.Forwarding
	procSys                          string
	mark                             uint
	httpAddr, healthzAddr, logFormat string
	logLevel                         slog.Level
	cleanup, version                 bool
	onCordon                         string
	bgpSocket                        string
}

func parse(args []string) (config, error) {
	var c config
	fs := flag.NewFlagSet("speaker", flag.ContinueOnError)
	fs.Func("node-name", "name of the Node that this process runs on (required)", func(s string) error { c.node = lb.NodeName(s); return nil })
	fs.Func("node-ip", "address of the node under which the other speakers reach it (required)", func(s string) (err error) { c.nodeIP, err = netip.ParseAddr(s); return err })
	fs.StringVar(&c.kube.Namespace, "namespace", "fairlead-system", "namespace of Fairlead, its pools and its gossip key")
	fs.StringVar(&c.kube.Class, "load-balancer-class", kube.LoadBalancerClass, "spec.loadBalancerClass of the Services to serve")
	fs.BoolVar(&c.kube.RequireClass, "require-class", false, "leave Services without a class to others")
	fs.UintVar(&c.gossipPort, "gossip-port", 7947, "port of the speakers' gossip, TCP and UDP")
	fs.DurationVar(&c.probeInterval, "gossip-probe-interval", 200*time.Millisecond, "how often a speaker probes another")
	fs.DurationVar(&c.probeTimeout, "gossip-probe-timeout", 80*time.Millisecond, "how long it waits for the answer; at most 0.4 x the interval")
	fs.IntVar(&c.suspicionMult, "gossip-suspicion-mult", 3, "how many probe intervals a silent speaker has before it counts as dead")
	fs.UintVar(&c.heartbeatPort, "heartbeat-port", 7948, "UDP port of the speakers' heartbeats")
	fs.DurationVar(&c.heartbeatInterval, "heartbeat-interval", 50*time.Millisecond, "how often a speaker tells its watchers that it lives, 10ms to 10s; 0: gossip alone notices who has died")
	fs.UintVar(&c.heartbeatMultiplier, "heartbeat-multiplier", 3, "how many heartbeats may be missing before a node is silent, 1 to 255")
	fs.BoolVar(&c.realtime, "realtime", true, "real-time scheduling for the heartbeats, so that a busy node is not taken for dead; needs CAP_SYS_NICE and CAP_IPC_LOCK")
	fs.StringVar(&c.mode, "datapath-mode", "external", "external: forward LoadBalancer addresses beside kube-proxy; full: forward for every Service, in its place; none: announce only, kube-proxy or Cilium forwards")
	c.forwardingFlags(fs)
	fs.StringVar(&c.engine, "engine", "auto", "ipvs, nft, or auto: ipvs where the kernel has it")
	fs.StringVar(&c.onCordon, "on-cordon", "keep", "keep: a cordoned node goes on announcing; leave: it hands over what other nodes can take")
	fs.UintVar(&c.mark, "masquerade-mark", nft.DefaultMark, "the bit of packet marks that means masquerade; neither it nor the one below may be used by others on the node")
	fs.StringVar(&c.procSys, "proc-sys", link.ProcSys, "where to write kernel settings: in a container, where the node's /proc/sys is mounted")
	fs.StringVar(&c.stateDir, "state-dir", "", "directory, for us alone, that keeps what a restart without the API server needs; none if empty")
	fs.StringVar(&c.bgpSocket, "bgp-socket", "", "unix socket of \"speaker bgp\", which runs the BGP sessions; no BGP if empty")
	fs.StringVar(&c.httpAddr, "http-addr", ":9381", "address of /metrics, /healthz, /livez, /readyz and /debug")
	fs.StringVar(&c.healthzAddr, "healthz-addr", ":10256", "where --datapath-mode=full answers /healthz and /livez as well, in place of kube-proxy")
	fs.StringVar(&c.logFormat, "log-format", "json", "json or text")
	fs.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	fs.String("kubeconfig", "", "kubeconfig file; default: the pod's service account")
	fs.StringVar(&c.daemonSet, "daemonset", "", "name of the DaemonSet that this process belongs to: if that is deleted, the process does --cleanup when it is told to end; none if empty")
	fs.BoolVar(&c.cleanup, "cleanup", false, "remove everything that Fairlead wrote to this node, and exit")
	fs.BoolVar(&c.version, "version", false, "print the version and exit")
	if err := fs.Parse(args); err != nil {
		return c, err
	}
	if file := fs.Lookup("kubeconfig").Value.String(); file != "" {
		if err := os.Setenv("KUBECONFIG", file); err != nil { // where controller-runtime looks
			return c, err
		}
	}
	c.kube.Full, c.forwarding.Full = c.mode == "full", c.mode == "full"
	return c, c.validate()
}

func (c config) validate() error {
	switch {
	case c.logFormat != "json" && c.logFormat != "text":
		return fmt.Errorf("--log-format is %q, want json or text", c.logFormat)
	case c.cleanup || c.version:
		return nil
	case c.mode != "external" && c.mode != "none" && c.mode != "full":
		return fmt.Errorf("--datapath-mode is %q, want external, full or none", c.mode)
	case c.onCordon != "keep" && c.onCordon != "leave":
		return fmt.Errorf("--on-cordon is %q, want keep or leave", c.onCordon)
	case bits.OnesCount(c.mark) != 1 || c.mark == 1 || c.mark > 0x800000:
		return fmt.Errorf("--masquerade-mark is %#x, want one bit from 0x2 to 0x800000", c.mark)
	case c.node == "":
		return errors.New("--node-name is missing")
	case !c.nodeIP.IsValid():
		return errors.New("--node-ip is missing")
	case c.gossipPort == 0 || c.gossipPort > 65535:
		return fmt.Errorf("--gossip-port is %d, want 1 to 65535", c.gossipPort)
	case c.heartbeatPort == 0 || c.heartbeatPort > 65535 || c.heartbeatPort == c.gossipPort:
		return fmt.Errorf("--heartbeat-port is %d, want 1 to 65535 and not the gossip's %d", c.heartbeatPort, c.gossipPort)
	case c.heartbeatMultiplier == 0 || c.heartbeatMultiplier > 255:
		return fmt.Errorf("--heartbeat-multiplier is %d, want 1 to 255", c.heartbeatMultiplier)
	}
	return nil
}
