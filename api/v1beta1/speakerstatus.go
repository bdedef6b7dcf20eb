package v1beta1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// SpeakerStatus is how one node's speaker is, written by that speaker: one object for each node, named like it, in the namespace
// that Fairlead runs in. It is gone with its Node. Times are those of a change, and nothing in it changes by itself.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=speakerstatuses,shortName=spk
// +kubebuilder:printcolumn:name="State",type=string,JSONPath=`.status.state`
// +kubebuilder:printcolumn:name="Engine",type=string,JSONPath=`.status.datapath.engine`
// +kubebuilder:printcolumn:name="L2 Addresses",type=integer,JSONPath=`.status.layer2.announced`
// +kubebuilder:printcolumn:name="BGP Sessions",type=string,JSONPath=`.status.bgp.summary`
// +kubebuilder:printcolumn:name="BGP Addresses",type=integer,JSONPath=`.status.bgp.announced`
// +kubebuilder:printcolumn:name="Problem",type=string,JSONPath=`.status.problem`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`,priority=1
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.message`,priority=1
type SpeakerStatus struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status SpeakerStatusStatus `json:"status,omitempty"`
}

// SpeakerStatusList is a list of SpeakerStatuses.
//
// +kubebuilder:object:root=true
type SpeakerStatusList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SpeakerStatus `json:"items"`
}

// SpeakerStatusStatus is what the speaker reports.
type SpeakerStatusStatus struct {
	// version of the speaker.
	//
	// +optional
	Version string `json:"version,omitempty"`

	// state is Ready, NotReady or Draining. After a speaker that ended without a goodbye it is the last one's.
	//
	// +optional
	State string `json:"state,omitempty"`

	// problem is the first Reason for which something that should be is not: of the speaker itself, then of its sessions.
	//
	// +optional
	Problem string `json:"problem,omitempty"`

	// message says what the problem is and what to do.
	//
	// +optional
	Message string `json:"message,omitempty"`

	// datapath is about the engine that forwards.
	//
	// +optional
	Datapath SpeakerDatapath `json:"datapath,omitempty"`

	// layer2 is about ARP and NDP.
	//
	// +optional
	Layer2 SpeakerLayer2 `json:"layer2,omitempty"`

	// bgp is about the sessions; absent if the node has no peers.
	//
	// +optional
	BGP *SpeakerBGP `json:"bgp,omitempty"`
}

// The values of status.state.
const (
	SpeakerReady    = "Ready"
	SpeakerNotReady = "NotReady"
	SpeakerDraining = "Draining"
)

// SpeakerDatapath is about the engine that forwards.
type SpeakerDatapath struct {
	// engine is ipvs, nft, or none where somebody else forwards.
	//
	// +optional
	Engine string `json:"engine,omitempty"`
	// programmed is how many addresses the engine has reported as able to forward.
	//
	// +optional
	Programmed int32 `json:"programmed"`
	// failing is how many addresses it tried to program and could not.
	//
	// +optional
	Failing int32 `json:"failing"`
}

// SpeakerLayer2 is about ARP and NDP.
type SpeakerLayer2 struct {
	// announced is how many addresses this node answers for.
	//
	// +optional
	Announced int32 `json:"announced"`
	// members is how many speakers this one knows to be alive, itself included.
	//
	// +optional
	Members int32 `json:"members"`
}

// SpeakerBGP is about the sessions.
type SpeakerBGP struct {
	// summary is how many of the sessions are established, as in 1/2.
	//
	// +optional
	Summary string `json:"summary,omitempty"`
	// announced is how many addresses are announced to at least one peer.
	//
	// +optional
	Announced int32 `json:"announced"`
	// sessions are sorted by peer.
	//
	// +optional
	// +listType=map
	// +listMapKey=peer
	Sessions []BGPSession `json:"sessions,omitempty"`
}

// BGPSession is how the session with one peer is.
type BGPSession struct {
	// peer is the name of the BGPPeer.
	//
	// +required
	Peer string `json:"peer"`
	// address of the peer, or the interface of an unnumbered one.
	//
	// +optional
	Address string `json:"address,omitempty"`
	// state is that of RFC 4271: Established, Idle while nothing is tried, or Active for all others, which follow each other quickly.
	//
	// +optional
	State string `json:"state,omitempty"`
	// since when the session is established, or since when it is not.
	//
	// +optional
	Since *metav1.Time `json:"since,omitempty"`
	// peerASN is the AS number that the peer said.
	//
	// +optional
	// +kubebuilder:validation:Format=int64
	PeerASN uint32 `json:"peerASN,omitempty"`
	// peerID is the router ID that the peer said.
	//
	// +optional
	PeerID string `json:"peerID,omitempty"`
	// bfd is the state of the BFD session: AdminDown, Down, Init or Up; absent without a profile.
	//
	// +optional
	BFD string `json:"bfd,omitempty"`
	// prefixesSent is how many prefixes the peer has been told and that hold.
	//
	// +optional
	PrefixesSent int32 `json:"prefixesSent"`
	// prefixesReceived is how many prefixes the peer has sent. They are counted and go nowhere.
	//
	// +optional
	PrefixesReceived int32 `json:"prefixesReceived"`
	// flaps is how often the session has ceased to be established.
	//
	// +optional
	Flaps int64 `json:"flaps"`
	// lastError is why the session ended the last time, with the text of the NOTIFICATION where there was one.
	//
	// +optional
	LastError string `json:"lastError,omitempty"`
	// lastErrorTime is when that was.
	//
	// +optional
	LastErrorTime *metav1.Time `json:"lastErrorTime,omitempty"`
	// reason says why the session is not established.
	//
	// +optional
	Reason string `json:"reason,omitempty"`
	// message says it as a sentence, with what to do.
	//
	// +optional
	Message string `json:"message,omitempty"`
}
