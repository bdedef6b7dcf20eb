package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router that the nodes have BGP sessions with. It counts only in the namespace that Fairlead runs in.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=bgppeers
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="Peer ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="My ASN",type=integer,JSONPath=`.spec.myASN`
// +kubebuilder:printcolumn:name="BFD Profile",type=string,JSONPath=`.spec.bfdProfile`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=`.spec.interface`,priority=1
// +kubebuilder:printcolumn:name="Dynamic ASN",type=string,JSONPath=`.spec.dynamicASN`,priority=1
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=1
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +required
	Spec BGPPeerSpec `json:"spec"`
	// +optional
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerList is a list of BGPPeers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}

// The values of spec.dynamicASN.
const (
	DynamicInternal = "internal"
	DynamicExternal = "external"
)

// BGPPeerSpec says where the peer is, what its session is like, and which nodes have one.
//
// +kubebuilder:validation:XValidation:rule="has(self.peerASN) != has(self.dynamicASN)",message="set exactly one of peerASN and dynamicASN",fieldPath=".peerASN"
// +kubebuilder:validation:XValidation:rule="has(self.peerAddress) != has(self.interface)",message="set exactly one of peerAddress and interface",fieldPath=".peerAddress"
// +kubebuilder:validation:XValidation:rule="!has(self.localASN) || (has(self.peerASN) ? self.peerASN != self.myASN && self.peerASN != self.localASN : self.dynamicASN == 'external')",message="a local AS is shown to external peers only: peerASN must be neither myASN nor localASN, dynamicASN must be external",fieldPath=".localASN"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.interface)",message="an unnumbered session starts at the interface's link-local address; delete sourceAddress or interface",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule="!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()",message="must be of the IP family of peerAddress",fieldPath=".sourceAddress"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || (has(self.peerASN) ? self.peerASN != self.myASN : self.dynamicASN == 'external')",message="counts for external peers only; an internal one may be several hops away without it",fieldPath=".ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.interface)",message="an unnumbered peer is on the link of its interface; delete ebgpMultiHop or interface",fieldPath=".ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule="!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.ttlSecurity)",message="ttlSecurity says already how many hops away the peer may be; delete ebgpMultiHop",fieldPath=".ebgpMultiHop"
// +kubebuilder:validation:XValidation:rule="!has(self.ttlSecurity) || self.ttlSecurity == 1 || !has(self.interface)",message="an unnumbered peer is on the link of its interface; use 1",fieldPath=".ttlSecurity"
// +kubebuilder:validation:XValidation:rule="!has(self.password) || size(self.password) == 0 || !has(self.passwordSecret) || !has(self.passwordSecret.name)",message="set password or passwordSecret, not both",fieldPath=".password"
// +kubebuilder:validation:XValidation:rule="!has(self.restartTime) || has(self.enableGracefulRestart) && self.enableGracefulRestart",message="counts with enableGracefulRestart only; set that to true or delete restartTime",fieldPath=".restartTime"
// +kubebuilder:validation:XValidation:rule="!has(self.disableMP) || !self.disableMP || !has(self.dualStackAddressFamily) || !self.dualStackAddressFamily",message="contradicts dualStackAddressFamily; delete it: without dualStackAddressFamily a session carries the family of its own addresses only",fieldPath=".disableMP"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || !has(self.holdTime) || duration(self.keepaliveTime) <= duration(self.holdTime)",message="must not exceed holdTime",fieldPath=".keepaliveTime"
// +kubebuilder:validation:XValidation:rule="!has(self.keepaliveTime) || duration(self.keepaliveTime) > duration('0s') || has(self.holdTime) && duration(self.holdTime) == duration('0s')",message="never to send anything needs a holdTime of 0s",fieldPath=".keepaliveTime"
type BGPPeerSpec struct {
	// myASN is the AS number of our end, 1 to 4294967295.
	//
	// +required
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MyASN uint32 `json:"myASN"`

	// peerASN is the AS number of the peer, 1 to 4294967295. One that equals myASN makes the session internal (iBGP).
	//
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	PeerASN uint32 `json:"peerASN,omitempty"`

	// dynamicASN takes the place of peerASN: internal is our own AS number, external any other that the peer names.
	//
	// +optional
	// +kubebuilder:validation:Enum=internal;external
	DynamicASN string `json:"dynamicASN,omitempty"`

	// localASN is the AS number that this peer sees in place of myASN, in the session and in the paths. Whether the peer is
	// internal is told by myASN.
	//
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	LocalASN uint32 `json:"localASN,omitempty"`

	// peerAddress is the peer's IPv4 or IPv6 address.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self) && (ip(self).isGlobalUnicast() || ip(self).isLoopback() || ip(self).isLinkLocalUnicast() && ip(self).family() == 4)",message="must be the address of a host such as 192.0.2.1 or 2001:db8::1; in place of a link-local IPv6 address set interface"
	PeerAddress string `json:"peerAddress,omitempty"`

	// interface takes the place of peerAddress: the peer is the one router on that link, known by its router advertisements
	// (unnumbered BGP). Both address families are carried.
	//
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=15
	Interface string `json:"interface,omitempty"`

	// sourceAddress is the address of our end. Without it the kernel chooses. The session stays down on a node that does not
	// have the address.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="isIP(self)",message="must be an IPv4 or IPv6 address such as 192.0.2.1 or 2001:db8::1"
	SourceAddress string `json:"sourceAddress,omitempty"`

	// peerPort is the peer's TCP port, 1 to 65535.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort uint16 `json:"peerPort,omitempty"`

	// holdTime is how long a silent peer counts as alive, in whole seconds: 0s for ever, or 3s to 65535s. Without it three times
	// keepaliveTime counts, 90s if that is not set either. The smaller one of both ends counts.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && (duration(self) == duration('0s') || duration(self) >= duration('3s')) && duration(self) <= duration('65535s') && duration(self).getMilliseconds() % 1000 == 0",message="must be 0s or a whole number of seconds from 3s to 65535s; write it like 9s or 90s"
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// keepaliveTime is how often the peer is told that we are alive, in whole seconds from 1s to 21845s, or 0s with a holdTime
	// of 0s. Without it a third of holdTime counts.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('21845s') && duration(self).getMilliseconds() % 1000 == 0",message="must be a whole number of seconds from 0s to 21845s; write it like 3s or 30s"
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// connectTime is how long to wait between two attempts to connect, in whole seconds from 1s to 65535s. Without it 1s counts.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('65535s') && duration(self).getMilliseconds() % 1000 == 0",message="must be a whole number of seconds from 1s to 65535s; write it like 5s"
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// routerID is our BGP identifier, written as an IPv4 address. Without it the node's first IPv4 address counts, or where it
	// has none a hash of its name.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=15
	// +kubebuilder:validation:XValidation:rule="isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'",message="must be written as an IPv4 address other than 0.0.0.0, such as 192.0.2.11"
	RouterID string `json:"routerID,omitempty"`

	// nodeSelectors are alternatives: only nodes that match one of them have a session with the peer.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NodeSelectors []metav1.LabelSelector `json:"nodeSelectors,omitempty"`

	// password is that of TCP-MD5 (RFC 2385). Everybody who may read BGPPeers can read it; prefer passwordSecret.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=80
	Password string `json:"password,omitempty"`

	// passwordSecret names a Secret of type kubernetes.io/basic-auth in Fairlead's namespace whose key password is that of
	// TCP-MD5. Its content may change at any time: the session is opened anew with the new password.
	//
	// +optional
	PasswordSecret *SecretReference `json:"passwordSecret,omitempty"`

	// bfdProfile names the BFDProfile by which the peer is watched. Without it there is no BFD.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	BFDProfile string `json:"bfdProfile,omitempty"`

	// enableGracefulRestart has the peer keep our paths while the speaker is replaced (RFC 4724). A drain, and the end of a
	// speaker on a node that is cordoned, excluded or being deleted, withdraws them all the same.
	//
	// +optional
	EnableGracefulRestart bool `json:"enableGracefulRestart,omitempty"`

	// restartTime is how long the peer keeps our paths then, in whole seconds from 1s to 4095s. Without it 120s counts.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+(ms|s|m|h))+$') && duration(self) >= duration('1s') && duration(self) <= duration('4095s') && duration(self).getMilliseconds() % 1000 == 0",message="must be a whole number of seconds from 1s to 4095s; write it like 120s"
	RestartTime *metav1.Duration `json:"restartTime,omitempty"`

	// drainWait is how long the peer is asked to prefer other paths (GRACEFUL_SHUTDOWN, RFC 8326) before ours are withdrawn in a
	// drain, 0s to 5m. Without it 5s counts. At the end of a speaker no more than 18s count, as its pod has to end.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=32
	// +kubebuilder:validation:XValidation:rule="self.matches('^([0-9]+([.][0-9]+)?(ns|us|ms|s|m|h))+$') && duration(self) >= duration('0s') && duration(self) <= duration('5m')",message="must be a duration from 0s to 5m; write it like 500ms or 10s"
	DrainWait *metav1.Duration `json:"drainWait,omitempty"`

	// ebgpMultiHop lets an external peer be several hops away.
	//
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// ttlSecurity is how many hops away the peer may be at most, 1 to 254: packets that come from further away, by their TTL, are
	// dropped (GTSM, RFC 5082). The peer must do the same. Without it the TTL is not looked at.
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	TTLSecurity *uint8 `json:"ttlSecurity,omitempty"`

	// maxPrefixes is how many prefixes of one address family the peer may send before the session is closed. Nothing that a peer
	// sends is installed; without a limit it only takes memory.
	//
	// +optional
	// +kubebuilder:validation:Format=int64
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=4294967295
	MaxPrefixes *uint32 `json:"maxPrefixes,omitempty"`

	// vrf is the VRF device of the node through which the peer is reached.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=15
	VRF string `json:"vrf,omitempty"`

	// disableMP is accepted for manifests that have it, and means what is so without dualStackAddressFamily.
	//
	// +optional
	DisableMP bool `json:"disableMP,omitempty"`

	// dualStackAddressFamily has the session carry both address families, and not only that of its own addresses.
	//
	// +optional
	DualStackAddressFamily bool `json:"dualStackAddressFamily,omitempty"`
}

// SecretReference names a Secret.
type SecretReference struct {
	// name of the Secret; without one the reference counts as absent.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// namespace of the Secret; if it is set, it must be the one that Fairlead runs in.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// BGPPeerStatus says whether the peer is in force. How the sessions with it are is in the SpeakerStatus of each node.
type BGPPeerStatus struct {
	// conditions has the condition Ready: False means that no node has a session with the peer, or what the message says of it.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
