package v1beta1

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// L2Advertisement lets addresses be announced on the local segment by ARP and NDP. Without one nothing is announced; an
// empty spec announces every pool from every node. It counts only in the namespace that Fairlead runs in.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=l2advertisements
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Pool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`,priority=1
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=1
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`
	// +optional
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementList is a list of L2Advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}

// L2AdvertisementSpec says what is announced and from where. A list that is empty restricts nothing.
type L2AdvertisementSpec struct {
	// ipAddressPools names the pools to announce.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=253
	IPAddressPools []string `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors choose pools by label, in addition to those named.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// nodeSelectors are alternatives: only nodes that match one of them announce.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// interfaces names the interfaces to announce on. A node on which none of them is up is not a candidate.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=15
	Interfaces []string `json:"interfaces,omitempty"`

	// serviceSelectors are alternatives: only Services that match one of them are announced.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`

	// preferredNodeSelectors rank the nodes: the weights of those that a node matches are added up, and the highest sum is
	// elected. A node that announces an address keeps it even if another one comes to rank higher; see failback.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// failback says when a node hands an address that it could keep over to a better one: Never (the default), or once the
	// better one has been up and ready without a break for this long, 1s to 24h. Better is a node that ranks higher, or, where
	// this node has more than 1.25 times its share of the addresses, an equal one that has less than its share. If several
	// advertisements are about an address, the shortest time counts.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self == 'Never' || self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('24h')",message="must be Never or a duration from 1s to 24h; write it like 30s or 10m"
	Failback string `json:"failback,omitempty"`
}

// Never is the value of spec.failback by which an address moves only if its owner can no longer serve it.
const Never = "Never"

// FailbackAfter returns the duration in spec.failback; nil for Never, and for what cannot be read.
func (s *L2AdvertisementSpec) FailbackAfter() *time.Duration {
	d, err := time.ParseDuration(s.Failback)
	if err != nil || d < minFailback || d > maxFailback {
		return nil
	}
	return &d
}

// PreferredNodeSelector is a wish about the announcing node.
type PreferredNodeSelector struct {
	// weight is what a matching node gains, 1 to 100.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// preference selects nodes.
	//
	// +required
	Preference metav1.LabelSelector `json:"preference"`
}

// L2AdvertisementStatus says whether the advertisement is in force.
type L2AdvertisementStatus struct {
	// conditions has the condition Ready: False means that the advertisement, or what the message names of it, is ignored.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
