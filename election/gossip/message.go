package gossip

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/fairlead-lb/fairlead/lb"
)

// What goes over the wire is a message in the encoding of Protocol Buffers, so that members of different versions understand
// each other and a capture can be read (protoc --decode_raw). The numbers below are never used again for anything else;
// addresses that come in numbers are packed into one field.
//
//	message Message { repeated Record record = 1; }
//	message Record {
//	  string node = 1; uint64 incarnation = 2; uint64 version = 3; uint64 base = 4;
//	  bool draining = 5; bool ready = 6; bool goodbye = 7;
//	  repeated string suspect = 8;
//	  bytes claims4 = 9; bytes claims6 = 10;    // per claim 4 or 16 bytes of address and the epoch as a varint
//	  bytes dropped4 = 11; bytes dropped6 = 12; // 4 or 16 bytes each
//	  bytes failing4 = 13; bytes failing6 = 14;
//	  repeated Link link = 15;
//	  repeated bytes handover = 17; // a claim that names its successor: 4 or 16, address, epoch as a varint, the name
//	  bytes keys = 16; // 4 bytes each
//	  repeated string alive = 18; bool news = 19;
//	}
//	message Link { string name = 1; uint64 index = 2; bytes mac = 3; bool up = 4; repeated bytes prefix = 5; } // address, bits
const (
	fieldRecord protowire.Number = 1

	fieldNode        protowire.Number = 1
	fieldIncarnation protowire.Number = 2
	fieldVersion     protowire.Number = 3
	fieldBase        protowire.Number = 4
	fieldDraining    protowire.Number = 5
	fieldReady       protowire.Number = 6
	fieldGoodbye     protowire.Number = 7
	fieldSuspect     protowire.Number = 8
	fieldClaims4     protowire.Number = 9
	fieldClaims6     protowire.Number = 10
	fieldDropped4    protowire.Number = 11
	fieldDropped6    protowire.Number = 12
	fieldFailing4    protowire.Number = 13
	fieldFailing6    protowire.Number = 14
	fieldLink        protowire.Number = 15
	fieldHandover    protowire.Number = 17
	fieldKeys        protowire.Number = 16
	fieldAlive       protowire.Number = 18
	fieldNews        protowire.Number = 19

	fieldName   protowire.Number = 1
	fieldIndex  protowire.Number = 2
	fieldMAC    protowire.Number = 3
	fieldUp     protowire.Number = 4
	fieldPrefix protowire.Number = 5
)

const (
	maxMessage = 4 << 20 // bytes: 100 members with 2,000 claims each fit in
	maxName    = 253     // a DNS name, as node names are
	maxKeys    = 16      // a rotation holds two at a time
)

func encode(records ...record) []byte {
	var out []byte
	for _, r := range records {
		out = appendBytes(out, fieldRecord, r.encode())
	}
	return out
}

func (r record) encode() []byte {
	b := make([]byte, 0, 256+7*len(r.Claims))
	b = appendBytes(b, fieldNode, []byte(r.Node))
	b = appendNumber(b, fieldIncarnation, r.incarnation)
	b = appendNumber(b, fieldVersion, r.version)
	b = appendNumber(b, fieldBase, r.base)
	b = appendNumber(b, fieldDraining, protowire.EncodeBool(r.Draining))
	b = appendNumber(b, fieldReady, protowire.EncodeBool(r.Ready))
	b = appendNumber(b, fieldNews, protowire.EncodeBool(r.News))
	b = appendNumber(b, fieldGoodbye, protowire.EncodeBool(r.goodbye))
	for _, s := range r.Suspects {
		b = appendBytes(b, fieldSuspect, []byte(s))
	}
	for _, a := range r.Alive {
		b = appendBytes(b, fieldAlive, []byte(a))
	}
	var four, six []byte
	for _, c := range r.Claims {
		switch {
		case c.To != "":
			h := protowire.AppendVarint(appendAddr([]byte{byte(c.Addr.BitLen() / 8)}, c.Addr), c.Epoch)
			b = appendBytes(b, fieldHandover, append(h, c.To...))
		case c.Addr.Is4():
			four = protowire.AppendVarint(appendAddr(four, c.Addr), c.Epoch)
		default:
			six = protowire.AppendVarint(appendAddr(six, c.Addr), c.Epoch)
		}
	}
	b = appendPacked(b, fieldClaims4, four, fieldClaims6, six)
	four, six = packAddrs(r.dropped)
	b = appendPacked(b, fieldDropped4, four, fieldDropped6, six)
	four, six = packAddrs(r.Failing)
	b = appendPacked(b, fieldFailing4, four, fieldFailing6, six)
	for _, l := range r.Links {
		b = appendBytes(b, fieldLink, encodeLink(l))
	}
	if len(r.keys) > 0 {
		var ids []byte
		for _, id := range r.keys {
			ids = binary.BigEndian.AppendUint32(ids, id)
		}
		b = appendBytes(b, fieldKeys, ids)
	}
	return append(b, r.unknown...)
}

