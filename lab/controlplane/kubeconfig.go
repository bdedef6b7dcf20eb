package controlplane

import (
	"encoding/json"
	"fmt"

	"github.com/fairlead-lb/fairlead/lab/pki"
)

// The parts of a kubeconfig that the lab writes. client-go's own types would bring
// all of it into the light binary, and JSON is valid YAML.
type (
	kubeconfigFile struct {
		APIVersion     string         `json:"apiVersion"`
		Kind           string         `json:"kind"`
		Clusters       []namedCluster `json:"clusters"`
		Users          []namedUser    `json:"users"`
		Contexts       []namedContext `json:"contexts"`
		CurrentContext string         `json:"current-context"`
	}
	namedCluster struct {
		Name    string  `json:"name"`
		Cluster cluster `json:"cluster"`
	}
	cluster struct {
		Server    string `json:"server"`
		Authority []byte `json:"certificate-authority-data"` // []byte: base64 in JSON
	}
	namedUser struct {
		Name string `json:"name"`
		User user   `json:"user"`
	}
	user struct {
		Cert []byte `json:"client-certificate-data"`
		Key  []byte `json:"client-key-data"`
	}
	namedContext struct {
		Name    string     `json:"name"`
		Context kubectlUse `json:"context"`
	}
	kubectlUse struct {
		Cluster string `json:"cluster"`
		User    string `json:"user"`
	}
)

const clusterName = "fairlab"

func kubeconfig(server, userName string, authority []byte, pair pki.Pair) ([]byte, error) {
	data, err := json.MarshalIndent(kubeconfigFile{
		APIVersion:     "v1",
		Kind:           "Config",
		Clusters:       []namedCluster{{clusterName, cluster{server, authority}}},
		Users:          []namedUser{{userName, user{pair.Cert, pair.Key}}},
		Contexts:       []namedContext{{clusterName, kubectlUse{clusterName, userName}}},
		CurrentContext: clusterName,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding kubeconfig of %s: %w", userName, err)
	}
	return append(data, '\n'), nil
}
