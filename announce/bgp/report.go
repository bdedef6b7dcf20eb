package bgp

import (
	"time"

	"github.com/fairlead-lb/fairlead/lb"
)

// SessionState is a state of the BGP state machine (RFC 4271 section 8.2.2).
type SessionState string

// The states, in the order in which a session passes them.
const (
	Idle        SessionState = "Idle"
	Connect     SessionState = "Connect"
	Active      SessionState = "Active"
	OpenSent    SessionState = "OpenSent"
	OpenConfirm SessionState = "OpenConfirm"
	Established SessionState = "Established"
)

// Session is how the session with one peer is.
type Session struct {
	Peer    string // its name
	State   SessionState
	Since   time.Time // of the state; for those before Established, of the last time it was not Established
	PeerASN uint32    // as the peer said; 0 = it has not yet
	PeerID  string    // its router ID; "" = it has not said yet

	// Reason and Message say why it is not Established, and what to do; "" while it is.
	Reason  lb.Reason
	Message string

	// LastError is why it ended the last time, in words, with the NOTIFICATION's code where there was one; it stays until the
	// next time.
	LastError   string
	LastErrorAt time.Time

	Flaps      uint64 // how often it has ceased to be Established
	PrefixesIn int    // that the peer has sent and that went nowhere
	Sent       int    // paths that the peer has been told and that hold
	Pending    int    // paths that it has not been told yet

	BFD string // state of the BFD session with the peer: AdminDown, Down, Init or Up; "" = it has none

	MessagesIn, MessagesOut uint64
	UpdatesIn, UpdatesOut   uint64
}

// Report is what the process that runs the sessions has reached. Sessions are sorted by peer.
type Report struct {
	Sessions []Session

	// Seq is that of the last State whose withdrawals have all been written to the peers' connections, or have none to be written
	// to. What is in a path of an earlier State only may leave the datapath then. 0 = no process has reported.
	Seq uint64
}
