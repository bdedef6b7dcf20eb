package node

import (
	v1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// noCgroups manages no containers: upstream's stub, but it has no settings to show instead of an
// error, which the kubelet would log for every running pod.
type noCgroups struct{ cm.ContainerManager }

// NewPodContainerManager implements the kubelet's cm.ContainerManager.
func (n noCgroups) NewPodContainerManager() cm.PodContainerManager {
	return noPodCgroups{n.ContainerManager.NewPodContainerManager()}
}

type noPodCgroups struct{ cm.PodContainerManager }

// GetPodCgroupConfig implements the kubelet's cm.PodContainerManager.
func (noPodCgroups) GetPodCgroupConfig(*v1.Pod, v1.ResourceName) (*cm.ResourceConfig, error) {
	return nil, nil
}
