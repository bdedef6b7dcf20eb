package nodeconfig

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// Config is everything that a node agent is told; it is read from one JSON file.
// All paths are absolute and are those of the mount namespace in which node.Run is called.
type Config struct {
	// Name is the node's name and host name.
	Name string `json:"name"`
	// Kubeconfig reaches the API server as system:node:NAME.
	Kubeconfig string `json:"kubeconfig"`
	// RootDir holds the node's state. What is below RootDir/disk survives a power cycle.
	RootDir string `json:"rootDir"`
	// LogDir holds the containers' logs, NAMESPACE_POD_UID/CONTAINER/N.log. The directory above it is the node's /var/log.
	LogDir string `json:"logDir"`
	// BinDir holds the programs that images stand for, and fairlab.
	BinDir string `json:"binDir"`
	// NodeIPs are the node's own addresses on LANInterface, at most one per family.
	NodeIPs []netip.Addr `json:"nodeIPs"`
	// PodCIDRs are the prefixes of the node's pods, at most one per family.
	PodCIDRs []netip.Prefix `json:"podCIDRs"`
	// ClusterDNS are the name servers of pods with the ClusterFirst policy; none is allowed.
	ClusterDNS []string `json:"clusterDNS,omitempty"`
	// ClientCAFile verifies the API server's client certificate on port 10250.
	ClientCAFile string `json:"clientCAFile"`
	// ServerCertFile and ServerKeyFile identify the agent on port 10250.
	ServerCertFile string `json:"serverCertFile"`
	ServerKeyFile  string `json:"serverKeyFile"`
	// LANInterface is the interface that carries NodeIPs.
	LANInterface string `json:"lanInterface"`
}

// Read reads and checks a Config.
func Read(file string) (Config, error) {
	var c Config
	data, err := os.ReadFile(file)
	if err != nil {
		return Config{}, fmt.Errorf("reading node configuration: %w", err)
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("parsing node configuration %s: %w", file, err)
	}
	return c, c.Validate()
}

// Validate names every field that is missing or wrong, errors joined.
func (c Config) Validate() error {
	var errs []error
	for _, f := range []struct{ field, path string }{
		{"kubeconfig", c.Kubeconfig}, {"rootDir", c.RootDir}, {"logDir", c.LogDir}, {"binDir", c.BinDir},
		{"clientCAFile", c.ClientCAFile}, {"serverCertFile", c.ServerCertFile}, {"serverKeyFile", c.ServerKeyFile},
	} {
		if !filepath.IsAbs(f.path) {
			errs = append(errs, fmt.Errorf("%s %q is not an absolute path", f.field, f.path))
		}
	}
	if c.Name == "" {
		errs = append(errs, errors.New("name is empty"))
	}
	if len(c.NodeIPs) == 0 {
		errs = append(errs, errors.New("nodeIPs is empty"))
	}
	if len(c.PodCIDRs) == 0 {
		errs = append(errs, errors.New("podCIDRs is empty"))
	}
	for _, a := range c.NodeIPs {
		if !a.IsValid() {
			errs = append(errs, errors.New("nodeIPs has an invalid address"))
		}
	}
	for _, p := range c.PodCIDRs {
		if !p.IsValid() || p != p.Masked() {
			errs = append(errs, fmt.Errorf("podCIDRs: %s is not a network prefix", p))
		}
	}
	return errors.Join(errs...)
}
