package lb

// Reason says in one CamelCase word why something is not so. The same word is the log attribute "reason", the Event's
// reason, the condition's reason and the metric's label. The empty Reason means yes.
type Reason string

// Why a Service has no address.
const (
	NoPools          Reason = "NoPools"          // there is no IPAddressPool at all
	PoolExhausted    Reason = "PoolExhausted"    // every pool that admits the Service is full, or has fewer addresses than it wants
	NoPoolAdmits     Reason = "NoPoolAdmits"     // pools exist, but none may serve this Service, or add to what it has
	UnknownPool      Reason = "UnknownPool"      // the requested pool does not exist
	PoolRefuses      Reason = "PoolRefuses"      // the requested pool exists but its serviceAllocation excludes the Service
	QuotaExceeded    Reason = "QuotaExceeded"    // the namespace owns as many addresses as it may, of the pool or of all together
	AddressNotInPool Reason = "AddressNotInPool" // the requested address is in no pool
	AddressInUse     Reason = "AddressInUse"     // the requested address belongs to another Service
	AddressBuggy     Reason = "AddressBuggy"     // the requested address ends in .0 or .255 and the pool avoids those
	FamilyMismatch   Reason = "FamilyMismatch"   // the requested addresses or pools do not have the Service's families
	BadRequest       Reason = "BadRequest"       // an annotation cannot be parsed, or two of them contradict
	SharingConflict  Reason = "SharingConflict"  // the shared address cannot be joined: other key, same port, other policy or namespace
)

// Why a Service's address is unusual, though it keeps it.
const (
	AddressOutsidePools Reason = "AddressOutsidePools" // its pool was edited or deleted under it

	// FailedToStartServiceHealthcheck is kube-proxy's word: a node cannot open the Service's healthCheckNodePort.
	FailedToStartServiceHealthcheck Reason = "FailedToStartServiceHealthcheck"
)

// What of a Service a node's datapath leaves out.
const (
	ListenerTaken       Reason = "ListenerTaken"       // another Service has the same address, port and protocol, and comes first
	TooManyEndpoints    Reason = "TooManyEndpoints"    // a port has more endpoints than a node uses
	TooManyListeners    Reason = "TooManyListeners"    // its ports at all its addresses are more than a node serves
	TooManySourceRanges Reason = "TooManySourceRanges" // spec.loadBalancerSourceRanges is longer than a node can check
	KernelRefuses       Reason = "KernelRefuses"       // the node's kernel does not take what the Service needs
)

// Why an IPAddressPool, an advertisement or a BGPPeer is not ready.
const (
	InvalidSpec    Reason = "InvalidSpec"    // a field is wrong; what depends on it is ignored
	PoolOverlap    Reason = "PoolOverlap"    // another pool holds some of its addresses too
	WrongNamespace Reason = "WrongNamespace" // it lives outside Fairlead's namespace and is ignored

	UnknownBFDProfile Reason = "UnknownBFDProfile" // there is no BFDProfile of the name that a BGPPeer gives
	UnknownCommunity  Reason = "UnknownCommunity"  // no Community object has the name that a BGPAdvertisement uses
)

// Why a node has no session with a BGPPeer, whatever the peer says.
const (
	PasswordUnavailable Reason = "PasswordUnavailable" // its passwordSecret does not exist, or has no usable password
	PeerConflict        Reason = "PeerConflict"        // another BGPPeer has the same address on this node
)

// Why a change is refused, besides the above.
const (
	AdvertisementConflict Reason = "AdvertisementConflict" // another BGPAdvertisement wants another value for the same prefixes
	InUse                 Reason = "InUse"                 // a BFDProfile or a name of a Community is to go while others name it

	AddressReserved Reason = "AddressReserved" // it holds addresses of nodes, pods or ClusterIPs
	PoolInUse       Reason = "PoolInUse"       // it is to be deleted while Services have addresses of it
)

// Why an IPAddressPool needs attention soon.
const (
	PoolNearlyFull Reason = "PoolNearlyFull" // nine in ten of its addresses of a family are in use, or all will be within a week
)