func encodeLink(l lb.Link) []byte {
	b := appendBytes(nil, fieldName, []byte(l.Name))
	b = appendNumber(b, fieldIndex, uint64(l.Index))
	b = appendBytes(b, fieldMAC, l.MAC[:])
	b = appendNumber(b, fieldUp, protowire.EncodeBool(l.Up))
	for _, p := range l.Prefixes {
		b = appendBytes(b, fieldPrefix, append(appendAddr(nil, p.Addr()), byte(p.Bits())))
	}
	return b
}

func appendBytes(b []byte, n protowire.Number, v []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), v)
}

// appendNumber leaves zero out, as Protocol Buffers do.
func appendNumber(b []byte, n protowire.Number, v uint64) []byte {
	if v == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func appendPacked(b []byte, n4 protowire.Number, four []byte, n6 protowire.Number, six []byte) []byte {
	if len(four) > 0 {
		b = appendBytes(b, n4, four)
	}
	if len(six) > 0 {
		b = appendBytes(b, n6, six)
	}
	return b
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(b, v[:]...)
	}
	v := a.As16()
	return append(b, v[:]...)
}

func packAddrs(addrs []netip.Addr) (four, six []byte) {
	for _, a := range addrs {
		if a.Is4() {
			four = appendAddr(four, a)
		} else {
			six = appendAddr(six, a)
		}
	}
	return four, six
}

// fields calls use for each field of b: v holds the content of one of bytes, number that of a number, raw the whole of it.
func fields(b []byte, use func(n protowire.Number, v []byte, number uint64, raw []byte) error) error {
	for len(b) > 0 {
		n, typ, tag := protowire.ConsumeTag(b)
		if tag < 0 {
			return protowire.ParseError(tag)
		}
		size := protowire.ConsumeFieldValue(n, typ, b[tag:])
		if size < 0 {
			return protowire.ParseError(size)
		}
		var v []byte
		var number uint64
		switch typ {
		case protowire.BytesType:
			v, _ = protowire.ConsumeBytes(b[tag:])
		case protowire.VarintType:
			number, _ = protowire.ConsumeVarint(b[tag:])
		}
		if err := use(n, v, number, b[:tag+size]); err != nil {
			return err
		}
		b = b[tag+size:]
	}
	return nil
}

