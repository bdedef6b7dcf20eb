package lb

// Reason says in one CamelCase word why something is not so. The same word is the log attribute "reason", the Event's
// reason, the condition's reason and the metric's label. The empty Reason means yes.
//
// The comment of each says what it means, what to do, and where it shows if not in the Service's condition and Events: docs/reasons.md
// and what kubectl fairlead explain says are made of them (go generate ./api/...).
type Reason string

// # A Service has no address, or fewer than it wants
//
// It waits, and is asked again when something changes that could help. What it has it keeps.
const (
	// NoPools: there is no IPAddressPool.
	// Do: create one in Fairlead's namespace.
	NoPools Reason = "NoPools"

	// PoolExhausted: every pool that may serve it is full, or has fewer addresses than it wants (`has 2 of 3`); a pool says so by its
	// condition `Exhausted`.
	// Do: add addresses to a pool that the message names, or delete a Service.
	PoolExhausted Reason = "PoolExhausted"

	// NoPoolAdmits: pools exist, but none serves it unasked, or none may add to what it has.
	// Do: see `serviceAllocation` and `autoAssign` of the pools, or ask for one by `fairlead.dev/address-pool`.
	NoPoolAdmits Reason = "NoPoolAdmits"

	// UnknownPool: the pool it asks for does not exist.
	// Do: correct the annotation, or create the pool.
	UnknownPool Reason = "UnknownPool"

	// PoolRefuses: the pool it asks for is not for it.
	// Do: see `serviceAllocation` of that pool.
	PoolRefuses Reason = "PoolRefuses"

	// QuotaExceeded: its namespace owns as many addresses as it may.
	// Do: delete a Service, share an address, or raise the quota; the message says whether it is that of a pool or that over all.
	QuotaExceeded Reason = "QuotaExceeded"

	// AddressNotInPool: the address it asks for is in no pool, or two are in different pools.
	// Do: ask for others, or add them to a pool.
	AddressNotInPool Reason = "AddressNotInPool"

	// AddressInUse: the address it asks for belongs to another Service.
	// Do: ask for another, or give both the same `fairlead.dev/allow-shared-ip`.
	AddressInUse Reason = "AddressInUse"

	// AddressBuggy: the address it asks for ends in .0 or .255 and the pool avoids those.
	// Do: ask for another, or unset `avoidBuggyIPs`.
	AddressBuggy Reason = "AddressBuggy"

	// FamilyMismatch: what it asks for is not of its families, or no pool has them.
	// Do: see `spec.ipFamilies` and `spec.ipFamilyPolicy`, or add a range of the family.
	FamilyMismatch Reason = "FamilyMismatch"

	// BadRequest: an annotation or `spec.loadBalancerIP` cannot be read, or two contradict.
	// Do: correct the one that the message names.
	BadRequest Reason = "BadRequest"

	// SharingConflict: it may not join the address: other key, a port in common, other traffic policy, other namespace.
	// Do: as the message says; a pool allows other namespaces by `allowCrossNamespaceSharing`.
	SharingConflict Reason = "SharingConflict"
)

// # A Service keeps its address, but
const (
	// AddressOutsidePools: the pool was edited or deleted under it; its condition stays True.
	// Do: restore the range, or move it: `kubectl annotate service NAME fairlead.dev/release=true`.
	AddressOutsidePools Reason = "AddressOutsidePools"

	// FailedToStartServiceHealthcheck: a node cannot open the `healthCheckNodePort`, so load balancers outside take it for a
	// node without endpoints; it tries again every two seconds. The Event names the node's address and port.
	// Do: find who holds the port: most likely kube-proxy, which must not run beside `datapath.mode: full`.
	FailedToStartServiceHealthcheck Reason = "FailedToStartServiceHealthcheck"
)

