package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BFDProfile says how the liveness of BGP peers is watched (RFC 5880). It counts only in the namespace that Fairlead runs in.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=bfdprofiles
// +kubebuilder:printcolumn:name="Receive",type=integer,JSONPath=`.spec.receiveInterval`
// +kubebuilder:printcolumn:name="Transmit",type=integer,JSONPath=`.spec.transmitInterval`
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`
// +kubebuilder:printcolumn:name="Passive",type=boolean,JSONPath=`.spec.passiveMode`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BFDProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Spec BFDProfileSpec `json:"spec,omitempty"`
	// +optional
	Status BFDProfileStatus `json:"status,omitempty"`
}

// BFDProfileList is a list of BFDProfiles.
//
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BFDProfile `json:"items"`
}

// BFDProfileSpec has the timers of the sessions. A peer that is silent for its transmit interval, or our receive interval where
// that is longer, times its multiplier is down.
//
// +kubebuilder:validation:XValidation:rule="!has(self.echoMode) || !self.echoMode",message="there is no echo function (RFC 5880 section 6.4): GoBGP has no BFD at all, and ours, beside it, does not send echo packets; delete echoMode and set shorter receiveInterval and transmitInterval",fieldPath=".echoMode"
type BFDProfileSpec struct {
	// receiveInterval is the shortest time between the peer's packets that we can take, 10 to 60000 milliseconds; 300 if not set.
	//
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	ReceiveInterval *uint32 `json:"receiveInterval,omitempty"`

	// transmitInterval is the shortest time between our packets, 10 to 60000 milliseconds; 300 if not set. The peer may ask for
	// fewer.
	//
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	TransmitInterval *uint32 `json:"transmitInterval,omitempty"`

	// detectMultiplier is how many of our packets may be missing before the peer takes us for dead, 2 to 255; 3 if not set.
	//
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier *uint32 `json:"detectMultiplier,omitempty"`

	// echoInterval means nothing without echoMode, 10 to 60000 milliseconds. It is accepted, with a warning, for manifests that
	// have it.
	//
	// +optional
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	EchoInterval *uint32 `json:"echoInterval,omitempty"`

	// echoMode must be false or absent: there is no echo function.
	//
	// +optional
	EchoMode *bool `json:"echoMode,omitempty"`

	// passiveMode has us wait for the peer's first packet.
	//
	// +optional
	PassiveMode *bool `json:"passiveMode,omitempty"`

	// minimumTtl is the lowest TTL of the packets of a peer that is several hops away, 1 to 254; 254 if not set. It means nothing
	// for a peer on the link, whose packets must have 255 (RFC 5881).
	//
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	MinimumTTL *uint32 `json:"minimumTtl,omitempty"`
}

// BFDProfileStatus says whether the profile is in force.
type BFDProfileStatus struct {
	// conditions has the condition Ready: False means that the profile, or what the message names of it, is ignored.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}