// Why a node does not announce an address.
const (
	NotAdvertised       Reason = "NotAdvertised"       // no advertisement covers the address
	NoEndpoints         Reason = "NoEndpoints"         // no endpoint could take a connection
	NoLocalEndpoint     Reason = "NoLocalEndpoint"     // externalTrafficPolicy Local and no ready endpoint on this node
	NodeExcluded        Reason = "NodeExcluded"        // exclude-from-external-load-balancers
	NodeUnavailable     Reason = "NodeUnavailable"     // NetworkUnavailable, being deleted, or unknown to the API server
	NodeNotSelected     Reason = "NodeNotSelected"     // no advertisement's nodeSelectors match
	NodeDraining        Reason = "NodeDraining"        // the speaker asked to be left out
	NodeCordoned        Reason = "NodeCordoned"        // spec.unschedulable, and the policy is to leave then
	NodeDown            Reason = "NodeDown"            // its watchers no longer hear its heartbeats
	NoInterface         Reason = "NoInterface"         // no interface that is up, allowed and in the address's subnet
	DatapathNotReady    Reason = "DatapathNotReady"    // the node's engine does not work
	NotProgrammed       Reason = "NotProgrammed"       // the engine works but has not programmed this address yet
	ForwarderNotReady   Reason = "ForwarderNotReady"   // kube-proxy or Cilium, which forwards here, does not say that it can serve the Service
	NotOwner            Reason = "NotOwner"            // another node was elected
	NotAMember          Reason = "NotAMember"          // the speaker is not in the gossip membership
	Fenced              Reason = "Fenced"              // this process was asleep, and nobody has confirmed yet what has happened meanwhile
	Settling            Reason = "Settling"            // the speakers are starting: the address waits until it is known who is there
	Probing             Reason = "Probing"             // the segment is being asked whether somebody has the address already
	AddressConflict     Reason = "AddressConflict"     // a station that is no speaker answers for the address
	NoPeer              Reason = "NoPeer"              // no BGPPeer that shall hear of it is for this node
	NoSession           Reason = "NoSession"           // of the BGP peers that shall hear of it none has a session with this node
	AnnouncementRefused Reason = "AnnouncementRefused" // the wire said no, for example a socket could not be opened
)

// Why the BGP session with a peer is not established.
const (
	BGPConnecting    Reason = "BGPConnecting"    // it has not been up yet, and nothing has failed
	BGPUnreachable   Reason = "BGPUnreachable"   // no route leads to the peer, or nobody has its address
	BGPRefused       Reason = "BGPRefused"       // a host with its address refuses the TCP connection
	BGPNoAnswer      Reason = "BGPNoAnswer"      // TCP connections are not answered
	BGPWrongPassword Reason = "BGPWrongPassword" // as BGPNoAnswer, with a password: a wrong one looks like that
	BGPTooFar        Reason = "BGPTooFar"        // as BGPNoAnswer, with ttlSecurity: a peer that is further away looks like that
	BGPUnnumbered    Reason = "BGPUnnumbered"    // only the interface is given, and no router has advertised itself there
	BGPNoSource      Reason = "BGPNoSource"      // this node has no such source address or VRF
	BGPNotConfigured Reason = "BGPNotConfigured" // the peer closes connections unasked: it knows no neighbour of our address
	BGPWrongASN      Reason = "BGPWrongASN"      // one end expects the other to have another AS number
	BGPRejected      Reason = "BGPRejected"      // the peer does not accept our OPEN, or we not its, for another cause
	BGPNoFamily      Reason = "BGPNoFamily"      // the ends have no address family in common
	BGPHoldExpired   Reason = "BGPHoldExpired"   // one end has not heard the other for the hold time
	BGPMaxPrefixes   Reason = "BGPMaxPrefixes"   // the peer has sent more prefixes than maxPrefixes
	BGPBFDDown       Reason = "BGPBFDDown"       // BFD does not hear the peer
	BGPPeerClosed    Reason = "BGPPeerClosed"    // the peer has closed the session with a NOTIFICATION
	BGPLost          Reason = "BGPLost"          // the connection has broken
	BGPProtocolError Reason = "BGPProtocolError" // the peer has sent what BGP does not allow
	BGPChanged       Reason = "BGPChanged"       // the peer's settings have changed: a new session is being opened
	BGPCrashed       Reason = "BGPCrashed"       // an error of ours ended it
	BGPProcessDown   Reason = "BGPProcessDown"   // the process of the sessions does not answer
)

// Why the session with a peer is established, but not all of it is in order.
const (
	BGPNoNextHop Reason = "BGPNoNextHop" // the interface has no address that could be next hop of one family
)

// Refusal is a Reason together with a sentence that names the field, its value and the way out. The zero Refusal means yes.
type Refusal struct {
	Reason  Reason
	Message string
}

// OK reports whether nothing was refused.
func (r Refusal) OK() bool { return r.Reason == "" }

// String returns "Reason: message", or "" for yes.
func (r Refusal) String() string {
	if r.OK() {
		return ""
	}
	return string(r.Reason) + ": " + r.Message
}