// # A Service whose node leaves something out
//
// Every node that forwards says so in an Event of the Service and in its log; the rest of the Service, and all others, go on.
const (
	// ListenerTaken: another Service has the same address, port and protocol (an external IP, a shared address), and has it as something
	// that counts more (a ClusterIP first, then node ports, addresses in the status, external IPs), or comes first by namespace and name.
	// Do: change the port or the address of one of them.
	ListenerTaken Reason = "ListenerTaken"

	// TooManyEndpoints: a port has more than 4,000 usable endpoints; each node uses 4,000 of them, not every node the same. Or the Service's
	// endpoints times its ports are more than 200,000; those of its first ports by name are used, the other ports have none.
	// Do: split the Service.
	TooManyEndpoints Reason = "TooManyEndpoints"

	// TooManyListeners: the Service's ports at all its addresses are more than 4,096 listeners, or have more than 131,072 endpoints behind
	// them, each counted once for each listener; those beyond are not served.
	// Do: give it fewer ports, externalIPs or endpoints.
	TooManyListeners Reason = "TooManyListeners"

	// UnknownScheduler: `fairlead.dev/scheduler` names no scheduler; the Service is served with `rr`.
	// Do: correct the annotation.
	UnknownScheduler Reason = "UnknownScheduler"

	// SchedulerMissing: the node's kernel lacks the scheduler that `fairlead.dev/scheduler` names; the node serves the Service with `rr`, and
	// looks again every five minutes.
	// Do: load the module that the message names, and have it loaded at boot (`/etc/modules-load.d`), or delete the annotation.
	SchedulerMissing Reason = "SchedulerMissing"

	// UnknownForwarding: `fairlead.dev/forwarding` names no method; what the pool or the Helm value `datapath.forwarding` says counts.
	// Do: write `nat` or `dsr`, or delete the annotation.
	UnknownForwarding Reason = "UnknownForwarding"

	// DSRUnavailable: it asks for forwarding `dsr`, but this node, or one with an endpoint of it, cannot take part, so that this node serves
	// it with `nat`: connections end with the node that receives them, and `externalTrafficPolicy: Cluster` hides the clients.
	// Do: mend what the message names of that node, or ask for `nat`.
	DSRUnavailable Reason = "DSRUnavailable"

	// DSRNotForSCTP: it asks for forwarding `dsr`, which TCP and UDP have; its ports of SCTP are served with `nat`.
	// Do: nothing, or move those ports to a Service with `fairlead.dev/forwarding: nat`.
	DSRNotForSCTP Reason = "DSRNotForSCTP"

	// SchedulerIgnored: with forwarding `dsr` all nodes must choose alike, so that `mh` counts, whatever `fairlead.dev/scheduler` says.
	// Do: delete `fairlead.dev/scheduler`, or ask for forwarding `nat`.
	SchedulerIgnored Reason = "SchedulerIgnored"

	// TooManySourceRanges: `loadBalancerSourceRanges` has more than 1,024 ranges of a family that do not overlap; nobody may
	// connect, since leaving some out would be another wish.
	// Do: join neighbouring ranges.
	TooManySourceRanges Reason = "TooManySourceRanges"

	// KernelRefuses: the node's kernel does not take what the Service needs, which the message names with the kernel's error; the node
	// announces none of the Service's addresses, and tries again within a minute.
	// Do: look at what is unusual about the Service, and at the kernel's log: out of memory, or a module is missing.
	KernelRefuses Reason = "KernelRefuses"
)

// # A node serves, but not alone
//
// In `kubectl get speakerstatuses -n fairlead-system`, in the speaker's log, and as metric `fairlead_speaker_rival_proxy`.
const (
	// RivalProxy: `datapath.mode` is `full`, and kube-proxy runs on the node too, or its rules are still there; the message names
	// what was found. Both translate connections, and Fairlead leaves what is kube-proxy's alone.
	// Do: delete kube-proxy's DaemonSet and run `kube-proxy --cleanup` on the node, or reboot it; or set `datapath.mode` to
	// `external`.
	RivalProxy Reason = "RivalProxy"
)

// # A pool or an advertisement
const (
	// InvalidSpec: a field is wrong; it alone is ignored.
	// Do: correct what the message names.
	// Where: condition `Ready` False.
	InvalidSpec Reason = "InvalidSpec"

	// PoolOverlap: another pool holds some of the addresses too; none is given out twice.
	// Do: keep each address in one pool.
	// Where: conditions `Ready` (True) and `Overlapping`.
	PoolOverlap Reason = "PoolOverlap"

	// WrongNamespace: it lives where nobody reads it.
	// Do: create it in Fairlead's namespace.
	// Where: condition `Ready` False.
	WrongNamespace Reason = "WrongNamespace"

	// UnknownBFDProfile: its `bfdProfile` does not exist; the session runs, but the peer is not watched.
	// Do: create the profile, or correct the name.
	// Where: BGPPeer, condition `Ready` False.
	UnknownBFDProfile Reason = "UnknownBFDProfile"

	// UnknownCommunity: a name in `communities` is defined nowhere; the paths go without it.
	// Do: define it in a Community, or correct the name.
	// Where: BGPAdvertisement, condition `Ready` False.
	UnknownCommunity Reason = "UnknownCommunity"

	// AddressReserved: it holds addresses of nodes, pods or ClusterIPs.
	// Do: leave them out: whoever got one would take it from its owner.
	// Where: the webhook's answer to a pool.
	AddressReserved Reason = "AddressReserved"

	// PoolInUse: Services own addresses of the pool.
	// Do: let them go first, or annotate the pool `fairlead.dev/force-delete=true`: they keep their addresses.
	// Where: the webhook's answer to a deletion.
	PoolInUse Reason = "PoolInUse"

	// AdvertisementConflict: another one wants another `localPref`, `med`, `asPathPrepend` or `weightByEndpoints` for the same
	// prefixes to the same peer; if it slips through, the first by name counts.
	// Do: give both the same value, or set them apart.
	// Where: the webhook's answer to a BGPAdvertisement.
	AdvertisementConflict Reason = "AdvertisementConflict"

	// InUse: a BGPPeer or a BGPAdvertisement names it.
	// Do: take it out there first.
	// Where: the webhook's answer to the end of a BFDProfile or of a name in a Community.
	InUse Reason = "InUse"

	// PoolNearlyFull: nine in ten addresses of a family are in use, or all will be within a week.
	// Do: add a range before `Exhausted` comes.
	// Where: pool, condition `NearlyFull`.
	PoolNearlyFull Reason = "PoolNearlyFull"
)