func decode(b []byte) ([]record, error) {
	if len(b) > maxMessage {
		return nil, fmt.Errorf("message of %d bytes is too long", len(b))
	}
	var out []record
	err := fields(b, func(n protowire.Number, v []byte, _ uint64, _ []byte) error {
		if n != fieldRecord {
			return nil // of a later version
		}
		r, err := decodeRecord(v)
		if err != nil {
			return fmt.Errorf("record of %.64q: %w", r.Node, err)
		}
		out = append(out, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("decoding records: %w", err)
	}
	return out, nil
}

// decodeRecord brings b into the form that package lb promises: valid, masked, sorted.
func decodeRecord(b []byte) (record, error) {
	var r record
	err := fields(b, r.set)
	switch {
	case err != nil:
		return r, err
	case !validName(string(r.Node)):
		return r, fmt.Errorf("the node's name is not 1 to %d bytes long", maxName)
	case r.base != 0 && r.base >= r.version:
		return r, fmt.Errorf("a difference that leads from version %d to %d", r.base, r.version)
	}
	slices.Sort(r.Suspects)
	slices.Sort(r.Alive)
	slices.SortFunc(r.Links, func(a, b lb.Link) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(r.Claims, func(a, b lb.Claim) int { return a.Addr.Compare(b.Addr) })
	slices.SortFunc(r.Failing, netip.Addr.Compare)
	slices.SortFunc(r.dropped, netip.Addr.Compare)
	slices.Sort(r.keys)
	return r, nil
}

func validName(s string) bool { return s != "" && len(s) <= maxName }

// set takes one field into r.
func (r *record) set(n protowire.Number, v []byte, number uint64, raw []byte) (err error) {
	switch n {
	case fieldNode:
		r.Node = lb.NodeName(v)
	case fieldIncarnation:
		r.incarnation = number
	case fieldVersion:
		r.version = number
	case fieldBase:
		r.base = number
	case fieldDraining:
		r.Draining = protowire.DecodeBool(number)
	case fieldReady:
		r.Ready = protowire.DecodeBool(number)
	case fieldNews:
		r.News = protowire.DecodeBool(number)
	case fieldGoodbye:
		r.goodbye = protowire.DecodeBool(number)
	case fieldSuspect:
		if !validName(string(v)) {
			return fmt.Errorf("a suspect's name is not 1 to %d bytes long", maxName)
		}
		r.Suspects = append(r.Suspects, lb.NodeName(v))
	case fieldAlive:
		if !validName(string(v)) {
			return fmt.Errorf("the name of a node that is alive is not 1 to %d bytes long", maxName)
		}
		r.Alive = append(r.Alive, lb.NodeName(v))
	case fieldClaims4:
		r.Claims, err = unpackClaims(r.Claims, v, 4)
	case fieldClaims6:
		r.Claims, err = unpackClaims(r.Claims, v, 16)
	case fieldDropped4:
		r.dropped, err = unpackAddrs(r.dropped, v, 4)
	case fieldDropped6:
		r.dropped, err = unpackAddrs(r.dropped, v, 16)
	case fieldFailing4:
		r.Failing, err = unpackAddrs(r.Failing, v, 4)
	case fieldFailing6:
		r.Failing, err = unpackAddrs(r.Failing, v, 16)
	case fieldLink:
		var l lb.Link
		l, err = decodeLink(v)
		r.Links = append(r.Links, l)
	case fieldHandover:
		var c lb.Claim
		c, err = unpackHandover(v)
		r.Claims = append(r.Claims, c)
	case fieldKeys:
		if len(v)%4 != 0 || len(v) > 4*maxKeys {
			return fmt.Errorf("%d bytes of key IDs", len(v))
		}
		for ; len(v) > 0; v = v[4:] {
			r.keys = append(r.keys, binary.BigEndian.Uint32(v))
		}
	default:
		r.unknown = append(r.unknown, raw...)
	}
	return err
}

func unpackClaims(out []lb.Claim, b []byte, size int) ([]lb.Claim, error) {
	out = slices.Grow(out, len(b)/(size+1))
	for len(b) > 0 {
		if len(b) < size {
			return nil, errors.New("a claim's address is cut off")
		}
		addr, _ := netip.AddrFromSlice(b[:size])
		epoch, n := protowire.ConsumeVarint(b[size:])
		if n < 0 {
			return nil, fmt.Errorf("epoch of the claim to %s: %w", addr, protowire.ParseError(n))
		}
		out = append(out, lb.Claim{Addr: addr, Epoch: epoch})
		b = b[size+n:]
	}
	return out, nil
}

func unpackHandover(b []byte) (lb.Claim, error) {
	if len(b) == 0 || b[0] != 4 && b[0] != 16 || len(b) < 1+int(b[0]) {
		return lb.Claim{}, errors.New("a handover without address")
	}
	addr, _ := netip.AddrFromSlice(b[1 : 1+b[0]])
	epoch, n := protowire.ConsumeVarint(b[1+b[0]:])
	if n < 0 {
		return lb.Claim{}, fmt.Errorf("epoch of the handover of %s: %w", addr, protowire.ParseError(n))
	}
	to := string(b[1+int(b[0])+n:])
	if !validName(to) {
		return lb.Claim{}, fmt.Errorf("the handover of %s names nobody, or has a name of more than %d bytes", addr, maxName)
	}
	return lb.Claim{Addr: addr, Epoch: epoch, To: lb.NodeName(to)}, nil
}

func unpackAddrs(out []netip.Addr, b []byte, size int) ([]netip.Addr, error) {
	if len(b)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no addresses of %d bytes each", len(b), size)
	}
	for ; len(b) > 0; b = b[size:] {
		addr, _ := netip.AddrFromSlice(b[:size])
		out = append(out, addr)
	}
	return out, nil
}

func decodeLink(b []byte) (lb.Link, error) {
	var l lb.Link
	var mac []byte
	err := fields(b, func(n protowire.Number, v []byte, number uint64, _ []byte) error {
		switch n {
		case fieldName:
			l.Name = string(v)
		case fieldIndex:
			l.Index = int(int32(number))
		case fieldMAC:
			mac = v
		case fieldUp:
			l.Up = protowire.DecodeBool(number)
		case fieldPrefix:
			if len(v) != 5 && len(v) != 17 {
				return fmt.Errorf("link %.32q has a prefix of %d bytes", l.Name, len(v))
			}
			addr, _ := netip.AddrFromSlice(v[:len(v)-1])
			p, err := addr.Prefix(int(v[len(v)-1]))
			if err != nil {
				return fmt.Errorf("link %.32q: %w", l.Name, err)
			}
			l.Prefixes = append(l.Prefixes, p)
		}
		return nil
	})
	if err == nil && len(mac) != len(l.MAC) {
		err = fmt.Errorf("link %.32q has no Ethernet address", l.Name)
	}
	copy(l.MAC[:], mac)
	return l, err
}
