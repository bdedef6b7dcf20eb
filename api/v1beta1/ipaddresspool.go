package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that Services of type LoadBalancer may be given. It counts only in the namespace that
// Fairlead runs in.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Auto Assign",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Assigned IPv4",type=integer,JSONPath=`.status.assignedIPv4`
// +kubebuilder:printcolumn:name="Available IPv4",type=integer,JSONPath=`.status.availableIPv4`
// +kubebuilder:printcolumn:name="Assigned IPv6",type=integer,JSONPath=`.status.assignedIPv6`,priority=1
// +kubebuilder:printcolumn:name="Available IPv6",type=integer,JSONPath=`.status.availableIPv6`,priority=1
// +kubebuilder:printcolumn:name="Days Left IPv4",type=integer,JSONPath=`.status.daysLeftIPv4`,priority=1
// +kubebuilder:printcolumn:name="Days Left IPv6",type=integer,JSONPath=`.status.daysLeftIPv6`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec IPAddressPoolSpec `json:"spec"`
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolList is a list of IPAddressPools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}

// IPAddressPoolSpec says which addresses the pool holds and who may have them.
type IPAddressPoolSpec struct {
	// addresses lists what the pool holds, of both families if you like: CIDRs such as 192.0.2.0/28, or inclusive ranges
	// such as 192.0.2.10-192.0.2.20. A single address is a /32 or /128. Addresses are given out in this order, the lowest
	// of each entry first. Entries must not overlap each other or another pool's.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=100
	// +kubebuilder:validation:items:XValidation:rule="self.contains('/') ? isCIDR(self) : (self.split('-').size() == 2 && self.split('-').all(a, isIP(a.trim())))",message="is neither a CIDR nor a range; write it like 192.0.2.0/28 or 192.0.2.10-192.0.2.20, a single address as a /32 or /128"
	// +kubebuilder:validation:items:XValidation:rule="self.contains('/') || self.split('-').size() != 2 || !self.split('-').all(a, isIP(a.trim())) || ip(self.split('-')[0].trim()).family() == ip(self.split('-')[1].trim()).family()",message="begins in one IP family and ends in the other; use one entry per family"
	// +kubebuilder:validation:items:XValidation:rule="self.contains('/') || self.contains(':') || self.split('-').size() != 2 || !self.split('-').all(a, isIP(a.trim())) || [[0, 1].map(i, [0, 1, 2, 3].map(j, int(self.split('-')[i].trim().split('.')[j])))].all(r, r[0][0]*16777216 + r[0][1]*65536 + r[0][2]*256 + r[0][3] <= r[1][0]*16777216 + r[1][1]*65536 + r[1][2]*256 + r[1][3])",message="ends before it starts; swap the two addresses"
	Addresses []string `json:"addresses"`

	// autoAssign says whether Services that ask for no particular pool or address may be served from this one. If false,
	// only an explicit request takes from it.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs leaves out IPv4 addresses that end in .0 or .255, which some network gear refuses.
	//
	// +optional
	// +kubebuilder:default=false
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// addressRest is how long a freed address is not given to another Service while others of the pool are free: 0s to 24h.
	// Without it the controller's flag --address-rest counts, one minute if that is not set either.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="must be a duration from 0s to 24h; write it like 90s or 10m"
	AddressRest *metav1.Duration `json:"addressRest,omitempty"`

	// allowCrossNamespaceSharing lets Services of different namespaces share an address by the same allow-shared-ip. Without
	// it only Services of one namespace may, so that nobody joins an address by guessing its key. Services that share
	// already go on doing so when it is unset.
	//
	// +optional
	// +kubebuilder:default=false
	AllowCrossNamespaceSharing bool `json:"allowCrossNamespaceSharing,omitempty"`

	// forwarding is how connections to the pool's addresses reach the pods of Services without the annotation
	// fairlead.dev/forwarding: nat, through the node that receives them in both directions, or dsr, past it on the way back, so that
	// connections survive when another node receives them. Without it the Helm value datapath.forwarding counts.
	//
	// +optional
	// +kubebuilder:validation:Enum=nat;dsr
	Forwarding string `json:"forwarding,omitempty"`

	// serviceAllocation limits the pool to certain Services and ranks it among others. Without it the pool serves all.
	//
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// ServiceAllocation says which Services a pool is for. A Service must match the namespaces (namespaces or
// namespaceSelectors) and the serviceSelectors; a list that is empty restricts nothing.
type ServiceAllocation struct {
	// priority ranks pools that could serve the same Service: 1 is tried first, bigger numbers later, 0 (unset) last.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority int `json:"priority,omitempty"`

	// namespaces names namespaces whose Services may use the pool.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelectors are alternatives: Services in a namespace that matches one of them may use the pool.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`

	// maxAddressesPerNamespace is how many addresses of the pool the Services of one namespace may own together; one that
	// several of them share counts once. Without it there is no limit. A limit below what is in use takes nothing away.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	MaxAddressesPerNamespace *int32 `json:"maxAddressesPerNamespace,omitempty"`

	// serviceSelectors are alternatives: Services that match one of them may use the pool.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	ServiceSelectors []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
}

// IPAddressPoolStatus is what the allocator reports. Counts end at 9223372036854775807.
type IPAddressPoolStatus struct {
	// assignedIPv4 is the number of IPv4 addresses that Services own.
	//
	// +optional
	AssignedIPv4 int64 `json:"assignedIPv4"`
	// assignedIPv6 is the number of IPv6 addresses that Services own.
	//
	// +optional
	AssignedIPv6 int64 `json:"assignedIPv6"`
	// availableIPv4 is the number of IPv4 addresses that are left.
	//
	// +optional
	AvailableIPv4 int64 `json:"availableIPv4"`
	// availableIPv6 is the number of IPv6 addresses that are left.
	//
	// +optional
	AvailableIPv6 int64 `json:"availableIPv6"`

	// totalIPv4 is the number of IPv4 addresses that the pool has to give, those in use included.
	//
	// +optional
	TotalIPv4 int64 `json:"totalIPv4"`
	// totalIPv6 is the number of IPv6 addresses that the pool has to give, those in use included.
	//
	// +optional
	TotalIPv6 int64 `json:"totalIPv6"`
	// restingIPv4 is how many of the available IPv4 addresses were freed not long ago and are given out last.
	//
	// +optional
	RestingIPv4 int64 `json:"restingIPv4"`
	// restingIPv6 is how many of the available IPv6 addresses were freed not long ago and are given out last.
	//
	// +optional
	RestingIPv6 int64 `json:"restingIPv6"`

	// daysLeftIPv4 is in how many days the available IPv4 addresses are used up at the rate of usageHistory. It is absent
	// before a day of history, while use does not grow, and beyond ten years.
	//
	// +optional
	DaysLeftIPv4 *int32 `json:"daysLeftIPv4,omitempty"`
	// daysLeftIPv6 is the same of the IPv6 addresses.
	//
	// +optional
	DaysLeftIPv6 *int32 `json:"daysLeftIPv6,omitempty"`

	// usageHistory is how many addresses were in use at the first look of each day (UTC): the running day and the 14 before
	// it, the oldest first.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=15
	UsageHistory []UsageSample `json:"usageHistory,omitempty"`

	// conditions has the condition Ready: False means that the pool, or what the message names of it, is ignored. Exhausted
	// says that no address of a family is left, NearlyFull that nine in ten are in use or will all be within a week,
	// Overlapping that another pool holds some of the addresses too.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// UsageSample is how many addresses of a pool Services owned at a time.
type UsageSample struct {
	// time is when they were counted.
	//
	// +required
	Time metav1.Time `json:"time"`
	// assignedIPv4 is the number of IPv4 addresses that Services owned.
	//
	// +optional
	AssignedIPv4 int64 `json:"assignedIPv4"`
	// assignedIPv6 is the number of IPv6 addresses that Services owned.
	//
	// +optional
	AssignedIPv6 int64 `json:"assignedIPv6"`
}