// # A node has no session with a BGP peer
const (
	// PasswordUnavailable: the Secret of `passwordSecret` does not exist, is not of type `kubernetes.io/basic-auth`, or has no
	// usable `password`.
	// Do: as the message says; it is read again when it changes.
	PasswordUnavailable Reason = "PasswordUnavailable"

	// PeerConflict: another BGPPeer has the same address in the same VRF on this node; the first by name has the session.
	// Do: delete one, or set their `nodeSelectors` apart.
	PeerConflict Reason = "PeerConflict"
)

// # A node does not announce an address
//
// By layer 2 one node announces an address, so on every other these are as they should be: look at the node that you expect. By
// BGP every node does that can serve it. An address that is advertised both ways has a row for each in `/debug/decisions`
// (`via`).
const (
	// NotAdvertised: neither an L2Advertisement nor a BGPAdvertisement covers the address.
	// Do: add one for its pool.
	NotAdvertised Reason = "NotAdvertised"

	// NoEndpoints: no pod could take a connection.
	// Do: look at the pods of the Service.
	NoEndpoints Reason = "NoEndpoints"

	// NoLocalEndpoint: externalTrafficPolicy Local, and no ready pod on this node.
	// Do: run a pod here, or use Cluster.
	NoLocalEndpoint Reason = "NoLocalEndpoint"

	// NodeExcluded: the node has the label `node.kubernetes.io/exclude-from-external-load-balancers`.
	// Do: remove the label.
	NodeExcluded Reason = "NodeExcluded"

	// NodeUnavailable: NetworkUnavailable, being deleted, or unknown to the API server.
	// Do: look at the Node.
	NodeUnavailable Reason = "NodeUnavailable"

	// NodeNotSelected: the nodeSelectors of the advertisements leave it out.
	// Do: see the advertisements.
	NodeNotSelected Reason = "NodeNotSelected"

	// NodeCordoned: the node is cordoned, and `speaker.onCordon` is `leave`.
	// Do: `kubectl uncordon` it.
	NodeCordoned Reason = "NodeCordoned"

	// NodeDown: its watchers no longer hear its heartbeats; the message names them.
	// Do: look at the node; if it lives, see that UDP of the heartbeat port passes between the nodes.
	NodeDown Reason = "NodeDown"

	// NodeDraining: its speaker is shutting down.
	// Do: wait; another node takes over.
	NodeDraining Reason = "NodeDraining"

	// NoInterface: no interface is up, allowed, and in the address's subnet.
	// Do: look at the links, and `interfaces` of the advertisements.
	NoInterface Reason = "NoInterface"

	// DatapathNotReady: the node's engine does not work.
	// Do: look at the speaker's log.
	DatapathNotReady Reason = "DatapathNotReady"

	// NotProgrammed: the engine works but has not programmed this address yet.
	// Do: wait a second; then the speaker's log.
	NotProgrammed Reason = "NotProgrammed"

	// ForwarderNotReady: `datapath.mode` is `none`, externalTrafficPolicy is Local, and the node's kube-proxy or Cilium does
	// not answer 200 at the Service's healthCheckNodePort; the message says what it did instead.
	// Do: see [healthchecks.md](healthchecks.md#mode-none); look at kube-proxy or Cilium on the node.
	ForwarderNotReady Reason = "ForwarderNotReady"

	// NotOwner: another node was elected.
	// Do: nothing.
	NotOwner Reason = "NotOwner"

	// NotAMember: the speaker has not joined the others.
	// Do: see that UDP and TCP of the gossip port pass between the nodes.
	NotAMember Reason = "NotAMember"

	// Fenced: the speaker's process was asleep, and no other speaker has told it yet what has happened meanwhile.
	// Do: wait a second; if it comes back, the node starves or its machine is paused: see `fairlead_speaker_fenced_total`.
	Fenced Reason = "Fenced"

	// Settling: the speakers are starting, and the address was never announced: it waits until it is known who is there.
	// Do: wait two seconds.
	Settling Reason = "Settling"

	// Probing: the segment is being asked whether somebody has the address already.
	// Do: wait a second.
	Probing Reason = "Probing"

	// AddressConflict: a station that is no speaker answers for the address; the message has its hardware address.
	// Do: find that station, or take the address out of the pool; it is tried again every half minute.
	AddressConflict Reason = "AddressConflict"

	// NoPeer: BGP: no BGPPeer that shall hear of it is for this node, or none carries its family.
	// Do: add one; see `nodeSelectors` and `dualStackAddressFamily` of the peers, and `peers` of the advertisement.
	NoPeer Reason = "NoPeer"

	// NoSession: BGP: none of the peers that shall hear of it has a session with this node; the message says why.
	// Do: see `kubectl get speakerstatuses -n fairlead-system`.
	NoSession Reason = "NoSession"

	// AnnouncementRefused: a socket could not be opened.
	// Do: look at the speaker's log.
	AnnouncementRefused Reason = "AnnouncementRefused"
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
