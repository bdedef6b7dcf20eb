package lb

// # A BGP session is not established
//
// The message beside the reason says what to do with which address; the last error is the exact one, with the NOTIFICATION's
// words and numbers where there was one.
const (
	// BGPConnecting: it has not been up yet, and nothing has failed.
	// Do: wait a second.
	BGPConnecting Reason = "BGPConnecting"

	// BGPUnreachable: no route leads to the peer, or nobody on the link has its address.
	// Do: correct `peerAddress`; a peer behind a router needs `ebgpMultiHop`.
	BGPUnreachable Reason = "BGPUnreachable"

	// BGPRefused: a host with its address refuses the TCP connection.
	// Do: start BGP there, or correct `peerAddress` or `peerPort`.
	BGPRefused Reason = "BGPRefused"

	// BGPNoAnswer: TCP connections are not answered.
	// Do: does the router want a password from this node? Does a firewall drop TCP?
	BGPNoAnswer Reason = "BGPNoAnswer"

	// BGPWrongPassword: as BGPNoAnswer, with a password: a wrong one looks like that.
	// Do: set the same on both ends.
	BGPWrongPassword Reason = "BGPWrongPassword"

	// BGPTooFar: as BGPNoAnswer, with `ttlSecurity`: a peer that is further away, or sends another TTL, looks like that.
	// Do: give the router ttl security too, or raise `ttlSecurity`.
	BGPTooFar Reason = "BGPTooFar"

	// BGPUnnumbered: only `interface` is given, and no router has advertised itself there.
	// Do: have it send router advertisements on that link, or set `peerAddress`; is the interface's name right on this node?
	BGPUnnumbered Reason = "BGPUnnumbered"

	// BGPNoSource: this node has no such `sourceAddress` or `vrf`.
	// Do: correct it, or narrow `nodeSelectors`.
	BGPNoSource Reason = "BGPNoSource"

	// BGPNotConfigured: the router closes connections unasked: it knows no neighbour of our address.
	// Do: configure the address that the message names there, or set `sourceAddress`.
	BGPNotConfigured Reason = "BGPNotConfigured"

	// BGPWrongASN: one end expects the other to have another AS number.
	// Do: correct `myASN`, `peerASN` or the router; the last error says which end.
	BGPWrongASN Reason = "BGPWrongASN"

	// BGPRejected: one end does not accept the other's OPEN for another cause.
	// Do: as the message says: router ID, hold time.
	BGPRejected Reason = "BGPRejected"

	// BGPNoFamily: the ends have no address family in common.
	// Do: activate the neighbour for one on the router.
	BGPNoFamily Reason = "BGPNoFamily"

	// BGPHoldExpired: one end has not heard the other for the hold time.
	// Do: look at the link, and at the load of both.
	BGPHoldExpired Reason = "BGPHoldExpired"

	// BGPMaxPrefixes: the peer has sent more prefixes than `maxPrefixes`.
	// Do: have it send none, since none is installed, or raise it; the next attempt is a minute later.
	BGPMaxPrefixes Reason = "BGPMaxPrefixes"

	// BGPBFDDown: BFD does not hear the peer.
	// Do: look at the link; the session opens when BFD hears it.
	BGPBFDDown Reason = "BGPBFDDown"

	// BGPPeerClosed: the router has closed the session.
	// Do: the last error has its NOTIFICATION.
	BGPPeerClosed Reason = "BGPPeerClosed"

	// BGPLost: the connection has broken without a word.
	// Do: has the router restarted?
	BGPLost Reason = "BGPLost"

	// BGPProtocolError: the peer has sent what BGP does not allow.
	// Do: look at the router's log.
	BGPProtocolError Reason = "BGPProtocolError"

	// BGPChanged: the peer's settings have changed, and a new session is being opened.
	// Do: wait a second.
	BGPChanged Reason = "BGPChanged"

	// BGPCrashed: an error of ours ended it; it is opened again.
	// Do: report it with the log of `speaker bgp`.
	BGPCrashed Reason = "BGPCrashed"

	// BGPProcessDown: the process of the sessions does not answer; it is started again at once.
	// Do: look at the log of the container `bgp`.
	BGPProcessDown Reason = "BGPProcessDown"

	// BGPNoNextHop: the session is up, but paths of one family are not told: the interface has no address of that family.
	// Do: give it one, or peer over that family.
	BGPNoNextHop Reason = "BGPNoNextHop"
)
