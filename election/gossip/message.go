package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/lb"
)

// record is what a node says about itself. Of two records of one node that with the higher stamp holds.
type record struct {
	lb.Member
	stamp
}

// stamp orders the records of one node: a restarted process has a higher incarnation, a changed record a higher version.
type stamp struct {
	incarnation, version uint64
}

func (s stamp) newer(o stamp) bool {
	if s.incarnation != o.incarnation {
		return s.incarnation > o.incarnation
	}
	return s.version > o.version
}

// What goes over the wire is JSON: it is rare (a change, or one exchange per member and 15 s), readable in a capture with
// the key, and members of different versions understand each other, because unknown fields are ignored.
type message struct {
	Records []wireRecord `json:"records"`
}

type wireRecord struct {
	Node        string       `json:"node"`
	Incarnation uint64       `json:"incarnation"`
	Version     uint64       `json:"version"`
	Draining    bool         `json:"draining,omitempty"`
	Ready       bool         `json:"ready,omitempty"`
	Links       []wireLink   `json:"links,omitempty"`
	Claims      []wireClaim  `json:"claims,omitempty"`
	Failing     []netip.Addr `json:"failing,omitempty"`
	Suspects    []string     `json:"suspects,omitempty"`
}

type wireLink struct {
	Name     string         `json:"name"`
	Index    int            `json:"index"`
	MAC      string         `json:"mac"`
	Up       bool           `json:"up,omitempty"`
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
}

type wireClaim struct {
	Addr  netip.Addr `json:"addr"`
	Epoch uint64     `json:"epoch"`
}

const (
	maxMessage = 16 << 20 // bytes; memberlist itself stops at 20 MB
	maxName    = 253      // a DNS name, as node names are
)

func encode(records ...record) []byte {
	var m message
	for _, r := range records {
		w := wireRecord{Node: string(r.Node), Incarnation: r.incarnation, Version: r.version, Draining: r.Draining, Ready: r.Ready, Failing: r.Failing}
		for _, l := range r.Links {
			w.Links = append(w.Links, wireLink{Name: l.Name, Index: l.Index, MAC: net.HardwareAddr(l.MAC[:]).String(), Up: l.Up, Prefixes: l.Prefixes})
		}
		for _, c := range r.Claims {
			w.Claims = append(w.Claims, wireClaim(c))
		}
		for _, s := range r.Suspects {
			w.Suspects = append(w.Suspects, string(s))
		}
		m.Records = append(m.Records, w)
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic("gossip: encoding records: " + err.Error()) // these types always have a JSON form
	}
	return b
}

func decode(b []byte) ([]record, error) {
	if len(b) > maxMessage {
		return nil, fmt.Errorf("message of %d bytes is too long", len(b))
	}
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("decoding records: %w", err)
	}
	out := make([]record, 0, len(m.Records))
	for _, w := range m.Records {
		r, err := w.record()
		if err != nil {
			return nil, fmt.Errorf("record of %.64q: %w", w.Node, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// record checks w and brings it into the form that package lb promises: valid, masked, sorted.
func (w wireRecord) record() (record, error) {
	if w.Node == "" || len(w.Node) > maxName {
		return record{}, fmt.Errorf("the node's name is not 1 to %d bytes long", maxName)
	}
	r := record{stamp: stamp{w.Incarnation, w.Version}}
	r.Member = lb.Member{Node: lb.NodeName(w.Node), Draining: w.Draining, Ready: w.Ready, Failing: w.Failing}
	for _, l := range w.Links {
		link, err := l.link()
		if err != nil {
			return record{}, err
		}
		r.Links = append(r.Links, link)
	}
	for _, c := range w.Claims {
		if !c.Addr.IsValid() {
			return record{}, errors.New("a claim without address")
		}
		r.Claims = append(r.Claims, lb.Claim(c))
	}
	if slices.ContainsFunc(r.Failing, func(a netip.Addr) bool { return !a.IsValid() }) {
		return record{}, errors.New("an invalid failing address")
	}
	for _, s := range w.Suspects {
		if s == "" || len(s) > maxName {
			return record{}, fmt.Errorf("a suspect's name is not 1 to %d bytes long", maxName)
		}
		r.Suspects = append(r.Suspects, lb.NodeName(s))
	}
	slices.Sort(r.Suspects)
	slices.SortFunc(r.Links, func(a, b lb.Link) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Claims, func(a, b lb.Claim) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(r.Failing, netip.Addr.Compare)
	return r, nil
}

func (w wireLink) link() (lb.Link, error) {
	mac, err := net.ParseMAC(w.MAC)
	if err != nil || len(mac) != len(lb.MAC{}) {
		return lb.Link{}, fmt.Errorf("link %.32q has no Ethernet address", w.Name)
	}
	l := lb.Link{Name: w.Name, Index: w.Index, MAC: lb.MAC(mac), Up: w.Up}
	for _, p := range w.Prefixes {
		if !p.IsValid() {
			return lb.Link{}, fmt.Errorf("link %.32q has an invalid prefix", w.Name)
		}
		l.Prefixes = append(l.Prefixes, p.Masked())
	}
	return l, nil
}
