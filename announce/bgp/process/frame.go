package process

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/fairlead-lb/fairlead/announce/bgp"
)

// Version is that of the messages. Both ends are of one image, so it differs only while a pod is being replaced.
const Version = 1

// Bounds of what is read.
const (
	maxState  = 64 << 20 // bytes; 10,000 paths are 1 MB, for each peer
	maxReport = 4 << 20
)

const (
	beatEvery = time.Second      // the speaker says that it lives
	silence   = 10 * time.Second // after which a speaker that has not said anything counts as hanging
	ioTime    = 10 * time.Second // for one message to be written or read
)

// message is what goes over the socket, in both directions: four bytes of length, then JSON.
type message struct {
	Version int `json:",omitempty"` // in the first message of each end

	State  *delta      `json:",omitempty"` // from the speaker; nil in a message that only says that it lives
	Report *bgp.Report `json:",omitempty"` // to the speaker
}

// delta leads from the last State of a connection to the next; the first is as from the zero State.
type delta struct {
	State bgp.State         // without the peers' paths
	Paths map[string]change // of peers whose paths have changed
}

type change struct {
	Gone  []netip.Prefix `json:",omitempty"`
	Fresh []bgp.Path     `json:",omitempty"`
}

// diff returns what leads from one State to another.
func diff(have, want bgp.State) delta {
	told := map[string][]bgp.Path{}
	for _, p := range have.Peers {
		told[p.Name] = p.Paths
	}
	d := delta{State: want, Paths: map[string]change{}}
	d.State.Peers = make([]bgp.Peer, len(want.Peers))
	for i, p := range want.Peers {
		if gone, fresh := bgp.Diff(told[p.Name], p.Paths); len(gone)+len(fresh) > 0 {
			d.Paths[p.Name] = change{gone, fresh}
		}
		p.Paths = nil
		d.State.Peers[i] = p
	}
	return d
}

// apply returns the State that a delta leads to. The result shares nothing that is changed later.
func (d delta) apply(have bgp.State) bgp.State {
	told := map[string][]bgp.Path{}
	for _, p := range have.Peers {
		told[p.Name] = p.Paths
	}
	out := d.State
	for i := range out.Peers {
		p := &out.Peers[i]
		p.Paths = told[p.Name]
		if c, ok := d.Paths[p.Name]; ok {
			p.Paths = bgp.Apply(p.Paths, c.Gone, c.Fresh)
		}
	}
	return out
}

// write sends a message.
func write(w io.Writer, m message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("writing a message: %w", err)
	}
	frame := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body))), body...)
	_, err = w.Write(frame)
	return err
}

// read receives a message of at most limit bytes.
func read(r io.Reader, limit uint32) (m message, err error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return m, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > limit {
		return m, fmt.Errorf("reading a message: it has %d bytes, at most %d are taken", size, limit)
	}
	body, err := io.ReadAll(io.LimitReader(r, int64(size))) // which grows with what comes, not with what is promised
	if err != nil {
		return m, err
	}
	if len(body) < int(size) {
		return m, io.ErrUnexpectedEOF
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("reading a message: %w", err)
	}
	return m, nil
}

// greet checks the version in a first message.
func greet(m message) error {
	if m.Version != Version {
		return fmt.Errorf("the other end speaks version %d and this one %d: both containers must be of one image", m.Version, Version)
	}
	return nil
}
